use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use clap::{Args, Subcommand};

use super::Failure;
use crate::print::{errln, outln};
use crate::table;
use logship_config::policy::Policy;
use logship_server::keys::{self, Access, Grant, GroupGrant, Key, KeyFile, KeysError, Quota};
use logship_server::operation::actions;

/// Creates, lists and revokes access keys. A running service applies changes within a second.
#[derive(Debug, Args)]
pub(super) struct KeyCommand {
    #[command(subcommand)]
    command: Command,
    /// Uses the keys in this data directory of a service.
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA", default_value = "logship-data", global = true)]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a key and prints its id and secret.
    Create {
        /// Grants write, read, readwrite or admin access: in all projects, or in one as read=PROJECT. Repeatable.
        #[arg(
            long = "allow",
            value_name = "ACCESS[=PROJECT]",
            required_unless_present = "policy",
            conflicts_with_all = ["policy"],
            value_parser = grant
        )]
        grants: Vec<Grant>,
        /// Grants what this RAM policy allows (JSON), and nothing else. - is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "groups")]
        policy: Option<PathBuf>,
        /// Creates a temporary key with a security token, which expires after this many hours.
        #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=24 * 366))]
        hours: Option<u64>,
        /// Gives the key a consumer group as PROJECT/GROUP, besides the groups that it creates. GROUP may end with *.
        /// Repeatable.
        #[arg(long = "group", value_name = "PROJECT/GROUP")]
        groups: Vec<GroupGrant>,
        /// Sets a quota, such as write-bytes-per-day=10000000000. `logship key quota` lists the names. Repeatable.
        #[arg(long = "quota", value_name = "NAME=VALUE", value_parser = quota_value)]
        quota: Vec<(String, Option<u64>)>,
        /// Describes the key's purpose.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Lists the keys, without their secrets.
    List,
    /// Shows a key with its policy, without its secret.
    Show {
        /// The id of the key.
        id: String,
    },
    /// Gives a key consumer groups that it did not create, for example those of a key that it replaces.
    Give {
        /// The id of the key.
        id: String,
        /// The groups, as PROJECT/GROUP. GROUP may end with *.
        #[arg(required = true, value_name = "PROJECT/GROUP")]
        groups: Vec<GroupGrant>,
    },
    /// Sets or shows the quota of a key: write- or read-, bytes- or logs-, per-second or per-day.
    ///
    /// Bytes are those of logs before compression. A request over a quota gets WriteQuotaExceed or ReadQuotaExceed. A
    /// key without a quota has the one of the service's settings.
    Quota {
        /// The id of the key.
        id: String,
        /// The values, such as read-logs-per-second=1000 or write-bytes-per-day=unlimited.
        #[arg(value_name = "NAME=VALUE", value_parser = quota_value)]
        values: Vec<(String, Option<u64>)>,
    },
    /// Revokes keys.
    Revoke {
        /// The ids of the keys.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

fn grant(text: &str) -> Result<Grant, String> {
    let (access, project) = text.split_once('=').unwrap_or((text, "*"));
    let access: Access = access.parse()?;
    if project.is_empty() {
        Err("the project after = is empty".into())
    } else {
        Ok(Grant { project: project.into(), access })
    }
}

/// Parses a quota's name and value. None is unlimited.
fn quota_value(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    let value = match value {
        "unlimited" => None,
        number => {
            let number = number.replace('_', "").parse();
            Some(number.map_err(|_| format!("{value:?} is not a number: use a number or unlimited"))?)
        }
    };
    Quota::default().set(name, value)?;
    Ok((name.to_owned(), value))
}

/// Sets values of a quota.
fn set_quota(quota: &mut Option<Quota>, values: Vec<(String, Option<u64>)>) {
    for (name, value) in values {
        // The names were checked.
        _ = quota.get_or_insert_default().set(&name, value);
    }
}

fn show_quota(quota: &Quota) -> String {
    let values = toml::to_string(quota).unwrap_or_default().replace(" = ", "=");
    let values: Vec<_> = values.lines().collect();
    if values.is_empty() { "unlimited".into() } else { values.join(", ") }
}

fn find<'a>(keys: &'a mut [Key], id: &str) -> Result<&'a mut Key, KeysError> {
    keys.iter_mut().find(|key| key.id == id).ok_or_else(|| KeysError::Unknown(id.to_owned()))
}

fn show(grant: &Grant) -> String {
    format!("{} {}", grant.access, grant.project)
}

fn minute(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map_or_else(|| seconds.to_string(), |time| time.format("%Y-%m-%d %H:%M").to_string())
}

impl KeyCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = KeyFile::within(&self.data);
        if !self.data.is_dir() {
            let hint = "start `logship serve` first, or give its data directory with --data";
            return Err(format!("{} is not a directory: {hint}", self.data.display()).into());
        }
        match self.command {
            Command::Create { grants, policy, hours, groups, quota, note } => {
                let policy = policy.as_deref().map(read_policy).transpose()?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let mut key = match hours {
                    Some(hours) => keys::create_temporary(grants, &note, now, now + hours * 3600),
                    None => keys::create(grants, &note, now),
                };
                (key.groups, key.policy) = (groups, policy);
                set_quota(&mut key.quota, quota);
                create(&file, key)?;
            }
            Command::List => list(file.read()?),
            Command::Show { id } => show_key(find(&mut file.read()?, &id)?),
            Command::Give { id, groups } => {
                let all = file.change(|keys| {
                    let key = find(keys, &id)?;
                    if key.policy.is_some() {
                        return Err(KeysError::Policy(id.clone()));
                    }
                    key.groups.extend(groups);
                    Ok(key.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                })?;
                outln!("{id} has the groups that it creates, and {all}");
            }
            Command::Quota { id, values } => {
                let quota = file.change(|keys| {
                    let key = find(keys, &id)?;
                    set_quota(&mut key.quota, values);
                    Ok(key.quota.clone())
                })?;
                outln!("{id}: {}", quota.as_ref().map_or("the service's quota".into(), show_quota));
            }
            Command::Revoke { ids } => {
                file.change(|keys| {
                    for id in &ids {
                        let before = keys.len();
                        keys.retain(|key| key.id != *id);
                        if keys.len() == before {
                            return Err(KeysError::Unknown(id.clone()));
                        }
                    }
                    Ok(())
                })?;
                outln!("revoked {}", ids.join(", "));
            }
        }
        Ok(())
    }
}

/// The largest file of a policy, in bytes. White space does not count for the policy itself.
const MAX_POLICY_FILE: u64 = 1 << 20;

/// Reads a policy, and warns about actions that allow nothing here.
fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut text = String::new();
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(path).map_err(|error| failed(&error))?),
    };
    file.take(MAX_POLICY_FILE + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > MAX_POLICY_FILE {
        return Err(failed(&"is larger than 1 MiB, so it is no policy").into());
    }
    let policy = Policy::parse(&text).map_err(|error| failed(&error))?;
    actions::check(&policy).map_err(|error| failed(&error))?;
    for action in actions::without_operation(&policy) {
        errln!("note: {action} allows nothing here: this service has no such operation");
    }
    Ok(policy)
}

/// Prints a key, without its secrets.
fn show_key(key: &Key) {
    let access: Vec<_> = key.grants.iter().map(show).collect();
    let groups: Vec<_> = key.groups.iter().map(ToString::to_string).collect();
    let quota = key.quota.as_ref().map(show_quota).unwrap_or_default();
    let expires = key.expires.map_or("never".into(), minute);
    let values = [
        ("id", key.id.clone()),
        ("access", access.join(", ")),
        ("groups", groups.join(", ")),
        ("quota", quota),
        ("created (UTC)", minute(key.created)),
        ("expires", expires),
        ("note", key.note.clone()),
    ];
    for (name, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name}: {value}");
    }
    if let Some(policy) = &key.policy {
        outln!("policy:\n{:#}", policy.to_json());
    }
}

/// Stores a key, and prints its id and secrets.
fn create(file: &KeyFile, key: Key) -> Result<(), Failure> {
    file.change(|keys| {
        keys.push(key.clone());
        Ok(())
    })?;
    outln!("SLS_AK_ID={}\nSLS_AK_KEY={}", key.id, key.secret.expose());
    if let Some(token) = key.token {
        outln!("SLS_SECURITY_TOKEN={}", token.expose());
    }
    Ok(())
}

fn list(keys: Vec<Key>) {
    let row = |key: Key| {
        let access: Vec<_> = key.grants.iter().map(show).collect();
        let groups: Vec<_> = key.groups.iter().map(ToString::to_string).collect();
        vec![
            key.id,
            if key.policy.is_some() { "policy".into() } else { access.join(", ") },
            groups.join(", "),
            key.quota.as_ref().map(show_quota).unwrap_or_default(),
            minute(key.created),
            key.expires.map_or("never".into(), minute),
            key.note,
        ]
    };
    let columns = ["id", "access", "groups", "quota", "created (UTC)", "expires", "note"];
    outln!("{}", table::render(&columns, keys.into_iter().map(row).collect()));
}

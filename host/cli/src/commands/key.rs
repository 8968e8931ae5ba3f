use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use clap::{Args, Subcommand};

use super::Failure;
use crate::print::outln;
use crate::table;
use logship_server::keys::{self, Access, Grant, Key, KeyFile, KeysError};

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
        #[arg(long = "allow", value_name = "ACCESS[=PROJECT]", required = true, value_parser = grant)]
        grants: Vec<Grant>,
        /// Creates a temporary key with a security token, which expires after this many hours.
        #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=24 * 366))]
        hours: Option<u64>,
        /// Describes the key's purpose.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Lists the keys, without their secrets.
    List,
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
            Command::Create { grants, hours, note } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let key = match hours {
                    Some(hours) => keys::create_temporary(grants, &note, now, now + hours * 3600),
                    None => keys::create(grants, &note, now),
                };
                file.change(|keys| {
                    keys.push(key.clone());
                    Ok(())
                })?;
                outln!("SLS_AK_ID={}\nSLS_AK_KEY={}", key.id, key.secret.expose());
                if let Some(token) = key.token {
                    outln!("SLS_SECURITY_TOKEN={}", token.expose());
                }
            }
            Command::List => {
                let keys = file.read()?;
                let row = |key: Key| {
                    let access: Vec<_> = key.grants.iter().map(show).collect();
                    vec![
                        key.id,
                        access.join(", "),
                        minute(key.created),
                        key.expires.map_or("never".into(), minute),
                        key.note,
                    ]
                };
                let rows = keys.into_iter().map(row).collect();
                outln!("{}", table::render(&["id", "access", "created (UTC)", "expires", "note"], rows));
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

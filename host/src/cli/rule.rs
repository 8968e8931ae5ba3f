use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::Failure;
use super::connect::{self, Connect};
use super::receiver_options::FormatOptions;
use super::rule_options::RuleOptions;
use super::stage::Report;
use crate::client::{Client, ClientError};
use crate::rule::{Rule, RuleError, RuleFile, Start, Store};
use crate::service::keys::Access;
use crate::siem::rule::{SIEM, SiemRule};
use crate::{table, target};

/// Makes, applies, shows and deletes shipping rules.
#[derive(Debug, Args)]
pub(super) struct RuleCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a rule: from now on each shard of the logstore is shipped.
    Create {
        /// Its name. One that a deleted rule had can't be taken.
        name: String,
        #[command(flatten)]
        of: Of,
        /// The bucket, which must be there. Of the default destination it is a folder: DATA/buckets/BUCKET. Only a
        /// function without a store needs none.
        #[arg(long, default_value = "", help_heading = "Rule", hide_default_value = true)]
        bucket: String,
        /// The destination that has it: a name out of the service's settings.
        #[arg(long, default_value = "default", help_heading = "Rule")]
        destination: String,
        /// ARN of the role that writes to the bucket: acs:ram::ACCOUNT:role/NAME
        #[arg(long, default_value = "", help_heading = "Rule", hide_default_value = true)]
        role: String,
        /// Ship what comes from now on only, not what is there already.
        #[arg(long, help_heading = "Rule")]
        from_now: bool,
        #[command(flatten)]
        options: Box<RuleOptions>,
        #[command(flatten)]
        probe: Probe,
        #[command(flatten)]
        connect: Connect,
    },
    /// Makes a rule that sends a logstore to a SIEM.
    Send {
        /// Its name. One that a deleted rule had can't be taken.
        name: String,
        #[command(flatten)]
        of: Of,
        /// The receiver: a name out of the service's settings, [receivers.NAME].
        #[arg(long)]
        receiver: String,
        /// Send what comes from now on only, not what is there already.
        #[arg(long)]
        from_now: bool,
        #[command(flatten)]
        format: FormatOptions,
        #[command(flatten)]
        connect: Connect,
    },
    /// Makes the service's rules be as a file says. What differs is shown; what does not stays untouched.
    Apply {
        /// TOML: one rule, or several as [[rule]], and [[siem]] for those that send to SIEMs; each says which
        /// logstore it is of.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Delete the other rules of these logstores.
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        probe: Probe,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lists the rules of a logstore, or of all.
    List {
        /// The logstore.
        #[arg(long)]
        logstore: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a rule, and how far it is.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        of: Of,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lets a rule make tasks again. It goes on where it was.
    Enable {
        /// Its name.
        name: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        connect: Connect,
    },
    /// Keeps a rule from making tasks. Those that are there are done; of a rule to a SIEM, when it is enabled again.
    Disable {
        /// Its name.
        name: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a rule. Its name stays taken, its objects stay where they are, and tasks that are not done fail.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Debug, Args)]
struct Of {
    /// The logstore.
    #[arg(long)]
    logstore: String,
}

#[derive(Debug, Args)]
struct Probe {
    /// Don't try the destination: make the rule although it takes no objects now.
    #[arg(long)]
    no_probe: bool,
}

impl Probe {
    fn query(&self) -> &[(&'static str, &'static str)] {
        if self.no_probe { &[("probe", "none")] } else { &[("probe", "required")] }
    }
}

impl RuleCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::Create {
                    name,
                    of,
                    bucket,
                    destination,
                    role,
                    from_now,
                    options,
                    probe,
                    connect,
                } => {
                    let rule = Rule {
                        name,
                        bucket,
                        destination: Store::Named(destination),
                        role,
                        from: if from_now { Start::Now } else { Start::Begin },
                        ..Rule::default()
                    };
                    let rule = options.over(rule)?;
                    rule.check()?;
                    let rules = Rules { client: connect.client(Access::Admin)?, logstore: of.logstore };
                    let (logstore, name) = (rules.logstore.clone(), rule.name.clone());
                    let wanted = Wanted { logstore, name, sort: Sort::Objects(Box::new(rule)) };
                    rules.create(&wanted, probe.query()).await?;
                    println!("made {}: it ships {}/{}", wanted.name, connect.project, rules.logstore);
                    Ok(())
                }
                Command::Send { name, of, receiver, from_now, format, connect } => {
                    let rule = SiemRule {
                        name,
                        receiver,
                        stage: format.stage.clone(),
                        format: format.config()?,
                        transform: format.transforms()?,
                        from: if from_now { Start::Now } else { Start::Begin },
                        ..SiemRule::default()
                    };
                    rule.check()?;
                    let rules = Rules { client: connect.client(Access::Admin)?, logstore: of.logstore };
                    let (logstore, receiver) = (rules.logstore.clone(), rule.receiver.clone());
                    let wanted = Wanted { logstore, name: rule.name.clone(), sort: Sort::Siem(rule) };
                    rules.create(&wanted, &[]).await?;
                    println!(
                        "made {}: it sends {}/{} to {receiver}",
                        wanted.name, connect.project, rules.logstore
                    );
                    Ok(())
                }
                Command::Apply { file, dry_run, prune, probe, connect } => {
                    let rules = read(&file)?;
                    apply(connect.client(Access::Admin)?, rules, dry_run, prune, &probe).await
                }
                Command::List { logstore, connect } => list(connect.client(Access::Read)?, logstore).await,
                Command::Show { name, of, report, connect } => {
                    let rules = Rules { client: connect.client(Access::Read)?, logstore: of.logstore };
                    show(&rules, &name, report).await
                }
                Command::Enable { name, of, connect } => {
                    let rules = Rules { client: connect.client(Access::Admin)?, logstore: of.logstore };
                    rules.switch(&name, true).await?;
                    println!("{name} ships");
                    Ok(())
                }
                Command::Disable { name, of, connect } => {
                    let rules = Rules { client: connect.client(Access::Admin)?, logstore: of.logstore };
                    rules.switch(&name, false).await?;
                    println!("{name} makes no more tasks; logship rule enable lets it go on where it was");
                    Ok(())
                }
                Command::Delete { name, of, connect } => {
                    let rules = Rules { client: connect.client(Access::Admin)?, logstore: of.logstore };
                    rules.delete(&name).await?;
                    println!("deleted {name}");
                    Ok(())
                }
            }
        })
    }
}

/// The rules of a logstore of a service.
struct Rules {
    client: Client,
    logstore: String,
}

impl Rules {
    fn path(&self, name: &str) -> String {
        format!("/logstores/{}/shipper/{name}", self.logstore)
    }

    async fn names(&self) -> Result<Vec<String>, Failure> {
        let path = format!("/logstores/{}/shipper", self.logstore);
        let (mut names, mut total) = (vec![], 1);
        while names.len() < total {
            let offset = names.len().to_string();
            let page: Value = self.client.get(&path, &[("offset", &offset), ("size", "500")]).await?;
            let found = page["shipper"].as_array().into_iter().flatten();
            let before = names.len();
            names.extend(found.filter_map(Value::as_str).map(str::to_owned));
            total = if names.len() == before { 0 } else { page["total"].as_u64().unwrap_or(0) as usize };
        }
        Ok(names)
    }

    /// What the service says of a rule, if there is such a one.
    async fn get(&self, name: &str) -> Result<Option<Value>, Failure> {
        match self.client.get(&self.path(name), &[]).await {
            Ok(rule) => Ok(Some(rule)),
            Err(ClientError::Refused(error)) if error.code == ErrorCode::ShipperNotExist => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn need(&self, name: &str) -> Result<Value, Failure> {
        let missing =
            || format!("{} has no rule {name}; logship rule list shows those there are", self.logstore);
        Ok(self.get(name).await?.ok_or_else(missing)?)
    }

    async fn create(&self, rule: &Wanted, query: &[(&str, &str)]) -> Result<(), Failure> {
        let path = format!("/logstores/{}/shipper", self.logstore);
        let reply = self.client.send_json(Method::POST, &path, query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    async fn update(&self, rule: &Wanted, query: &[(&str, &str)]) -> Result<(), Failure> {
        let reply = self.client.send_json(Method::PUT, &self.path(&rule.name), query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    async fn switch(&self, name: &str, enabled: bool) -> Result<(), Failure> {
        let mut shown = self.need(name).await?;
        shown["targetConfiguration"]["enable"] = enabled.into();
        self.client.send_json(Method::PUT, &self.path(name), &[], &shown).await?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.client.send_json(Method::DELETE, &self.path(name), &[], &Value::Null).await?;
        Ok(())
    }
}

/// A rule that there is to be.
struct Wanted {
    logstore: String,
    name: String,
    sort: Sort,
}

/// What kind of rule it is.
enum Sort {
    Objects(Box<Rule>),
    Siem(SiemRule),
}

impl Wanted {
    fn check(&self) -> Result<(), RuleError> {
        match &self.sort {
            Sort::Objects(rule) => rule.check(),
            Sort::Siem(rule) => rule.check(),
        }
    }

    fn configuration(&self) -> Value {
        match &self.sort {
            Sort::Objects(rule) => target::configuration(rule),
            Sort::Siem(rule) => rule.configuration(),
        }
    }

    fn body(&self) -> Value {
        let kind = match &self.sort {
            Sort::Objects(_) => target::OSS,
            Sort::Siem(_) => SIEM,
        };
        json!({ "shipperName": self.name, "targetType": kind, "targetConfiguration": self.configuration() })
    }
}

/// The rules of a file.
fn read(file: &Path) -> Result<Vec<Wanted>, RuleError> {
    let RuleFile { rules, siem } = RuleFile::read(file)?;
    let objects = rules.into_iter().map(|rule| Wanted {
        logstore: rule.logstore.clone(),
        name: rule.name.clone(),
        sort: Sort::Objects(Box::new(rule)),
    });
    let siem = siem.into_iter().map(|rule| Wanted {
        logstore: rule.logstore.clone(),
        name: rule.name.clone(),
        sort: Sort::Siem(rule),
    });
    Ok(objects.chain(siem).collect())
}

fn warn(reply: &Value) {
    if let Some(message) = reply["warning"]["message"].as_str() {
        eprintln!("warning: {message}");
    }
}

async fn apply(
    client: Client,
    rules: Vec<Wanted>,
    dry_run: bool,
    prune: bool,
    probe: &Probe,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in &rules {
        rule.check().map_err(|error| format!("{}: {error}", rule.name))?;
        if rule.logstore.is_empty() {
            return Err(
                format!("{}: rule: logstore is missing: name the one that it ships", rule.name).into()
            );
        }
        if !wanted.entry(rule.logstore.clone()).or_default().insert(rule.name.clone()) {
            return Err(format!("{}: the file has this rule twice", rule.name).into());
        }
    }
    let mut of = Rules { client, logstore: String::new() };
    let (mut changed, would) = (0, if dry_run { "would be " } else { "" });
    for rule in &rules {
        of.logstore.clone_from(&rule.logstore);
        let name = format!("{}/{}", rule.logstore, rule.name);
        let wanted = target::hide_secrets(&rule.configuration());
        match of.get(&rule.name).await? {
            None => {
                println!("+ {name} {would}made");
                changed += 1;
                if !dry_run {
                    of.create(rule, probe.query()).await?;
                }
            }
            Some(shown) => {
                let difference = difference(&shown["targetConfiguration"], &wanted);
                if difference.is_empty() {
                    println!("  {name} is as it has to be");
                    continue;
                }
                println!("~ {name} {would}changed");
                difference.iter().for_each(|line| println!("    {line}"));
                changed += 1;
                if !dry_run {
                    of.update(rule, probe.query()).await?;
                }
            }
        }
    }
    for (logstore, names) in wanted.iter().filter(|_| prune) {
        of.logstore.clone_from(logstore);
        for name in of.names().await?.iter().filter(|name| !names.contains(*name)) {
            println!("- {logstore}/{name} {would}deleted");
            changed += 1;
            if !dry_run {
                of.delete(name).await?;
            }
        }
    }
    if dry_run && changed > 0 {
        println!("nothing was changed: --dry-run");
    }
    Ok(())
}

/// What differs between two configurations: a line for each member that is not the same.
fn difference(is: &Value, wanted: &Value) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", is, &mut before);
    flatten("", wanted, &mut after);
    let members: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = members.into_iter().filter(|member| before.get(*member) != after.get(*member));
    differs
        .map(|member| match (before.get(member), after.get(member)) {
            (Some(before), Some(after)) => format!("{member}: {before} -> {after}"),
            (None, Some(after)) => format!("{member}: {after}, new"),
            (before, _) => format!("{member}: {}, taken out", before.map_or("", String::as_str)),
        })
        .collect()
}

fn flatten(path: &str, value: &Value, members: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) if !object.is_empty() || path.is_empty() => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, members);
            }
        }
        other => {
            members.insert(path.to_owned(), other.to_string());
        }
    }
}

async fn list(client: Client, logstore: Option<String>) -> Result<(), Failure> {
    let logstores = match logstore {
        Some(logstore) => vec![logstore],
        None => {
            let all: Value = client.get("/logstores", &[("size", "500")]).await?;
            let names = all["logstores"].as_array().into_iter().flatten();
            names.filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    let mut of = Rules { client, logstore: String::new() };
    let mut rows = vec![];
    for logstore in logstores {
        of.logstore = logstore;
        for name in of.names().await? {
            if let Some(shown) = of.get(&name).await? {
                rows.push(row(&of.logstore, &name, &shown));
            }
        }
    }
    if rows.is_empty() {
        println!("there are no rules; logship rule create makes one");
        return Ok(());
    }
    println!("{}", table::render(&["rule", "logstore", "to", "format", "state", "waiting"], rows));
    Ok(())
}

fn row(logstore: &str, name: &str, shown: &Value) -> Vec<String> {
    let set = &shown["targetConfiguration"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match (shown["problem"].as_str(), set["enable"].as_bool()) {
        (Some(_), _) => "held",
        (None, Some(false)) => "disabled",
        (None, _) => "enabled",
    };
    let waiting: u64 = shards(shown).filter_map(|shard| shard["waitingGroups"].as_u64()).sum();
    let format = match (text(&set["storage"]["format"]), text(&set["compressType"])) {
        (format, none) if none == "none" || none.is_empty() => format,
        (format, compression) => format!("{format} {compression}"),
    };
    let (to, format) = if shown["targetType"] == SIEM {
        (text(&set["receiver"]), set["stage"].as_str().unwrap_or("siem").to_owned())
    } else {
        (format!("{}/{}", text(&set["ossBucket"]), text(&set["ossPrefix"])), format)
    };
    vec![name.to_owned(), logstore.to_owned(), to, format, state.to_owned(), format!("{waiting} groups")]
}

fn shards(shown: &Value) -> impl Iterator<Item = &Value> {
    shown["shards"].as_array().into_iter().flatten()
}

async fn show(rules: &Rules, name: &str, report: Report) -> Result<(), Failure> {
    let shown = rules.need(name).await?;
    if report == Report::Json {
        println!("{shown:#}");
        return Ok(());
    }
    if shown["targetType"] == target::OSS {
        let rule = target::rule(name, &shown["targetConfiguration"])?;
        print!("{}", toml::to_string(&Rule { logstore: rules.logstore.clone(), ..rule })?);
    } else if shown["targetType"] == SIEM {
        let rule = SiemRule::of(name, &shown["targetConfiguration"])?;
        print!("{}", toml::to_string(&SiemRule { logstore: rules.logstore.clone(), ..rule })?);
    } else {
        println!("{:#}", shown["targetConfiguration"]);
    }
    if let Some(problem) = shown["problem"].as_str() {
        println!("\nheld: {problem}");
    }
    let rows = shards(&shown)
        .map(|shard| {
            let text = |name: &str| shard[name].to_string().trim_matches('"').to_owned();
            vec![text("shardID"), text("checkpoint"), text("waitingGroups")]
        })
        .collect();
    println!("\n{}", table::render(&["shard", "shipped up to cursor", "groups waiting"], rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_each_member() {
        let is = json!({ "a": 1, "b": { "c": [1], "d": "x" }, "gone": {} });
        let wanted = json!({ "a": 1, "b": { "c": [2], "d": "x", "new": true } });
        assert_eq!(difference(&is, &wanted), ["b.c: [1] -> [2]", "b.new: true, new", "gone: {}, taken out"]);
        assert!(difference(&is, &is.clone()).is_empty());
    }
}

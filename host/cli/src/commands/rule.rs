use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::connect::{self, Connect};
use super::receiver_options::FormatOptions;
use super::rule_options::RuleOptions;
use super::stage::Report;
use super::{Failure, settings};
use crate::table;
use logship_client::{Client, ClientError};
use logship_config::rule::{Rule, RuleError, Start, Store};
use logship_config::rule_file::RuleFile;
use logship_config::shipper_config;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_server::keys::Access;

/// Creates, applies, shows and deletes shipping rules.
#[derive(Debug, Args)]
pub(super) struct RuleCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a rule that ships the logstore's shards to objects.
    Create {
        /// The rule's name. Names of deleted rules can't be reused.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        /// Ships to this existing bucket. In the default destination a bucket is a directory: DATA/buckets/BUCKET. A
        /// function without a store needs no bucket.
        #[arg(long, default_value = "", help_heading = "Rule", hide_default_value = true)]
        bucket: String,
        /// The bucket's destination: a name from the service's settings.
        #[arg(long, default_value = "default", help_heading = "Rule")]
        destination: String,
        /// ARN of the role that writes to the bucket: acs:ram::ACCOUNT:role/NAME
        #[arg(long, default_value = "", help_heading = "Rule", hide_default_value = true)]
        role: String,
        /// Ships only new logs, not existing ones.
        #[arg(long, help_heading = "Rule")]
        from_now: bool,
        #[command(flatten)]
        options: Box<RuleOptions>,
        #[command(flatten)]
        probe: Probe,
        #[command(flatten)]
        connect: Connect,
    },
    /// Creates a rule that sends a logstore to a SIEM.
    Send {
        /// The rule's name. Names of deleted rules can't be reused.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        /// Sends to this receiver: a name from the service's settings, [receivers.NAME].
        #[arg(long)]
        receiver: String,
        /// Sends only new logs, not existing ones.
        #[arg(long)]
        from_now: bool,
        #[command(flatten)]
        format: FormatOptions,
        #[command(flatten)]
        connect: Connect,
    },
    /// Updates the service's rules to match a file, and shows the differences.
    Apply {
        /// TOML file with one rule, or several as [[rule]], and [[siem]] for rules that send to SIEMs. Each rule
        /// names its logstore.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Shows the changes without applying them.
        #[arg(long)]
        dry_run: bool,
        /// Deletes other rules of the same logstores.
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        probe: Probe,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lists the rules of one or all logstores.
    List {
        /// Lists only the rules of this logstore.
        #[arg(long)]
        logstore: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a rule with its progress.
    Show {
        /// The rule's name.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Enables a rule, which continues where it stopped.
    Enable {
        /// The rule's name.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        #[command(flatten)]
        connect: Connect,
    },
    /// Disables a rule: it creates no more tasks. Existing tasks still run; those of a SIEM rule wait until it is
    /// enabled.
    Disable {
        /// The rule's name.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a rule. Its objects remain, its open tasks fail, and its name can't be reused.
    Delete {
        /// The rule's name.
        name: String,
        #[command(flatten)]
        logstore: LogstoreOption,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Debug, Args)]
struct LogstoreOption {
    /// The rule's logstore.
    #[arg(long)]
    logstore: String,
}

#[derive(Debug, Args)]
struct Probe {
    /// Skips the test of the destination, and creates the rule even if it accepts no objects now.
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
                    logstore,
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
                    let rule = options.apply_to(rule)?;
                    rule.check()?;
                    let rules =
                        RuleClient { client: connect.client(Access::Admin)?, logstore: logstore.logstore };
                    let (logstore, name) = (rules.logstore.clone(), rule.name.clone());
                    let wanted = DesiredRule { logstore, name, kind: RuleKind::Objects(Box::new(rule)) };
                    rules.create(&wanted, probe.query()).await?;
                    println!("created {}: ships {}/{}", wanted.name, connect.project, rules.logstore);
                    Ok(())
                }
                Command::Send { name, logstore, receiver, from_now, format, connect } => {
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
                    let rules =
                        RuleClient { client: connect.client(Access::Admin)?, logstore: logstore.logstore };
                    let (logstore, receiver) = (rules.logstore.clone(), rule.receiver.clone());
                    let wanted =
                        DesiredRule { logstore, name: rule.name.clone(), kind: RuleKind::Siem(rule) };
                    rules.create(&wanted, &[]).await?;
                    println!(
                        "created {}: sends {}/{} to {receiver}",
                        wanted.name, connect.project, rules.logstore
                    );
                    Ok(())
                }
                Command::Apply { file, dry_run, prune, probe, connect } => {
                    let rules = read(&file)?;
                    apply(connect.client(Access::Admin)?, rules, dry_run, prune, &probe).await
                }
                Command::List { logstore, connect } => list(connect.client(Access::Read)?, logstore).await,
                Command::Show { name, logstore, report, connect } => {
                    let rules =
                        RuleClient { client: connect.client(Access::Read)?, logstore: logstore.logstore };
                    show(&rules, &name, report).await
                }
                Command::Enable { name, logstore, connect } => {
                    let rules =
                        RuleClient { client: connect.client(Access::Admin)?, logstore: logstore.logstore };
                    rules.set_enabled(&name, true).await?;
                    println!("{name} is enabled");
                    Ok(())
                }
                Command::Disable { name, logstore, connect } => {
                    let rules =
                        RuleClient { client: connect.client(Access::Admin)?, logstore: logstore.logstore };
                    rules.set_enabled(&name, false).await?;
                    println!("{name} is disabled; logship rule enable continues where it stopped");
                    Ok(())
                }
                Command::Delete { name, logstore, connect } => {
                    let rules =
                        RuleClient { client: connect.client(Access::Admin)?, logstore: logstore.logstore };
                    rules.delete(&name).await?;
                    println!("deleted {name}");
                    Ok(())
                }
            }
        })
    }
}

/// A client of a logstore's rules.
struct RuleClient {
    client: Client,
    logstore: String,
}

impl RuleClient {
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

    /// Returns the service's description of a rule, or `None` if it does not exist.
    async fn get(&self, name: &str) -> Result<Option<Value>, Failure> {
        match self.client.get(&self.path(name), &[]).await {
            Ok(rule) => Ok(Some(rule)),
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::ShipperNotExist => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn get_existing(&self, name: &str) -> Result<Value, Failure> {
        let missing = || format!("{} has no rule {name}; logship rule list shows all rules", self.logstore);
        Ok(self.get(name).await?.ok_or_else(missing)?)
    }

    async fn create(&self, rule: &DesiredRule, query: &[(&str, &str)]) -> Result<(), Failure> {
        let path = format!("/logstores/{}/shipper", self.logstore);
        let reply = self.client.send_json(Method::POST, &path, query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    async fn update(&self, rule: &DesiredRule, query: &[(&str, &str)]) -> Result<(), Failure> {
        let reply = self.client.send_json(Method::PUT, &self.path(&rule.name), query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    async fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Failure> {
        let mut shown = self.get_existing(name).await?;
        shown["targetConfiguration"]["enable"] = enabled.into();
        self.client.send_json(Method::PUT, &self.path(name), &[], &shown).await?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.client.send_json(Method::DELETE, &self.path(name), &[], &Value::Null).await?;
        Ok(())
    }
}

/// A rule to create or update.
struct DesiredRule {
    logstore: String,
    name: String,
    kind: RuleKind,
}

/// A rule's kind and settings.
enum RuleKind {
    Objects(Box<Rule>),
    Siem(SiemRule),
}

impl DesiredRule {
    fn check(&self) -> Result<(), RuleError> {
        match &self.kind {
            RuleKind::Objects(rule) => rule.check(),
            RuleKind::Siem(rule) => rule.check(),
        }
    }

    fn configuration(&self) -> Value {
        match &self.kind {
            RuleKind::Objects(rule) => shipper_config::from_rule(rule),
            RuleKind::Siem(rule) => rule.configuration(),
        }
    }

    fn body(&self) -> Value {
        let target_type = match &self.kind {
            RuleKind::Objects(_) => shipper_config::OSS,
            RuleKind::Siem(_) => SIEM,
        };
        json!({ "shipperName": self.name, "targetType": target_type, "targetConfiguration": self.configuration() })
    }
}

/// Reads the rules of a file.
fn read(file: &Path) -> Result<Vec<DesiredRule>, RuleError> {
    let RuleFile { rules, siem } = settings::read_rules(file)?;
    let objects = rules.into_iter().map(|rule| DesiredRule {
        logstore: rule.logstore.clone(),
        name: rule.name.clone(),
        kind: RuleKind::Objects(Box::new(rule)),
    });
    let siem = siem.into_iter().map(|rule| DesiredRule {
        logstore: rule.logstore.clone(),
        name: rule.name.clone(),
        kind: RuleKind::Siem(rule),
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
    rules: Vec<DesiredRule>,
    dry_run: bool,
    prune: bool,
    probe: &Probe,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in &rules {
        rule.check().map_err(|error| format!("{}: {error}", rule.name))?;
        if rule.logstore.is_empty() {
            return Err(format!("{}: logstore is missing: name the logstore to ship", rule.name).into());
        }
        if !wanted.entry(rule.logstore.clone()).or_default().insert(rule.name.clone()) {
            return Err(format!("{}: the file has this rule twice", rule.name).into());
        }
    }
    let mut client = RuleClient { client, logstore: String::new() };
    let (mut changed, would) = (0, if dry_run { "would be " } else { "" });
    for rule in &rules {
        client.logstore.clone_from(&rule.logstore);
        let name = format!("{}/{}", rule.logstore, rule.name);
        let wanted = shipper_config::mask_secrets(&rule.configuration());
        match client.get(&rule.name).await? {
            None => {
                println!("+ {name} {would}created");
                changed += 1;
                if !dry_run {
                    client.create(rule, probe.query()).await?;
                }
            }
            Some(shown) => {
                let difference = difference(&shown["targetConfiguration"], &wanted);
                if difference.is_empty() {
                    println!("  {name} is up to date");
                    continue;
                }
                println!("~ {name} {would}changed");
                difference.iter().for_each(|line| println!("    {line}"));
                changed += 1;
                if !dry_run {
                    client.update(rule, probe.query()).await?;
                }
            }
        }
    }
    for (logstore, names) in wanted.iter().filter(|_| prune) {
        client.logstore.clone_from(logstore);
        for name in client.names().await?.iter().filter(|name| !names.contains(*name)) {
            println!("- {logstore}/{name} {would}deleted");
            changed += 1;
            if !dry_run {
                client.delete(name).await?;
            }
        }
    }
    if dry_run && changed > 0 {
        println!("nothing was changed: --dry-run");
    }
    Ok(())
}

/// Returns a line for each field that differs between two configurations.
fn difference(is: &Value, wanted: &Value) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", is, &mut before);
    flatten("", wanted, &mut after);
    let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = fields.into_iter().filter(|field| before.get(*field) != after.get(*field));
    differs
        .map(|field| match (before.get(field), after.get(field)) {
            (Some(before), Some(after)) => format!("{field}: {before} -> {after}"),
            (None, Some(after)) => format!("{field}: added {after}"),
            (before, _) => format!("{field}: removed {}", before.map_or("", String::as_str)),
        })
        .collect()
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) if !object.is_empty() || path.is_empty() => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, fields);
            }
        }
        other => {
            fields.insert(path.to_owned(), other.to_string());
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
    let mut client = RuleClient { client, logstore: String::new() };
    let mut rows = vec![];
    for logstore in logstores {
        client.logstore = logstore;
        for name in client.names().await? {
            if let Some(shown) = client.get(&name).await? {
                rows.push(row(&client.logstore, &name, &shown));
            }
        }
    }
    if rows.is_empty() {
        println!("no rules; create one with logship rule create");
        return Ok(());
    }
    println!("{}", table::render(&["rule", "logstore", "to", "format", "state", "backlog"], rows));
    Ok(())
}

fn row(logstore: &str, name: &str, shown: &Value) -> Vec<String> {
    let config = &shown["targetConfiguration"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match (shown["problem"].as_str(), config["enable"].as_bool()) {
        (Some(_), _) => "paused",
        (None, Some(false)) => "disabled",
        (None, _) => "enabled",
    };
    let backlog: u64 = shards(shown).filter_map(|shard| shard["waitingGroups"].as_u64()).sum();
    let format = match (text(&config["storage"]["format"]), text(&config["compressType"])) {
        (format, none) if none == "none" || none.is_empty() => format,
        (format, compression) => format!("{format} {compression}"),
    };
    let (to, format) = if shown["targetType"] == SIEM {
        (text(&config["receiver"]), config["stage"].as_str().unwrap_or("siem").to_owned())
    } else {
        (format!("{}/{}", text(&config["ossBucket"]), text(&config["ossPrefix"])), format)
    };
    vec![name.to_owned(), logstore.to_owned(), to, format, state.to_owned(), format!("{backlog} groups")]
}

fn shards(shown: &Value) -> impl Iterator<Item = &Value> {
    shown["shards"].as_array().into_iter().flatten()
}

async fn show(rules: &RuleClient, name: &str, report: Report) -> Result<(), Failure> {
    let shown = rules.get_existing(name).await?;
    if report == Report::Json {
        println!("{shown:#}");
        return Ok(());
    }
    if shown["targetType"] == shipper_config::OSS {
        let rule = shipper_config::to_rule(name, &shown["targetConfiguration"])?;
        print!("{}", toml::to_string(&Rule { logstore: rules.logstore.clone(), ..rule })?);
    } else if shown["targetType"] == SIEM {
        let rule = SiemRule::of(name, &shown["targetConfiguration"])?;
        print!("{}", toml::to_string(&SiemRule { logstore: rules.logstore.clone(), ..rule })?);
    } else {
        println!("{:#}", shown["targetConfiguration"]);
    }
    if let Some(problem) = shown["problem"].as_str() {
        println!("\npaused: {problem}");
    }
    let rows = shards(&shown)
        .map(|shard| {
            let text = |name: &str| shard[name].to_string().trim_matches('"').to_owned();
            vec![text("shardID"), text("checkpoint"), text("waitingGroups")]
        })
        .collect();
    println!("\n{}", table::render(&["shard", "checkpoint", "backlog"], rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_lists_each_field() {
        let is = json!({ "a": 1, "b": { "c": [1], "d": "x" }, "gone": {} });
        let wanted = json!({ "a": 1, "b": { "c": [2], "d": "x", "new": true } });
        assert_eq!(difference(&is, &wanted), ["b.c: [1] -> [2]", "b.new: added true", "gone: removed {}"]);
        assert!(difference(&is, &is.clone()).is_empty());
    }
}

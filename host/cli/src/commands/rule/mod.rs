//! `logship rule`: creates, applies, shows and deletes shipping rules.

mod apply;
mod client;
mod desired;
mod show;

use std::path::PathBuf;

use crate::print::outln;
use clap::{Args, Subcommand};
use logship_config::rule::{Rule, Start, Store};
use logship_config::siem_rule::SiemRule;
use logship_server::keys::Access;

use super::Failure;
use super::connect::{self, Connect};
use super::receiver_options::FormatOptions;
use super::rule_options::RuleOptions;
use super::stage::Report;
use client::RuleClient;
use desired::{DesiredRule, RuleKind};

/// Creates, applies, shows and deletes shipping rules.
#[derive(Debug, Args)]
pub(super) struct RuleCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a rule that ships the logstore's shards to objects.
    Create(Create),
    /// Creates a rule that sends a logstore to a SIEM.
    Send(Send),
    /// Updates the service's rules to match a file, and shows the differences.
    Apply {
        /// TOML file with one rule, or several as [[rule]], [[siem]] for rules that send to SIEMs, and [[ots]] and [[odps]]
        /// for rules that write rows to Table Store and MaxCompute. Each rule names its logstore.
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

/// The options of `rule create`.
#[derive(Debug, Args)]
struct Create {
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
}

/// The options of `rule send`.
#[derive(Debug, Args)]
struct Send {
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
}

#[derive(Debug, Args)]
struct LogstoreOption {
    /// The rule's logstore.
    #[arg(long)]
    logstore: String,
}

impl LogstoreOption {
    fn client(self, connect: &Connect, access: Access) -> Result<RuleClient, Failure> {
        Ok(RuleClient { client: connect.client(access)?, logstore: self.logstore })
    }
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
        connect::run(self.command.run())
    }
}

impl Command {
    async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Send(send) => send.run().await,
            Self::Apply { file, dry_run, prune, probe, connect } => {
                let rules = desired::read(&file)?;
                apply::apply(connect.client(Access::Admin)?, rules, dry_run, prune, &probe).await
            }
            Self::List { logstore, connect } => show::list(connect.client(Access::Read)?, logstore).await,
            Self::Show { name, logstore, report, connect } => {
                show::show(&logstore.client(&connect, Access::Read)?, &name, report).await
            }
            Self::Enable { name, logstore, connect } => {
                logstore.client(&connect, Access::Admin)?.set_enabled(&name, true).await?;
                outln!("{name} is enabled");
                Ok(())
            }
            Self::Disable { name, logstore, connect } => {
                logstore.client(&connect, Access::Admin)?.set_enabled(&name, false).await?;
                outln!("{name} is disabled; logship rule enable continues where it stopped");
                Ok(())
            }
            Self::Delete { name, logstore, connect } => {
                logstore.client(&connect, Access::Admin)?.delete(&name).await?;
                outln!("deleted {name}");
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let rule = Rule {
            name: self.name,
            bucket: self.bucket,
            destination: Store::Named(self.destination),
            role: self.role,
            from: start(self.from_now),
            ..Rule::default()
        };
        let rule = self.options.apply_to(rule)?;
        rule.check()?;
        let rules = self.logstore.client(&self.connect, Access::Admin)?;
        let (logstore, name) = (rules.logstore.clone(), rule.name.clone());
        let wanted = DesiredRule { logstore, name, kind: RuleKind::Objects(Box::new(rule)) };
        wanted.warn_of_columns();
        rules.create(&wanted, self.probe.query()).await?;
        outln!("created {}: ships {}/{}", wanted.name, self.connect.project, rules.logstore);
        Ok(())
    }
}

impl Send {
    async fn run(self) -> Result<(), Failure> {
        let rule = SiemRule {
            name: self.name,
            receiver: self.receiver,
            stage: self.format.stage.clone(),
            format: self.format.config()?,
            transform: self.format.transforms()?,
            from: start(self.from_now),
            ..SiemRule::default()
        };
        rule.check()?;
        let rules = self.logstore.client(&self.connect, Access::Admin)?;
        let (logstore, receiver) = (rules.logstore.clone(), rule.receiver.clone());
        let wanted = DesiredRule { logstore, name: rule.name.clone(), kind: RuleKind::Siem(rule) };
        rules.create(&wanted, &[]).await?;
        outln!("created {}: sends {}/{} to {receiver}", wanted.name, self.connect.project, rules.logstore);
        Ok(())
    }
}

fn start(from_now: bool) -> Start {
    if from_now { Start::Now } else { Start::Begin }
}

use crate::print::outln;
use clap::{Args, Subcommand, ValueEnum};
use logship_config::maxcompute_rule::MaxComputeRule;
use logship_config::rule::Rule;
use logship_config::rule_file::RuleFile;
use logship_config::schema;
use logship_config::service::Config;
use logship_config::siem_rule::SiemRule;
use logship_config::table_store_rule::TableStoreRule;

use super::Failure;

/// Describes the files of settings and rules.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the JSON Schema of a file. Editors use it to complete and check TOML.
    Schema {
        /// The kind of file.
        #[arg(value_enum, default_value_t)]
        kind: Kind,
    },
}

/// A kind of file.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Kind {
    /// The settings of the service, for `logship serve --config`.
    #[default]
    Settings,
    /// Rules, as [[rule]], [[siem]], [[ots]] and [[odps]], for `logship rule apply`.
    Rules,
    /// One rule that ships objects, for `logship ship --rule` and `logship rule apply`.
    Rule,
    /// One rule that sends events, an element of [[siem]].
    Siem,
    /// One rule that writes rows to Table Store, an element of [[ots]].
    Ots,
    /// One rule that writes rows to MaxCompute, an element of [[odps]].
    Odps,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::Schema { kind } = self.command;
        let schema = match kind {
            Kind::Settings => schema::of::<Config>(),
            Kind::Rules => schema::of::<RuleFile>(),
            Kind::Rule => schema::of::<Rule>(),
            Kind::Siem => schema::of::<SiemRule>(),
            Kind::Ots => schema::of::<TableStoreRule>(),
            Kind::Odps => schema::of::<MaxComputeRule>(),
        };
        outln!("{:#}", schema.to_value());
        Ok(())
    }
}

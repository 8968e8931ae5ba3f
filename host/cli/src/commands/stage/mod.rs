//! The `logship stage` commands, one file per command.

mod add;
mod bindings;
mod check;
mod componentize;
mod guard;
mod inspect;
mod kind;
mod list;
mod new;
mod origin;
mod preview;
mod push;
mod remove;
mod row_table;
mod rows;
mod show;
mod swap;
mod template;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::{EngineOptions, Failure};

/// Creates, checks and publishes stages, and manages the stage catalog of a running service.
#[derive(Debug, Subcommand)]
pub(super) enum StageCommand {
    New(Box<new::NewCommand>),
    Add(Box<add::AddCommand>),
    List(Box<list::ListCommand>),
    Show(Box<show::ShowCommand>),
    Swap(Box<swap::SwapCommand>),
    Rollback(Box<swap::RollbackCommand>),
    Pin(Box<swap::PinCommand>),
    Remove(Box<remove::RemoveCommand>),
    Try(Box<preview::TryCommand>),
    Push(Box<push::PushCommand>),
    Inspect(Box<inspect::InspectCommand>),
    Check(Box<check::CheckCommand>),
    Rows(Box<rows::RowsCommand>),
    Componentize(Box<componentize::ComponentizeCommand>),
    Guard(Box<guard::GuardCommand>),
}

/// The output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Report {
    /// Plain text.
    #[default]
    Text,
    /// JSON.
    Json,
}

impl StageCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        match self {
            Self::New(command) => command.run(),
            Self::Add(command) => command.run(),
            Self::List(command) => command.run(engine),
            Self::Show(command) => command.run(),
            Self::Swap(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Pin(command) => command.run(),
            Self::Remove(command) => command.run(),
            Self::Try(command) => command.run(),
            Self::Push(command) => command.run(engine),
            Self::Inspect(command) => command.run(engine),
            Self::Check(command) => command.run(engine),
            Self::Rows(command) => command.run(engine),
            Self::Componentize(command) => command.run(engine),
            Self::Guard(command) => command.run(engine),
        }
    }
}

/// Returns true if `stage` is the path of a component file, not a name.
fn is_file(stage: &str) -> bool {
    stage.contains('/') || stage.ends_with(".wasm")
}

/// Returns the first 12 digits of a digest.
fn short(digest: &Value) -> String {
    digest.as_str().unwrap_or_default().chars().take(12).collect()
}

/// Returns a text, or a dash if missing or empty.
fn text(value: &Value) -> String {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// Describes how many rules use a stage.
fn rule_count(reply: &Value) -> String {
    match reply["rules"].as_array().map_or(0, Vec::len) {
        0 => "no rule uses it".into(),
        1 => "1 rule uses it".into(),
        rules => format!("{rules} rules use it"),
    }
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

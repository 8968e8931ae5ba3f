//! Errors of stages.

use crate::identity::Identity;
use crate::kind::Kind;

/// An error of loading a component as a stage, or of calling a stage.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StageError {
    /// No built-in stage has this name, and no file has this path.
    #[error("no {} is called {name:?}. Built in: {}. {}", kind.map_or("stage".into(), |kind| kind.to_string()), if known.is_empty() { "none".into() } else { known.join(", ") }, custom_stage_hint(added.as_deref()))]
    Unknown {
        /// The requested kind, if any.
        kind: Option<Kind>,
        /// The requested name.
        name: String,
        /// The names of the built-in stages.
        known: Vec<String>,
        /// The names in the service's stage catalog. `None` outside a service.
        added: Option<Vec<String>>,
    },
    /// The name has no such version.
    #[error("stage {name} has no version {version:?}; its versions are {}", list(known))]
    NoVersion {
        /// The name.
        name: String,
        /// The requested version.
        version: String,
        /// The existing versions.
        known: Vec<String>,
    },
    /// The file is not a component that can run.
    #[error("{origin}: can't load the component: {reason}")]
    Unreadable {
        /// Path or name of the component.
        origin: String,
        /// The problem with the file.
        reason: String,
    },
    /// The component imports functions from its host.
    #[error("{origin}: a stage must not import anything, but this component imports {}. Build it for wasm32-unknown-unknown, without clock, files, random numbers or network", imports.join(", "))]
    Imports {
        /// Path or name of the component.
        origin: String,
        /// The imported interfaces and functions.
        imports: Vec<String>,
    },
    /// The component imports WASI without permission.
    #[error("{origin}: a stage must not import anything, but this component imports {}. Build it without these imports, or allow an empty WASI: with --allow-wasi, or by its name in the settings of a service, `[stages] allow-wasi = [\"NAME\"]`; see docs/languages.md", imports.join(", "))]
    Wasi {
        /// Path or name of the component.
        origin: String,
        /// The imported interfaces.
        imports: Vec<String>,
    },
    /// The component exports no interface that logship knows.
    #[error(
        "{origin}: not a stage: it exports {}, but a stage exports one of {}",
        list(exports),
        Kind::interfaces()
    )]
    NotAStage {
        /// Path or name of the component.
        origin: String,
        /// The exported items.
        exports: Vec<String>,
    },
    /// The component implements another major version of the contract.
    #[error(
        "{origin}: it exports {found}, but this logship requires {expected}. Build the stage with the wit/ folder of this version"
    )]
    Version {
        /// Path or name of the component.
        origin: String,
        /// The exported interface.
        found: String,
        /// The interface that this host expects.
        expected: String,
    },
    /// The component exports the right interface with different items.
    #[error(
        "{origin}: its interface differs from the contract of {kind}s (- missing, + found instead):\n{difference}"
    )]
    Mismatch {
        /// Path or name of the component.
        origin: String,
        /// The kind of the exported interface.
        kind: Kind,
        /// The differing items, one per line.
        difference: String,
    },
    /// The stage has the wrong kind for its place.
    #[error("{stage} is {} {found}, but {} {wanted} is required", found.article(), wanted.article())]
    WrongKind {
        /// The stage.
        stage: Identity,
        /// The kind of the stage.
        found: Kind,
        /// The required kind.
        wanted: Kind,
    },
    /// The stage's description is invalid.
    #[error("{stage}: {what}. This is a bug of the stage")]
    Description {
        /// The stage.
        stage: Identity,
        /// The problem with the description.
        what: String,
    },
    /// The stage rejects its configuration.
    #[error("{stage} rejects its configuration: {}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
    Config {
        /// The stage.
        stage: Identity,
        /// Path of the invalid member. Empty if the problem concerns the whole text.
        path: String,
        /// The problem with it.
        reason: String,
    },
    /// The row encoder rejects the table.
    #[error("{stage} rejects the table: {}{reason}", if column.is_empty() { String::new() } else { format!("column {column}: ") })]
    Table {
        /// The stage.
        stage: Identity,
        /// The column. Empty if the problem concerns the whole table.
        column: String,
        /// The problem with it.
        reason: String,
    },
    /// The stage reports that the host sent an invalid batch.
    #[error("{stage} reports an invalid batch: {invariant}. This is a bug of logship: please report it")]
    InvalidBatch {
        /// The stage.
        stage: Identity,
        /// The violated invariant.
        invariant: String,
    },
    /// The stage rejects a log.
    #[error("{stage} rejects log {log} of the chunk: {reason}")]
    Rejected {
        /// The stage.
        stage: Identity,
        /// Index of the log in the batch.
        log: u32,
        /// The reason.
        reason: String,
    },
    /// The stage rejects a log that does not exist: a bug of the stage.
    #[error("{stage} rejects log {log}, but the chunk has only {logs} logs. This is a bug of the stage")]
    NoSuchLog {
        /// The stage.
        stage: Identity,
        /// Index of the log.
        log: u32,
        /// Number of logs in the batch.
        logs: usize,
    },
    /// The stage returned invalid messages: a bug of the stage.
    #[error("{stage} returned invalid messages: {what}. This is a bug of the stage")]
    Messages {
        /// The stage.
        stage: Identity,
        /// The problem with the messages.
        what: &'static str,
    },
    /// The stage returned invalid rows: a bug of the stage.
    #[error("{stage} returned invalid rows: {what}. This is a bug of the stage")]
    Rows {
        /// The stage.
        stage: Identity,
        /// The problem with the rows.
        what: &'static str,
    },
    /// The stage returned an invalid batch: a bug of the stage.
    #[error("{stage} returned an invalid batch: {what}. This is a bug of the stage")]
    Transformed {
        /// The stage.
        stage: Identity,
        /// The problem with the batch.
        what: &'static str,
    },
    /// The object is too large for the stage.
    #[error("{stage} can't hold an object of this size: {reason}. Choose a smaller shipping size")]
    TooLarge {
        /// The stage.
        stage: Identity,
        /// The reason.
        reason: String,
    },
    /// The renderer returned an invalid key.
    #[error("{stage} returned the key {key:?}, which {problem}")]
    Key {
        /// The stage.
        stage: Identity,
        /// The key.
        key: String,
        /// The problem with the key.
        problem: &'static str,
    },
    /// The renderer returned the same key for two objects.
    #[error(
        "{stage} returned the key {key:?} for two objects. A rule that partitions by the time of logs makes several objects per task: partition-time and number must be in the key"
    )]
    SameKey {
        /// The stage.
        stage: Identity,
        /// The key.
        key: String,
    },
    /// The call exceeded its deadline.
    #[error(
        "{stage} did not answer within {seconds} s of CPU time and was stopped. If it is only slow, raise --stage-deadline"
    )]
    Deadline {
        /// The stage.
        stage: Identity,
        /// Deadline of a call, in seconds of CPU time.
        seconds: f64,
    },
    /// The stage requested more memory than its cap.
    #[error(
        "{stage} asked for {asked} MiB of memory and may have {cap}. If it needs that much, raise --stage-memory"
    )]
    OutOfMemory {
        /// The stage.
        stage: Identity,
        /// Requested memory, in MiB.
        asked: usize,
        /// Memory cap, in MiB.
        cap: usize,
    },
    /// The stage trapped.
    #[error("{stage} trapped: {cause}")]
    Trap {
        /// The stage.
        stage: Identity,
        /// The trap as wasmtime reports it, with the stage's function.
        cause: String,
    },
}

impl StageError {
    /// Returns the stage that failed. `None` if no stage was loaded.
    pub fn stage(&self) -> Option<&Identity> {
        match self {
            Self::Unknown { .. }
            | Self::NoVersion { .. }
            | Self::Unreadable { .. }
            | Self::Imports { .. }
            | Self::Wasi { .. }
            | Self::NotAStage { .. }
            | Self::Version { .. }
            | Self::Mismatch { .. } => None,
            Self::WrongKind { stage, .. }
            | Self::Description { stage, .. }
            | Self::Config { stage, .. }
            | Self::Table { stage, .. }
            | Self::InvalidBatch { stage, .. }
            | Self::Rejected { stage, .. }
            | Self::NoSuchLog { stage, .. }
            | Self::Messages { stage, .. }
            | Self::Rows { stage, .. }
            | Self::Transformed { stage, .. }
            | Self::TooLarge { stage, .. }
            | Self::Key { stage, .. }
            | Self::SameKey { stage, .. }
            | Self::Deadline { stage, .. }
            | Self::OutOfMemory { stage, .. }
            | Self::Trap { stage, .. } => Some(stage),
        }
    }

    /// Returns the error of a component that can't be loaded.
    pub(crate) fn unreadable(origin: &str, reason: impl Into<String>) -> Self {
        Self::Unreadable { origin: origin.to_owned(), reason: reason.into() }
    }
}

/// Tells the user how to name a stage that is not built in.
fn custom_stage_hint(added: Option<&[String]>) -> String {
    match added {
        None => "To use a component of your own, give its path, with a `/` or ending in `.wasm`".into(),
        Some([]) => "Add one with `logship stage add FILE`".into(),
        Some(added) => format!("Added: {}", added.join(", ")),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}

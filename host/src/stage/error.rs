use super::{Identity, Kind};

/// Why a component can't serve as a stage, or why a stage failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StageError {
    /// No built-in stage has the name, and no file the path.
    #[error("no {} is called {name:?}. Built in: {}. {}", kind.map_or("stage".into(), |kind| kind.to_string()), if known.is_empty() { "none".into() } else { known.join(", ") }, own(added.as_deref()))]
    Unknown {
        /// The kind that was asked for, if any.
        kind: Option<Kind>,
        /// The name that was asked for.
        name: String,
        /// The names that come with logship.
        known: Vec<String>,
        /// Those that a service has besides; none where there is no service.
        added: Option<Vec<String>>,
    },
    /// A name has no such version.
    #[error("stage {name} has no version {version:?}; there is {}", list(known))]
    NoVersion {
        /// The name.
        name: String,
        /// The version that was asked for.
        version: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The file isn't a component that can be run.
    #[error("{origin}: not a component that can be run: {reason}")]
    Unreadable {
        /// Where it is from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The component wants something from its host.
    #[error("{origin}: a stage has no imports, and this component wants {}. Build it for wasm32-unknown-unknown, without clock, files, random numbers or network", wanted.join(", "))]
    Imports {
        /// Where it is from.
        origin: String,
        /// The interfaces and functions that it imports.
        wanted: Vec<String>,
    },
    /// The component wants WASI, and nobody allowed it.
    #[error("{origin}: a stage has no imports, and this component wants {}. Build it without them, or allow it an empty WASI: with --allow-wasi, or by its name in the settings of a service, `[stages] allow-wasi = [\"NAME\"]`; docs/languages.md has both", wanted.join(", "))]
    Wasi {
        /// Where it is from.
        origin: String,
        /// The interfaces that it imports.
        wanted: Vec<String>,
    },
    /// The component exports no interface that logship knows.
    #[error(
        "{origin}: not a stage: it exports {}, and a stage exports one of {}",
        list(exports),
        Kind::interfaces()
    )]
    NotAStage {
        /// Where it is from.
        origin: String,
        /// What it exports.
        exports: Vec<String>,
    },
    /// The component is made for another major version of the contract.
    #[error(
        "{origin}: it exports {found}, and this logship speaks {expected}. Build the stage against wit/ of this version"
    )]
    Version {
        /// Where it is from.
        origin: String,
        /// The interface that it exports.
        found: String,
        /// The interface of this host.
        expected: String,
    },
    /// The component exports the right interface with other items.
    #[error(
        "{origin}: it differs from the interface of {kind}s (- is missing, + is what it has instead):\n{difference}"
    )]
    Mismatch {
        /// Where it is from.
        origin: String,
        /// The kind that it claims to be.
        kind: Kind,
        /// The items that differ, one a line.
        difference: String,
    },
    /// The component is a stage of another kind than its place needs.
    #[error("{stage} is {} {found}, and its place is that of {} {wanted}", found.article(), wanted.article())]
    WrongKind {
        /// Which it is.
        stage: Identity,
        /// What it is.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// What the stage says of itself can't be.
    #[error("{stage}: {what}. Whoever made the stage must mend it")]
    Description {
        /// Which.
        stage: Identity,
        /// What is wrong.
        what: String,
    },
    /// The stage refuses its configuration.
    #[error("{stage} refuses its configuration: {}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
    Config {
        /// Which.
        stage: Identity,
        /// Path of the offending member; empty for the text as a whole.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stage says that the host gave it a broken batch.
    #[error("{stage} found the batch broken: {invariant}. This is a defect of logship: please report it")]
    InvalidBatch {
        /// Which.
        stage: Identity,
        /// The invariant.
        invariant: String,
    },
    /// The stage can make nothing of a log.
    #[error("{stage} refuses log {log} of the chunk: {reason}")]
    Rejected {
        /// Which.
        stage: Identity,
        /// Index of the log in the batch.
        log: u32,
        /// Why.
        reason: String,
    },
    /// The stage refuses a log that there is not: a defect of the stage.
    #[error("{stage} refuses log {log}, and the chunk has {logs}. Whoever made the stage must mend it")]
    NoSuchLog {
        /// Which.
        stage: Identity,
        /// Index of the log.
        log: u32,
        /// How many logs the batch has.
        logs: usize,
    },
    /// What the stage answered can't be: a defect of the stage.
    #[error("{stage} gave messages whose {what}. Whoever made the stage must mend it")]
    Messages {
        /// Which.
        stage: Identity,
        /// What is wrong with them.
        what: &'static str,
    },
    /// The logs that the stage gave can't be: a defect of the stage.
    #[error("{stage} gave a batch whose {what}. Whoever made the stage must mend it")]
    Transformed {
        /// Which.
        stage: Identity,
        /// What is wrong with them.
        what: &'static str,
    },
    /// The object has outgrown the stage.
    #[error("{stage} can't hold an object of this size: {reason}. Choose a smaller shipping size")]
    TooLarge {
        /// Which.
        stage: Identity,
        /// Why.
        reason: String,
    },
    /// The renderer gave a key that no object may have.
    #[error("{stage} gave the key {key:?}, which {problem}")]
    Key {
        /// Which.
        stage: Identity,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The renderer gave the key of another object.
    #[error(
        "{stage} gave the key {key:?} to two objects. A rule that partitions by the time of logs makes several of a task: their partition-time and their number must be in the key"
    )]
    SameKey {
        /// Which.
        stage: Identity,
        /// The key.
        key: String,
    },
    /// The stage ran past its deadline.
    #[error(
        "{stage} did not answer within {seconds} s and was stopped. If it is only slow, raise --stage-deadline"
    )]
    Deadline {
        /// Which.
        stage: Identity,
        /// The deadline of a call.
        seconds: f64,
    },
    /// The stage asked for more memory than it may have.
    #[error(
        "{stage} asked for {asked} MiB of memory and may have {cap}. If it needs that much, raise --stage-memory"
    )]
    OutOfMemory {
        /// Which.
        stage: Identity,
        /// MiB asked for.
        asked: usize,
        /// MiB allowed.
        cap: usize,
    },
    /// The stage trapped.
    #[error("{stage} trapped: {cause}")]
    Trap {
        /// Which.
        stage: Identity,
        /// wasmtime's words, with the stage's own call stack.
        cause: String,
    },
}

impl StageError {
    /// The stage that failed, if there is one: what can't be found is none.
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
            | Self::InvalidBatch { stage, .. }
            | Self::Rejected { stage, .. }
            | Self::NoSuchLog { stage, .. }
            | Self::Messages { stage, .. }
            | Self::Transformed { stage, .. }
            | Self::TooLarge { stage, .. }
            | Self::Key { stage, .. }
            | Self::SameKey { stage, .. }
            | Self::Deadline { stage, .. }
            | Self::OutOfMemory { stage, .. }
            | Self::Trap { stage, .. } => Some(stage),
        }
    }

    pub(super) fn unreadable(origin: &str, reason: impl Into<String>) -> Self {
        Self::Unreadable { origin: origin.to_owned(), reason: reason.into() }
    }
}

/// How stages of one's own are named.
fn own(added: Option<&[String]>) -> String {
    match added {
        None => "A component of your own is named by its path, with a `/` or ending in `.wasm`".into(),
        Some([]) => "Others can be added: logship stage add FILE".into(),
        Some(added) => format!("Added: {}", added.join(", ")),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}

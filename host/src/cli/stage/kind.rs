use clap::ValueEnum;

use crate::stage::Kind;

/// The kinds of stages that are one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StageKind {
    /// Logs into other logs.
    Transformer,
    /// Logs into the bytes of an object.
    Encoder,
    /// The bytes of an object into fewer.
    Compressor,
    /// The facts about an object into its key.
    Renderer,
    /// Logs into messages for a SIEM.
    Formatter,
}

impl From<StageKind> for Kind {
    fn from(kind: StageKind) -> Self {
        match kind {
            StageKind::Transformer => Self::Transformer,
            StageKind::Encoder => Self::Encoder,
            StageKind::Compressor => Self::Compressor,
            StageKind::Renderer => Self::Renderer,
            StageKind::Formatter => Self::Formatter,
        }
    }
}

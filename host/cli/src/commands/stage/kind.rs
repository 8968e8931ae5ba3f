use clap::ValueEnum;

use logship_runtime::stage::Kind;

/// The kinds of single stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum StageKind {
    /// Changes or filters logs.
    Transformer,
    /// Encodes logs as the bytes of an object.
    Encoder,
    /// Compresses the bytes of an object.
    Compressor,
    /// Renders the key of an object.
    Renderer,
    /// Formats logs as messages for a SIEM.
    Formatter,
    /// Encodes logs as rows of a table.
    RowEncoder,
}

impl From<StageKind> for Kind {
    fn from(kind: StageKind) -> Self {
        match kind {
            StageKind::Transformer => Self::Transformer,
            StageKind::Encoder => Self::Encoder,
            StageKind::Compressor => Self::Compressor,
            StageKind::Renderer => Self::Renderer,
            StageKind::Formatter => Self::Formatter,
            StageKind::RowEncoder => Self::RowEncoder,
        }
    }
}

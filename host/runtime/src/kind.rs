//! The kinds of stages, and the interfaces that they export.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of stages, one for each world of `wit/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Turns logs into the bytes of an object.
    Encoder,
    /// Compresses the bytes of an object.
    Compressor,
    /// Turns the metadata of an object into its key.
    Renderer,
    /// Turns logs into messages for a SIEM.
    Formatter,
    /// Turns logs into rows of a table.
    RowEncoder,
    /// Turns logs into other logs.
    Transformer,
    /// Combines a renderer, an encoder and optionally a compressor in one component.
    Pipeline,
}

impl Kind {
    /// Returns the kind of stage that exports an interface. The name may include a version, which must be
    /// compatible with this logship.
    pub fn of_interface(name: &str) -> Option<Self> {
        let (name, version) = name.split_once('@').unwrap_or((name, VERSION));
        let known = INTERFACES.iter().find(|interface| interface.name == name);
        known.filter(|_| major(version) == major(VERSION))?.kind
    }

    /// Returns the interfaces that make a component a stage.
    pub(crate) fn interfaces() -> String {
        INTERFACES
            .iter()
            .filter(|interface| interface.name != LOSSES.name)
            .map(|interface| format!("{}@{VERSION}", interface.name))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Returns the article before the name of the kind.
    pub(crate) fn article(self) -> &'static str {
        if self == Self::Encoder { "an" } else { "a" }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoder => "encoder",
            Self::Compressor => "compressor",
            Self::Renderer => "renderer",
            Self::Formatter => "formatter",
            Self::RowEncoder => "row-encoder",
            Self::Transformer => "transformer",
            Self::Pipeline => "pipeline",
        })
    }
}

/// An interface that a stage may export.
#[derive(Debug)]
pub(crate) struct Interface {
    /// The name, without the version.
    pub(crate) name: &'static str,
    /// The kind of a stage that exports the interface. `None` if it is only part of a pipeline.
    pub(crate) kind: Option<Kind>,
    /// True if the interface receives logs.
    pub(crate) takes_logs: bool,
}

pub(crate) const ENCODER: Interface =
    Interface { name: "logship:encode/encoder", kind: Some(Kind::Encoder), takes_logs: true };

pub(crate) const COMPRESSOR: Interface =
    Interface { name: "logship:compress/compressor", kind: Some(Kind::Compressor), takes_logs: false };

pub(crate) const RENDERER: Interface =
    Interface { name: "logship:object-path/renderer", kind: Some(Kind::Renderer), takes_logs: false };

pub(crate) const FORMATTER: Interface =
    Interface { name: "logship:siem/formatter", kind: Some(Kind::Formatter), takes_logs: true };

pub(crate) const ROW_ENCODER: Interface =
    Interface { name: "logship:rows/row-encoder", kind: Some(Kind::RowEncoder), takes_logs: true };

pub(crate) const TRANSFORMER: Interface =
    Interface { name: "logship:transform/transformer", kind: Some(Kind::Transformer), takes_logs: true };

pub(crate) const PACKER: Interface =
    Interface { name: "logship:pipeline/packer", kind: None, takes_logs: true };

/// An optional export of encoders and packers.
pub(crate) const LOSSES: Interface =
    Interface { name: "logship:losses/losses", kind: None, takes_logs: false };

pub(crate) const INTERFACES: [Interface; 8] =
    [ENCODER, COMPRESSOR, RENDERER, FORMATTER, ROW_ENCODER, TRANSFORMER, PACKER, LOSSES];

/// The version of the contract.
pub(crate) const VERSION: &str = "1.0.0";

/// Returns the major version of a version.
pub(crate) fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

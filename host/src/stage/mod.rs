//! Stages: components that were read, checked and made ready to run.
//!
//! One file for each kind, all of one shape: `…Stage`, ready to be instantiated, with what it says
//! of itself; and what it makes, an object in the making or a key.

mod compressor;
mod encoder;
mod error;
mod formatter;
mod fused;
mod packer;
mod preflight;
mod renderer;
mod tally;
mod transformer;

use std::fmt::{self, Display};
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use crate::bindings::compressor::exports::logship::compress::compressor::{
    Description as CompressorDescription, Ending, SuffixPlace,
};
pub use crate::bindings::encoder::exports::logship::encode::encoder::{
    Description as EncoderDescription, InnerCompression,
};
pub use crate::bindings::formatter::exports::logship::siem::formatter::{
    Description as FormatterDescription, Messages, Transport,
};
pub use crate::bindings::packer::exports::logship::pipeline::packer::{
    Description as PackerDescription, SuffixPlace as PackedPlace,
};
pub use crate::bindings::renderer::exports::logship::object_path::renderer::{
    Description as RendererDescription, Request,
};
pub use crate::bindings::transformer::exports::logship::transform::transformer::{
    Description as TransformerDescription, Transformed,
};
pub(crate) use compressor::CompressorInstance;
pub use compressor::{CompressedObject, CompressorStage};
pub(crate) use encoder::EncoderInstance;
pub use encoder::{EncodedObject, EncoderStage};
pub use error::StageError;
pub(crate) use formatter::FormatterInstance;
pub use formatter::{FormatterStage, FormattingSession};
pub use fused::{FusedBytes, FusedStage};
pub(crate) use packer::PackerInstance;
pub use packer::{PackedObject, PackerStage};
pub use preflight::Kind;
pub use renderer::RendererStage;
pub use tally::{Cause, Tallied};
pub(crate) use tally::{Tallies, Tally};
pub(crate) use transformer::TransformerInstance;
pub use transformer::{TransformerStage, TransformingSession};

use crate::engine::Engine;
use crate::wasi::{self, Allowance};

/// Which component this is. Cheap to clone; stands in every error of the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<Facts>);

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    name: String,
    version: String,
    digest: String,
    size: usize,
    imports: Vec<String>,
}

impl Identity {
    fn new(name: &str, version: &str, digest: String, size: usize, imports: Vec<String>) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self(Arc::new(Facts { name, version, digest, size, imports }))
    }

    /// The same component, by the name and version that it gives itself.
    fn called(&self, name: &str, version: &str) -> Self {
        Self::new(name, version, self.0.digest.clone(), self.0.size, self.0.imports.clone())
    }

    /// The name that the stage gives itself; where it was not asked yet, the file it is from.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The stage's own version.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// The interfaces of WASI that it imports, as a rule none.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} (sha256:{})", self.0.name, &self.0.digest[..12])
    }
}

/// A stage of any kind. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Logs into the bytes of an object.
    Encoder(Arc<EncoderStage>),
    /// The bytes of an object into fewer.
    Compressor(Arc<CompressorStage>),
    /// The facts about an object into its key.
    Renderer(Arc<RendererStage>),
    /// Logs into messages for a SIEM.
    Formatter(Arc<FormatterStage>),
    /// Logs into other logs.
    Transformer(Arc<TransformerStage>),
    /// Renderer, encoder and maybe compressor in one.
    Pipeline(Arc<FusedStage>),
}

impl Stage {
    /// Reads a component, checks it and asks it what it is. `origin` is where it is from: a path, or
    /// a name. If it imports WASI, the allowance has to have its digest, or the name that it gives itself.
    ///
    /// # Errors
    /// When it isn't a component, isn't a stage, is one for another version of the contract, or
    /// imports anything that it may not; each says what to do.
    pub fn load(
        engine: &Engine,
        origin: &str,
        bytes: &[u8],
        allowance: &Allowance,
    ) -> Result<Self, StageError> {
        let (kind, imports) = preflight::kind(origin, bytes)?;
        let refused =
            |imports: &[String]| StageError::Wasi { origin: origin.to_owned(), wanted: imports.into() };
        if !imports.is_empty() && !allowance.is_some() {
            return Err(refused(&imports));
        }
        let unreadable = |error: wasmtime::Error| StageError::unreadable(origin, format!("{error:#}"));
        let (engine, component) = engine.compile(bytes).map_err(unreadable)?;
        let engine = &engine;
        let identity = Identity::new(origin, "", hex::encode(Sha256::digest(bytes)), bytes.len(), imports);
        let mut linker = engine.linker();
        if !identity.imports().is_empty() {
            wasi::link(&mut linker, engine.wasmtime(), &component).map_err(unreadable)?;
        }
        let pre = linker.instantiate_pre(&component).map_err(unreadable)?;
        let stage = match kind {
            Kind::Encoder => {
                let pre = crate::bindings::encoder::EncoderPre::new(pre).map_err(unreadable)?;
                Self::Encoder(Arc::new(EncoderStage::new(engine, identity, pre)?))
            }
            Kind::Compressor => {
                let pre = crate::bindings::compressor::CompressorPre::new(pre).map_err(unreadable)?;
                Self::Compressor(Arc::new(CompressorStage::new(engine, identity, pre)?))
            }
            Kind::Renderer => {
                let pre = crate::bindings::renderer::RendererPre::new(pre).map_err(unreadable)?;
                Self::Renderer(Arc::new(RendererStage::new(engine, identity, pre)?))
            }
            Kind::Formatter => {
                let pre = crate::bindings::formatter::FormatterPre::new(pre).map_err(unreadable)?;
                Self::Formatter(Arc::new(FormatterStage::new(engine, identity, pre)?))
            }
            Kind::Transformer => {
                let pre = crate::bindings::transformer::TransformerPre::new(pre).map_err(unreadable)?;
                Self::Transformer(Arc::new(TransformerStage::new(engine, identity, pre)?))
            }
            Kind::Pipeline => {
                let renderer =
                    crate::bindings::renderer::RendererPre::new(pre.clone()).map_err(unreadable)?;
                let renderer = RendererStage::new(engine, identity.clone(), renderer)?;
                let bytes = match crate::bindings::encoder::EncoderPre::new(pre.clone()) {
                    Ok(pre) => {
                        FusedBytes::Encoder(Arc::new(EncoderStage::new(engine, identity.clone(), pre)?))
                    }
                    Err(_) => {
                        let pre =
                            crate::bindings::packer::CompressedPipelinePre::new(pre).map_err(unreadable)?;
                        FusedBytes::Packer(Arc::new(PackerStage::new(engine, identity.clone(), pre)?))
                    }
                };
                Self::Pipeline(Arc::new(FusedStage::new(&identity, renderer, bytes)))
            }
        };
        let identity = stage.identity();
        if identity.imports().is_empty()
            || allowance.has(identity.name())
            || allowance.has_digest(identity.digest())
        {
            return Ok(stage);
        }
        Err(refused(identity.imports()))
    }

    /// What kind of stage it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Encoder(_) => Kind::Encoder,
            Self::Compressor(_) => Kind::Compressor,
            Self::Renderer(_) => Kind::Renderer,
            Self::Formatter(_) => Kind::Formatter,
            Self::Transformer(_) => Kind::Transformer,
            Self::Pipeline(_) => Kind::Pipeline,
        }
    }

    /// Which component it is.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Encoder(stage) => stage.identity(),
            Self::Compressor(stage) => stage.identity(),
            Self::Renderer(stage) => stage.identity(),
            Self::Formatter(stage) => stage.identity(),
            Self::Transformer(stage) => stage.identity(),
            Self::Pipeline(stage) => stage.identity(),
        }
    }

    /// Whether somebody else has it in use.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Encoder(stage) => Arc::strong_count(stage) > 1,
            Self::Compressor(stage) => Arc::strong_count(stage) > 1,
            Self::Renderer(stage) => Arc::strong_count(stage) > 1,
            Self::Formatter(stage) => Arc::strong_count(stage) > 1,
            Self::Transformer(stage) => Arc::strong_count(stage) > 1,
            // Who uses it has its parts.
            Self::Pipeline(stage) => Arc::strong_count(stage) > 1 || Arc::strong_count(stage.renderer()) > 1,
        }
    }

    /// The JSON Schema of its configuration.
    pub fn config_schema(&self) -> &str {
        match self {
            Self::Encoder(stage) => &stage.description().config_schema,
            Self::Compressor(stage) => &stage.description().config_schema,
            Self::Renderer(stage) => &stage.description().config_schema,
            Self::Formatter(stage) => &stage.description().config_schema,
            Self::Transformer(stage) => &stage.description().config_schema,
            Self::Pipeline(stage) => stage.config_schema(),
        }
    }
}

/// Checks what every description has, and puts name and version into the identity.
fn introduce(
    identity: &Identity,
    name: &str,
    version: &str,
    config_schema: &str,
) -> Result<Identity, StageError> {
    let lawful = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let refused = |what: String| StageError::Description { stage: identity.clone(), what };
    if name.len() > 63 || version.len() > 63 || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(
            "its name or version is longer than 63 bytes, or the version no plain text".into(),
        ));
    }
    if version.contains('@') {
        return Err(refused(format!("its version {version:?} has an @ in it")));
    }
    if !lawful(name) {
        return Err(refused(format!("its name {name:?} is not of lowercase letters, digits and `-`")));
    }
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(config_schema) {
        return Err(refused(format!("its config-schema is not a JSON object: {error}")));
    }
    Ok(identity.called(name, version))
}

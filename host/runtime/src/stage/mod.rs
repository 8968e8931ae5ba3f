//! Stages: components that are loaded, checked and ready to run.
//!
//! Each kind has a file with the same structure: a `…Stage`, ready to be instantiated, with its description,
//! and the object, session or key that it makes.

mod compressor;
mod encoder;
mod error;
mod formatter;
mod fused;
mod metrics;
mod packer;
mod preflight;
mod renderer;
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
pub use compressor::CompressorInstance;
pub use compressor::{CompressedObject, CompressorStage};
pub use encoder::EncoderInstance;
pub use encoder::{EncodedObject, EncoderStage};
pub use error::StageError;
pub use formatter::FormatterInstance;
pub use formatter::{FormatterStage, FormattingSession};
pub use fused::{FusedBytes, FusedStage};
pub use metrics::{FailureReason, StageMetricsSnapshot};
pub(crate) use metrics::{StageMetrics, StageMetricsRegistry};
pub use packer::PackerInstance;
pub use packer::{PackedObject, PackerStage};
pub use preflight::Kind;
pub use renderer::{RendererInstance, RendererStage};
pub use transformer::TransformerInstance;
pub use transformer::{TransformerStage, TransformingSession};

use crate::engine::Engine;
use crate::wasi;
use crate::wasi::WasiAllowlist;

/// The identity of a component. Cheap to clone. Every error of a stage contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    name: String,
    version: String,
    digest: String,
    size: usize,
    imports: Vec<String>,
}

impl Identity {
    fn new(name: &str, version: &str, digest: String, size: usize, imports: Vec<String>) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self(Arc::new(Inner { name, version, digest, size, imports }))
    }

    /// Returns the same component under the name and version of its description.
    fn renamed(&self, name: &str, version: &str) -> Self {
        Self::new(name, version, self.0.digest.clone(), self.0.size, self.0.imports.clone())
    }

    /// Returns the name in the stage's description. Before the description is read, the path or name of the
    /// component.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the version in the stage's description.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// Returns the SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Returns the size of the component in bytes.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Returns the imported WASI interfaces, usually none.
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
    /// Turns logs into the bytes of an object.
    Encoder(Arc<EncoderStage>),
    /// Compresses the bytes of an object.
    Compressor(Arc<CompressorStage>),
    /// Turns the metadata of an object into its key.
    Renderer(Arc<RendererStage>),
    /// Turns logs into messages for a SIEM.
    Formatter(Arc<FormatterStage>),
    /// Turns logs into other logs.
    Transformer(Arc<TransformerStage>),
    /// Combines a renderer, an encoder and optionally a compressor.
    Pipeline(Arc<FusedStage>),
}

impl Stage {
    /// Loads a component, checks it and reads its description. `origin` is its path or name. If it imports
    /// WASI, the allowlist must contain its digest or the name in its description.
    ///
    /// # Errors
    /// If it is not a component, not a stage, made for another version of the contract, or imports anything
    /// forbidden. The message tells the user what to do.
    pub fn load(
        engine: &Engine,
        origin: &str,
        bytes: &[u8],
        allowlist: &WasiAllowlist,
    ) -> Result<Self, StageError> {
        let (kind, imports) = preflight::kind(origin, bytes)?;
        let wasi_error =
            |imports: &[String]| StageError::Wasi { origin: origin.to_owned(), imports: imports.into() };
        if !imports.is_empty() && !allowlist.allows_any() {
            return Err(wasi_error(&imports));
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
            || allowlist.allows(identity.name())
            || allowlist.allows_digest(identity.digest())
        {
            return Ok(stage);
        }
        Err(wasi_error(identity.imports()))
    }

    /// Returns the kind of the stage.
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

    /// Returns the identity of the component.
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

    /// True if another owner holds the stage.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Encoder(stage) => Arc::strong_count(stage) > 1,
            Self::Compressor(stage) => Arc::strong_count(stage) > 1,
            Self::Renderer(stage) => Arc::strong_count(stage) > 1,
            Self::Formatter(stage) => Arc::strong_count(stage) > 1,
            Self::Transformer(stage) => Arc::strong_count(stage) > 1,
            // A user of a pipeline holds its parts.
            Self::Pipeline(stage) => Arc::strong_count(stage) > 1 || Arc::strong_count(stage.renderer()) > 1,
        }
    }

    /// Returns the JSON Schema of the stage's configuration.
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

/// Checks the members that every description has. Returns the identity with the described name and version.
fn checked_identity(
    identity: &Identity,
    name: &str,
    version: &str,
    config_schema: &str,
) -> Result<Identity, StageError> {
    let valid = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let invalid = |what: String| StageError::Description { stage: identity.clone(), what };
    if name.len() > 63 || version.len() > 63 || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(
            "its name or version is longer than 63 bytes, or its version is not printable ASCII".into(),
        ));
    }
    if version.contains('@') {
        return Err(invalid(format!("its version {version:?} contains an @")));
    }
    if !valid(name) {
        return Err(invalid(format!(
            "its name {name:?} has other characters than lowercase letters, digits and `-`"
        )));
    }
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(config_schema) {
        return Err(invalid(format!("its config-schema is not a JSON object: {error}")));
    }
    Ok(identity.renamed(name, version))
}

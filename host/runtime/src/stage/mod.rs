//! Stages: components that are loaded, checked and ready to run.
//!
//! Each kind has a file with the same structure: a `…Stage`, ready to be instantiated, with its description,
//! and the object, session or key that it makes.

mod compressor;
mod encoder;
mod formatter;
mod fused;
mod losses;
mod packer;
pub mod preflight;
mod renderer;
mod row_encoder;
mod transformer;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::InstancePre;

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
pub use crate::bindings::row_encoder::exports::logship::rows::row_encoder::{
    Column as RowColumn, Description as RowEncoderDescription, DirtyValue, Positions, Rows, Table,
};
pub use crate::bindings::transformer::exports::logship::transform::transformer::{
    Description as TransformerDescription, Transformed,
};
pub use crate::error::StageError;
pub use crate::identity::Identity;
pub use crate::kind::Kind;
pub use crate::metrics::{FailureReason, StageMetricsSnapshot};
pub use compressor::{CompressedObject, CompressorInstance, CompressorStage};
pub use encoder::{EncodedObject, EncoderInstance, EncoderStage};
pub use formatter::{FormatterInstance, FormatterStage, FormattingSession};
pub use fused::{FusedBytes, FusedStage};
pub use losses::Loss;
pub use packer::{PackedObject, PackerInstance, PackerStage};
pub use renderer::{RendererInstance, RendererStage};
pub use row_encoder::{RowEncoderInstance, RowEncoderStage, RowSession};
pub use transformer::{TransformerInstance, TransformerStage, TransformingSession};

use crate::engine::Engine;
use crate::guest::Guest;
use crate::wasi::WasiAllowlist;
use crate::{bindings, wasi};

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
    /// Turns logs into rows of a table.
    RowEncoder(Arc<RowEncoderStage>),
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
        let (kind, imports) = preflight::kind(engine, origin, bytes)?;
        let wasi_error =
            |imports: &[String]| StageError::Wasi { origin: origin.to_owned(), imports: imports.into() };
        if !imports.is_empty() && !allowlist.allows_any() {
            return Err(wasi_error(&imports));
        }
        let unreadable = |error: wasmtime::Error| StageError::unreadable(origin, format!("{error:#}"));
        let compiled = engine.compile(bytes);
        let (engine, component) =
            compiled.map_err(|error| StageError::unreadable(origin, error.to_string()))?;
        let engine = &engine;
        let identity = Identity::new(origin, "", hex::encode(Sha256::digest(bytes)), bytes.len(), imports);
        let mut linker = engine.linker();
        if !identity.imports().is_empty() {
            wasi::link(&mut linker, engine.wasmtime(), &component).map_err(unreadable)?;
        }
        let pre = linker.instantiate_pre(&component).map_err(unreadable)?;
        let stage = Self::of_kind(kind, engine, identity, pre)?;
        let identity = stage.identity();
        if identity.imports().is_empty()
            || allowlist.allows(identity.name())
            || allowlist.allows_digest(identity.digest())
        {
            return Ok(stage);
        }
        Err(wasi_error(identity.imports()))
    }

    /// Makes a stage of this kind and reads its description.
    fn of_kind(
        kind: Kind,
        engine: &Engine,
        identity: Identity,
        pre: InstancePre<Guest>,
    ) -> Result<Self, StageError> {
        let origin = identity.clone();
        let unreadable = |error: wasmtime::Error| StageError::unreadable(origin.name(), format!("{error:#}"));
        Ok(match kind {
            Kind::Encoder => {
                let pre = bindings::encoder::EncoderPre::new(pre).map_err(unreadable)?;
                Self::Encoder(Arc::new(EncoderStage::new(engine, identity, pre)?))
            }
            Kind::Compressor => {
                let pre = bindings::compressor::CompressorPre::new(pre).map_err(unreadable)?;
                Self::Compressor(Arc::new(CompressorStage::new(engine, identity, pre)?))
            }
            Kind::Renderer => {
                let pre = bindings::renderer::RendererPre::new(pre).map_err(unreadable)?;
                Self::Renderer(Arc::new(RendererStage::new(engine, identity, pre)?))
            }
            Kind::Formatter => {
                let pre = bindings::formatter::FormatterPre::new(pre).map_err(unreadable)?;
                Self::Formatter(Arc::new(FormatterStage::new(engine, identity, pre)?))
            }
            Kind::RowEncoder => {
                let pre = bindings::row_encoder::RowEncoderPre::new(pre).map_err(unreadable)?;
                Self::RowEncoder(Arc::new(RowEncoderStage::new(engine, identity, pre)?))
            }
            Kind::Transformer => {
                let pre = bindings::transformer::TransformerPre::new(pre).map_err(unreadable)?;
                Self::Transformer(Arc::new(TransformerStage::new(engine, identity, pre)?))
            }
            Kind::Pipeline => {
                let renderer = bindings::renderer::RendererPre::new(pre.clone()).map_err(unreadable)?;
                let renderer = RendererStage::new(engine, identity.clone(), renderer)?;
                let bytes = match bindings::encoder::EncoderPre::new(pre.clone()) {
                    Ok(pre) => {
                        FusedBytes::Encoder(Arc::new(EncoderStage::new(engine, identity.clone(), pre)?))
                    }
                    Err(_) => {
                        let pre = bindings::packer::CompressedPipelinePre::new(pre).map_err(unreadable)?;
                        FusedBytes::Packer(Arc::new(PackerStage::new(engine, identity.clone(), pre)?))
                    }
                };
                Self::Pipeline(Arc::new(FusedStage::new(&identity, renderer, bytes)))
            }
        })
    }

    /// Returns the kind of the stage.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Encoder(_) => Kind::Encoder,
            Self::Compressor(_) => Kind::Compressor,
            Self::Renderer(_) => Kind::Renderer,
            Self::Formatter(_) => Kind::Formatter,
            Self::RowEncoder(_) => Kind::RowEncoder,
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
            Self::RowEncoder(stage) => stage.identity(),
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
            Self::RowEncoder(stage) => Arc::strong_count(stage) > 1,
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
            Self::RowEncoder(stage) => &stage.description().config_schema,
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

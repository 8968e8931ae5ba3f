use std::sync::Arc;

use super::{EncoderStage, Identity, PackerStage, RendererStage};

/// A pipeline in one component, made by `logship compose`: a renderer, and an encoder with or without a
/// compressor.
#[derive(Debug)]
pub struct FusedStage {
    identity: Identity,
    renderer: Arc<RendererStage>,
    bytes: FusedBytes,
}

/// The part of a fused pipeline that produces the bytes of objects.
#[derive(Debug, Clone)]
pub enum FusedBytes {
    /// An encoder alone.
    Encoder(Arc<EncoderStage>),
    /// An encoder followed by a compressor.
    Packer(Arc<PackerStage>),
}

impl FusedStage {
    pub(super) fn new(origin: &Identity, renderer: RendererStage, bytes: FusedBytes) -> Self {
        let encoder = match &bytes {
            FusedBytes::Encoder(encoder) => encoder.identity(),
            FusedBytes::Packer(packer) => packer.encoder(),
        };
        let compressor = match &bytes {
            FusedBytes::Encoder(_) => None,
            FusedBytes::Packer(packer) => Some(packer.compressor()),
        };
        let parts = || [Some(renderer.identity()), Some(encoder), compressor].into_iter().flatten();
        let join = |of: fn(&Identity) -> &str| parts().map(of).collect::<Vec<_>>().join("+");
        let (name, version) = (join(Identity::name), join(Identity::version));
        let identity = origin.renamed(&name, &version);
        Self { identity, renderer: Arc::new(renderer), bytes }
    }

    /// Returns the identity of the component. Its name and version are those of its stages, joined by `+`.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the renderer of the object keys.
    pub fn renderer(&self) -> &Arc<RendererStage> {
        &self.renderer
    }

    /// Returns the stage that produces the bytes of the objects.
    pub fn bytes(&self) -> &FusedBytes {
        &self.bytes
    }

    /// Returns the format by which a rule selects the encoder.
    pub fn format(&self) -> &str {
        match &self.bytes {
            FusedBytes::Encoder(encoder) => &encoder.description().format,
            FusedBytes::Packer(packer) => &packer.description().encoder.format,
        }
    }

    /// Returns the compression by which a rule selects the compressor, if there is one.
    pub fn compression(&self) -> Option<&str> {
        match &self.bytes {
            FusedBytes::Encoder(_) => None,
            FusedBytes::Packer(packer) => Some(&packer.description().compressor.compression),
        }
    }

    /// Returns the JSON Schema of the encoder's configuration.
    pub fn config_schema(&self) -> &str {
        match &self.bytes {
            FusedBytes::Encoder(encoder) => &encoder.description().config_schema,
            FusedBytes::Packer(packer) => &packer.description().encoder.config_schema,
        }
    }
}

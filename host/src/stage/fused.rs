use std::sync::Arc;

use super::{EncoderStage, Identity, PackerStage, RendererStage};

/// A pipeline in one component, as `logship compose` fuses it: a renderer, and what makes an object's bytes.
#[derive(Debug)]
pub struct FusedStage {
    identity: Identity,
    renderer: Arc<RendererStage>,
    bytes: FusedBytes,
}

/// What makes the bytes of a fused pipeline's objects.
#[derive(Debug, Clone)]
pub enum FusedBytes {
    /// An encoder alone.
    Encoder(Arc<EncoderStage>),
    /// An encoder with a compressor behind it.
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
        let identity = origin.called(&name, &version);
        Self { identity, renderer: Arc::new(renderer), bytes }
    }

    /// Which component it is: the names and versions of its stages, joined by `+`.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What names its objects.
    pub fn renderer(&self) -> &Arc<RendererStage> {
        &self.renderer
    }

    /// What makes the bytes of its objects.
    pub fn bytes(&self) -> &FusedBytes {
        &self.bytes
    }

    /// The format by which a rule asks for its encoder.
    pub fn format(&self) -> &str {
        match &self.bytes {
            FusedBytes::Encoder(encoder) => &encoder.description().format,
            FusedBytes::Packer(packer) => &packer.description().encoder.format,
        }
    }

    /// The compression by which a rule asks for its compressor, if it has one.
    pub fn compression(&self) -> Option<&str> {
        match &self.bytes {
            FusedBytes::Encoder(_) => None,
            FusedBytes::Packer(packer) => Some(&packer.description().compressor.compression),
        }
    }

    /// The JSON Schema of its encoder's configuration.
    pub fn config_schema(&self) -> &str {
        match &self.bytes {
            FusedBytes::Encoder(encoder) => &encoder.description().config_schema,
            FusedBytes::Packer(packer) => &packer.description().encoder.config_schema,
        }
    }
}

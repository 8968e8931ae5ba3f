//! Resolves a name to a stage of one kind, or says which names of that kind there are.

use std::sync::Arc;

use logship_runtime::stage::{
    CompressorStage, EncoderStage, FormatterStage, FusedStage, Kind, RendererStage, RowEncoderStage, Stage,
    StageError, TransformerStage,
};

use crate::Registry;

/// The built-in row encoders. Their names share no prefix.
const ROW_ENCODERS: [&str; 2] = ["encode-maxcompute", "rows-tablestore"];

impl Registry {
    /// Resolves `name` to an encoder.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), and when the stage is of another kind.
    pub fn encoder(&self, name: &str) -> Result<Arc<EncoderStage>, StageError> {
        match self.stage(Some(Kind::Encoder), name)? {
            Stage::Encoder(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Encoder)),
        }
    }

    /// Resolves `name` to a compressor.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn compressor(&self, name: &str) -> Result<Arc<CompressorStage>, StageError> {
        match self.stage(Some(Kind::Compressor), name)? {
            Stage::Compressor(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Compressor)),
        }
    }

    /// Resolves `name` to a renderer.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn renderer(&self, name: &str) -> Result<Arc<RendererStage>, StageError> {
        match self.stage(Some(Kind::Renderer), name)? {
            Stage::Renderer(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Renderer)),
        }
    }

    /// Resolves `name` to a formatter.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn formatter(&self, name: &str) -> Result<Arc<FormatterStage>, StageError> {
        match self.stage(Some(Kind::Formatter), name)? {
            Stage::Formatter(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Formatter)),
        }
    }

    /// Resolves `name` to a row encoder.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn row_encoder(&self, name: &str) -> Result<Arc<RowEncoderStage>, StageError> {
        match self.stage(Some(Kind::RowEncoder), name)? {
            Stage::RowEncoder(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::RowEncoder)),
        }
    }

    /// Resolves `name` to a transformer.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn transformer(&self, name: &str) -> Result<Arc<TransformerStage>, StageError> {
        match self.stage(Some(Kind::Transformer), name)? {
            Stage::Transformer(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Transformer)),
        }
    }

    /// Resolves `name` to a fused pipeline.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn fused(&self, name: &str) -> Result<Arc<FusedStage>, StageError> {
        match self.stage(Some(Kind::Pipeline), name)? {
            Stage::Pipeline(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Pipeline)),
        }
    }

    /// Returns the error for an unknown name. It lists the built-in stages of the kind. Those of all kinds but
    /// row encoders share a prefix.
    pub(crate) fn unknown_stage(&self, kind: Option<Kind>, name: &str) -> StageError {
        let is_known = |known: &&str| {
            let is_row_encoder = ROW_ENCODERS.contains(known);
            let prefix = match kind {
                None => return true,
                Some(Kind::RowEncoder) => return is_row_encoder,
                Some(Kind::Pipeline) => "pipeline-",
                Some(Kind::Encoder) => "encode-",
                Some(Kind::Compressor) => "compress-",
                Some(Kind::Renderer) => "object-",
                Some(Kind::Formatter) => "siem-",
                Some(Kind::Transformer) => "transform-",
            };
            known.starts_with(prefix) && !is_row_encoder
        };
        let known = Self::built_in().filter(is_known).map(str::to_owned);
        StageError::Unknown {
            kind,
            name: name.to_owned(),
            known: known.collect(),
            added: self.added_names(kind),
        }
    }

    /// The names of added components.
    fn added_names(&self, kind: Option<Kind>) -> Option<Vec<String>> {
        let catalog = self.store.as_ref()?.catalog();
        let has_kind = |found: &str| kind.is_none_or(|kind| kind.to_string() == found);
        let names = catalog.stages().aliases.iter().filter(|(_, name)| has_kind(&name.kind));
        Some(names.map(|(name, _)| name.clone()).collect())
    }
}

pub(crate) fn expect_kind(stage: Stage, wanted: Kind) -> Result<Stage, StageError> {
    if wanted == stage.kind() { Ok(stage) } else { Err(wrong_kind(&stage, wanted)) }
}

fn wrong_kind(stage: &Stage, wanted: Kind) -> StageError {
    StageError::WrongKind { stage: stage.identity().clone(), found: stage.kind(), wanted }
}

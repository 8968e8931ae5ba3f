//! The bytes of an object in the making.

use std::ops::Range;

use crate::batch::LogBatch;
use crate::stage::{
    CompressedObject, EncodedObject, Ending, PackedObject, StageError, Transformed, TransformingSession,
};
use crate::transforms;
use crate::trial::replay::Tap;

/// The bytes of an object in the making: transformers, encoder, and compressor behind it.
#[derive(Debug)]
pub struct Encoding {
    pub(super) transformers: Vec<TransformingSession>,
    pub(super) making: Making,
    /// Sees what the encoder returns.
    pub(super) tap: Option<Tap>,
}

#[derive(Debug)]
pub(super) enum Making {
    Driven {
        encoder: EncodedObject,
        compressor: Option<Box<CompressedObject>>,
        /// Bytes that the encoder returned so far.
        returned: u64,
        /// Whether these are compressed already.
        inner: bool,
    },
    Packed(PackedObject),
}

/// The end of an object's bytes.
#[derive(Debug)]
pub struct Finished {
    /// What belongs before and behind all bytes that came before.
    pub ending: Ending,
    /// Bytes of the whole object before compression; an upper estimate where it was compressed
    /// inside its format.
    pub raw_bytes: u64,
}

impl Encoding {
    /// The same, and what is encoded is seen before it is compressed, where the host sees it.
    pub(crate) fn tapped(self, tap: Tap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// What becomes of some logs of a batch before they are [pushed](Self::push). None where the rule has no transformers:
    /// they are as they are.
    ///
    /// # Errors
    /// What a stage refuses or ends with; the object is lost then.
    pub fn transform(
        &mut self,
        batch: &LogBatch,
        logs: Range<usize>,
    ) -> Result<Option<Transformed>, StageError> {
        transforms::apply(&mut self.transformers, batch, logs)
    }

    /// Takes the next logs, transformed; returns the object's next bytes, maybe none.
    ///
    /// # Errors
    /// What a stage refuses or ends with; the object is lost then.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        match &mut self.making {
            Making::Driven { encoder, compressor, returned, .. } => {
                let bytes = encoder.push(batch)?;
                *returned += bytes.len() as u64;
                if let Some(tap) = &self.tap {
                    tap.write(&bytes);
                }
                match compressor {
                    Some(compressor) if !bytes.is_empty() => compressor.push(&bytes),
                    _ => Ok(bytes),
                }
            }
            Making::Packed(object) => object.push(batch),
        }
    }

    /// Bytes that the object would have if it were finished now, uncompressed.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn size(&mut self) -> Result<u64, StageError> {
        match &mut self.making {
            // Whatever a stage says of it: an object is cut by what was returned, too.
            Making::Driven { encoder, returned, .. } => Ok(encoder.size()?.max(*returned)),
            Making::Packed(object) => object.size(),
        }
    }

    /// Ends the object.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self) -> Result<Finished, StageError> {
        match self.making {
            Making::Driven { mut encoder, compressor, returned, inner } => {
                let size = if inner { encoder.size()? } else { 0 };
                let trailer = encoder.finish()?;
                if let Some(tap) = &self.tap {
                    tap.write(&trailer);
                }
                let raw_bytes = size.max(returned + trailer.len() as u64);
                Ok(Finished { ending: compressed(compressor, trailer)?, raw_bytes })
            }
            Making::Packed(object) => {
                let (ending, raw_bytes) = object.finish()?;
                Ok(Finished { ending, raw_bytes })
            }
        }
    }
}

/// The last bytes of an encoder, behind its compressor.
fn compressed(compressor: Option<Box<CompressedObject>>, mut trailer: Vec<u8>) -> Result<Ending, StageError> {
    let Some(mut compressor) = compressor else { return Ok(Ending { header: vec![], trailer }) };
    if !trailer.is_empty() {
        trailer = compressor.push(&trailer)?;
    }
    let mut ending = compressor.finish()?;
    trailer.append(&mut ending.trailer);
    Ok(Ending { header: ending.header, trailer })
}

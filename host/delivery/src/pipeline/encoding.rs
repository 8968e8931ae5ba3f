//! The bytes of an object that is being written.

use std::ops::Range;

use crate::pipeline::tap::Tap;
use crate::pipeline::transforms;
use logship_batch::batch::LogBatch;
use logship_logstore::{LostColumn, LostValues};
use logship_runtime::stage::{
    CompressedObject, EncodedObject, Ending, Loss, PackedObject, StageError, Transformed, TransformingSession,
};

/// Produces the bytes of an object: transformers, an encoder, and optionally a compressor.
#[derive(Debug)]
pub struct Encoding {
    pub(super) transformers: Vec<TransformingSession>,
    pub(super) writer: Writer,
    /// Receives the encoder's output.
    pub(super) tap: Option<Tap>,
    /// The values of pushed logs that the object cannot hold.
    pub(super) lost: LostValues,
}

#[derive(Debug)]
pub(super) enum Writer {
    Separate {
        encoder: EncodedObject,
        compressor: Option<Box<CompressedObject>>,
        /// Bytes that the encoder has returned.
        returned: u64,
        /// True if the encoder compresses inside its format.
        is_compressed: bool,
    },
    Packed(PackedObject),
}

/// The end of an object's bytes.
#[derive(Debug)]
pub struct FinishedEncoding {
    /// The bytes that precede and follow all bytes returned before.
    pub ending: Ending,
    /// Size of the object before compression, in bytes. An upper estimate if the encoder compresses inside
    /// its format.
    pub raw_bytes: u64,
    /// The values of logs that are not in the object.
    pub lost: LostValues,
}

impl Encoding {
    /// Returns the same encoding with a tap on the encoder's output before compression. A fused pipeline has
    /// no such output.
    pub(crate) fn tapped(self, tap: Tap) -> Self {
        Self { tap: Some(tap), ..self }
    }

    /// Transforms some logs of a batch before they are [pushed](Self::push). Returns `None` if the rule has
    /// no transformers.
    ///
    /// # Errors
    /// If a stage rejects a log, or any error of a call. The object is unusable then.
    pub fn transform(
        &mut self,
        batch: &LogBatch,
        logs: Range<usize>,
    ) -> Result<Option<Transformed>, StageError> {
        transforms::apply(&mut self.transformers, batch, logs)
    }

    /// Encodes the next transformed logs. Returns the object's next bytes, possibly none.
    ///
    /// # Errors
    /// If a stage rejects a log, or any error of a call. The object is unusable then.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Vec<u8>, StageError> {
        match &mut self.writer {
            Writer::Separate { encoder, compressor, returned, .. } => {
                let bytes = encoder.push(batch)?;
                add(&mut self.lost, encoder.take_losses());
                *returned += bytes.len() as u64;
                if let Some(tap) = &self.tap {
                    tap.write(&bytes);
                }
                match compressor {
                    Some(compressor) if !bytes.is_empty() => compressor.push(&bytes),
                    _ => Ok(bytes),
                }
            }
            Writer::Packed(object) => {
                let bytes = object.push(batch)?;
                add(&mut self.lost, object.take_losses());
                Ok(bytes)
            }
        }
    }

    /// Returns the values of pushed logs that the object cannot hold.
    pub fn lost(&self) -> &LostValues {
        &self.lost
    }

    /// Returns the size that the object would have if it were finished now, in bytes before compression.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn size(&mut self) -> Result<u64, StageError> {
        match &mut self.writer {
            // Guards against a stage that reports less than it has returned.
            Writer::Separate { encoder, returned, .. } => Ok(encoder.size()?.max(*returned)),
            Writer::Packed(object) => object.size(),
        }
    }

    /// Finishes the object.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self) -> Result<FinishedEncoding, StageError> {
        let mut lost = self.lost;
        match self.writer {
            Writer::Separate { mut encoder, compressor, returned, is_compressed } => {
                let size = if is_compressed { encoder.size()? } else { 0 };
                let (trailer, losses) = encoder.finish()?;
                add(&mut lost, losses);
                if let Some(tap) = &self.tap {
                    tap.write(&trailer);
                }
                let raw_bytes = size.max(returned + trailer.len() as u64);
                Ok(FinishedEncoding { ending: compressed(compressor, trailer)?, raw_bytes, lost })
            }
            Writer::Packed(object) => {
                let (ending, raw_bytes, losses) = object.finish()?;
                add(&mut lost, losses);
                Ok(FinishedEncoding { ending, raw_bytes, lost })
            }
        }
    }
}

/// Counts the losses that a stage reports.
fn add(lost: &mut LostValues, losses: Vec<Loss>) {
    for Loss { column, count, example, reason } in losses {
        lost.add(column, LostColumn { count, example, reason });
    }
}

/// Compresses the last bytes of an encoder.
fn compressed(compressor: Option<Box<CompressedObject>>, mut trailer: Vec<u8>) -> Result<Ending, StageError> {
    let Some(mut compressor) = compressor else { return Ok(Ending { header: vec![], trailer }) };
    if !trailer.is_empty() {
        trailer = compressor.push(&trailer)?;
    }
    let mut ending = compressor.finish()?;
    trailer.append(&mut ending.trailer);
    Ok(Ending { header: ending.header, trailer })
}

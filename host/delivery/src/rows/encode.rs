//! Turns the logs of a shard into blocks of rows.
//!
//! The blocks are a function of the range, the block size, the stages, their configurations and the table: an attempt that
//! begins anew makes the same blocks.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::engine::error::PlanError;
use crate::pipeline::PipelineError;
use crate::pipeline::pieces::{Piece, transform};
use crate::pipeline::transforms::{TransformError, Transforms};
use crate::rows::dirty::{DirtyRow, DirtyRows};
use logship_config::column_mapping::ColumnMapping;
use logship_config::rule::StageSpec;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_registry::Registry;
use logship_runtime::stage::{
    Identity, Positions, RowEncoderStage, RowSession, Rows, StageError, Table, TransformingSession,
};
use logship_source::shard_reader::{Slice, SourceError};

/// Transformers and a row encoder, checked together with a table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RowEncoding {
    transforms: Transforms,
    stage: Arc<RowEncoderStage>,
    settings: Map<String, Value>,
    config: Arc<str>,
    table: Arc<Table>,
}

/// An error of the stages that make rows, when they are put together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowEncodingError {
    /// A transformer doesn't exist, or rejects its configuration.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The row encoder doesn't exist, or rejects its configuration or the table.
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// An error of making a block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The logs can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The logs of another service can't be read.
    #[error("{0}")]
    Remote(String),
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl From<RowEncodingError> for PlanError {
    fn from(error: RowEncodingError) -> Self {
        match error {
            RowEncodingError::Transform(error) => PipelineError::Transform(error).into(),
            RowEncodingError::Stage(error) => PipelineError::Stage(error).into(),
        }
    }
}

impl RowEncoding {
    /// Loads the stages and lets each check its configuration, and the row encoder the table. `settings` are those of the
    /// row encoder, without `columns`.
    ///
    /// # Errors
    /// For the first stage that does not exist, or that rejects its configuration or the table.
    pub fn new(
        registry: &Registry,
        (encoder, transformers): (&str, &[StageSpec]),
        mut settings: Map<String, Value>,
        columns: &ColumnMapping,
        table: Table,
    ) -> Result<Self, RowEncodingError> {
        settings.insert("columns".into(), columns.stage_columns());
        let transforms = Transforms::new(registry, transformers)?;
        let stage = registry.row_encoder(encoder)?;
        let config: Arc<str> = Value::from(settings.clone()).to_string().into();
        stage.open(&config, &table)?;
        Ok(Self { transforms, stage, settings, config, table: Arc::new(table) })
    }

    /// Returns the row encoder and the transformers, pinned by digest, for [`new`](Self::new).
    pub fn pinned(&self) -> (String, Vec<StageSpec>) {
        (format!("{DIGEST_PREFIX}{}", self.stage.identity().digest()), self.transforms.pinned())
    }

    /// Returns the identity of the row encoder.
    pub fn encoder(&self) -> &Identity {
        self.stage.identity()
    }

    /// Returns the stages, in the order in which logs pass them.
    pub fn stages(&self) -> impl Iterator<Item = &Identity> {
        self.transforms.stages().chain([self.stage.identity()])
    }

    /// Returns the configuration of the row encoder.
    pub fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// Returns the table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Opens the transformers.
    ///
    /// # Errors
    /// If a stage rejects its configuration, or any error of a call.
    pub(super) fn open_transformers(&self) -> Result<Vec<TransformingSession>, StageError> {
        self.transforms.open()
    }

    /// Opens the row encoder for a block.
    ///
    /// # Errors
    /// If the stage rejects its configuration or the table, or any error of a call.
    pub(super) fn open_encoder(&self) -> Result<RowSession, StageError> {
        self.stage.open(&self.config, &self.table)
    }

    /// Opens the stages for the logs of one shard.
    ///
    /// # Errors
    /// If a stage rejects its configuration or the table, or any error of a call.
    pub fn open(&self, shard: u32) -> Result<RowWriter, StageError> {
        let (transformers, encoder) = (self.transforms.open()?, self.stage.open(&self.config, &self.table)?);
        Ok(RowWriter { shard, transformers, encoder })
    }
}

/// Encodes logs of a shard as rows of one block.
#[derive(Debug)]
pub struct RowWriter {
    shard: u32,
    transformers: Vec<TransformingSession>,
    encoder: RowSession,
}

impl RowWriter {
    /// Encodes the logs of a slice. Returns the rows, whose `logs` are indexes of the transformed logs, and the dirty
    /// rows.
    ///
    /// # Errors
    /// Any error of a stage. The writer is unusable afterwards.
    pub fn push(&mut self, slice: &Slice) -> Result<(Vec<Rows>, Vec<DirtyRow>), StageError> {
        let (pieces, dirty) = self.push_pieces(slice)?;
        Ok((pieces.into_iter().map(|made| made.rows).collect(), dirty))
    }

    /// As [`push`](Self::push). Returns with the rows the logs that they are of.
    pub(crate) fn push_pieces<'s>(
        &mut self,
        slice: &'s Slice,
    ) -> Result<(Vec<EncodedPiece<'s>>, Vec<DirtyRow>), StageError> {
        let mut dirty = DirtyRows::of(slice);
        let mut reject = |piece: &Piece<'_>, log: usize, reason: &str| dirty.reject(piece, log, reason);
        let pieces = transform(&mut self.transformers, &slice.batch, &mut reject)?;
        let positions = positions(slice, self.shard);
        let mut made = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let own = piece.origins.as_deref().map(|logs| select(&positions, logs));
            let rows = self.encoder.push(&piece.batch, own.as_ref().unwrap_or(&positions))?;
            dirty.add(&piece, &rows.dirty);
            made.push(EncodedPiece { piece, rows });
        }
        Ok((made, dirty.finish()))
    }

    /// Finishes the block. Returns its last bytes.
    ///
    /// # Errors
    /// Any error of the row encoder.
    pub fn finish(self) -> Result<Vec<u8>, StageError> {
        self.encoder.finish()
    }
}

/// The rows of transformed logs.
#[derive(Debug)]
pub(crate) struct EncodedPiece<'s> {
    piece: Piece<'s>,
    pub(crate) rows: Rows,
}

impl EncodedPiece<'_> {
    /// Returns the number of logs of the slice that the piece has.
    pub(crate) fn represented(&self) -> usize {
        self.piece.represented()
    }

    /// Returns a row that the destination refuses, as a dirty row.
    pub(crate) fn refused(&self, slice: &Slice, row: usize, code: &str, reason: &str) -> DirtyRow {
        let log = self.rows.logs.get(row).map_or(row, |log| *log as usize);
        DirtyRow::of(slice, &self.piece, log, code, reason)
    }

    /// Returns true if a transformer made several logs of one, which then have the same position.
    pub(crate) fn has_repeated_positions(&self) -> bool {
        self.represented() < self.piece.batch.len()
    }
}

/// Returns the positions of the logs of a slice.
pub(super) fn positions(slice: &Slice, shard: u32) -> Positions {
    let logs = slice.batch.len();
    let mut positions = Positions {
        shard,
        cursors: Vec::with_capacity(logs),
        indexes: Vec::with_capacity(logs),
        receive_times: Vec::with_capacity(logs),
    };
    for ((cursor, count), received) in slice.groups.iter().zip(&slice.receive_times) {
        positions.cursors.extend((0..*count).map(|_| *cursor));
        positions.indexes.extend(0..*count);
        // Unix seconds until 2106.
        positions.receive_times.extend((0..*count).map(|_| *received as u32));
    }
    positions
}

/// Returns the positions of some logs.
pub(super) fn select(positions: &Positions, logs: &[u32]) -> Positions {
    let Positions { shard, cursors, indexes, receive_times } = positions;
    let logs = || logs.iter().map(|&log| log as usize);
    Positions {
        shard: *shard,
        cursors: logs().map(|log| cursors[log]).collect(),
        indexes: logs().map(|log| indexes[log]).collect(),
        receive_times: logs().map(|log| receive_times[log]).collect(),
    }
}

/// A block of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The position of its first log group.
    pub begin: u64,
    /// The position after its last log group.
    pub end: u64,
    /// The bytes: the body of an upload.
    pub bytes: Vec<u8>,
    /// The number of rows. A block may have dirty rows only.
    pub rows: u64,
    /// The bytes of its logs.
    pub raw_bytes: u64,
    /// The dirty rows.
    pub dirty: Vec<DirtyRow>,
}

/// Makes the blocks of a range of a shard.
#[derive(Debug)]
pub struct BlockEncoder {
    encoding: RowEncoding,
    shard: u32,
    next: u64,
    end: u64,
    block_bytes: usize,
}

impl BlockEncoder {
    /// Begins at the position `begin`. A block is full when its logs or its rows have `block_bytes`, so the boundaries
    /// follow from `begin` and `block_bytes`.
    pub fn new(encoding: RowEncoding, shard: u32, (begin, end): (u64, u64), block_bytes: usize) -> Self {
        Self { encoding, shard, next: begin, end, block_bytes }
    }

    /// Makes the next block from the logs that `read` returns for a position: complete log groups before the range's end,
    /// at least one. The same position must give the same logs. Returns `None` at the end of the range. Blocks.
    ///
    /// # Errors
    /// If the logs can't be read, or a stage fails.
    pub fn next_block(
        &mut self,
        mut read: impl FnMut(u64) -> Result<Slice, BlockError>,
    ) -> Result<Option<Block>, BlockError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let mut writer = self.encoding.open(self.shard)?;
        let mut block =
            Block { begin: self.next, end: self.next, bytes: vec![], rows: 0, raw_bytes: 0, dirty: vec![] };
        while block.end < self.end
            && block.bytes.len() < self.block_bytes
            && (block.raw_bytes as usize) < self.block_bytes
        {
            let slice = read(block.end)?;
            block.add(&slice, writer.push(&slice)?);
        }
        block.bytes.extend(writer.finish()?);
        self.next = block.end;
        Ok(Some(block))
    }
}

impl Block {
    fn add(&mut self, slice: &Slice, (made, dirty): (Vec<Rows>, Vec<DirtyRow>)) {
        for rows in made {
            self.bytes.extend_from_slice(&rows.bytes);
            self.rows += u64::from(rows.count);
        }
        self.dirty.extend(dirty);
        self.raw_bytes += slice.batch.bytes() as u64;
        self.end = slice.next;
    }
}

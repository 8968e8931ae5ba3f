//! Logs become blocks of partitions. The blocks are a function of the logs of the task, the plan and the schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use logship_batch::batch::LogBatch;
use logship_logstore::{LostValues, ManifestEntry, ObjectManifest};
use logship_runtime::stage::{DirtyValue, Positions, RowSession, TransformingSession};
use logship_source::shard_reader::Slice;
use sha2::{Digest, Sha256};

use super::route::Route;
use crate::engine::error::TaskError;
use crate::pipeline::pieces::{Piece, transform};
use crate::rows::DirtyRow;
use crate::rows::dirty::DirtyRows;
use crate::rows::encode::{RowEncoding, positions, select};

/// Bytes of rows, or of their logs, that end a block.
const BLOCK_BYTES: usize = 32 << 20;

/// Bytes of rows of all open blocks at which the largest is ended.
const OPEN_BYTES: usize = 64 << 20;

/// The most open blocks. Each has an instance of the row encoder.
const MAX_OPEN: usize = 16;

/// Where blocks go.
pub(super) trait BlockSink {
    /// Takes a block of a partition. Blocks are numbered from 0.
    fn put(&mut self, partition: &str, block: u32, bytes: Vec<u8>) -> Result<(), TaskError>;
}

/// The blocks of a task.
pub(super) struct Blocks {
    encoding: RowEncoding,
    shard: u32,
    transformers: Vec<TransformingSession>,
    route: Route,
    /// By partition.
    partitions: BTreeMap<String, Partition>,
    pub(super) lost: LostValues,
    /// Logs that the transformers filtered.
    pub(super) filtered: u64,
}

/// The rows of a partition.
#[derive(Default)]
struct Partition {
    open: Option<OpenBlock>,
    /// The number of blocks.
    blocks: u32,
    rows: u64,
    raw_bytes: u64,
    bytes: u64,
    digest: Sha256,
}

/// A block that takes rows.
struct OpenBlock {
    encoder: RowSession,
    bytes: Vec<u8>,
    rows: u64,
    raw_bytes: usize,
}

impl Blocks {
    pub(super) fn new(encoding: RowEncoding, route: Route, shard: u32) -> Result<Self, TaskError> {
        let transformers = encoding.open_transformers()?;
        let (partitions, lost) = (BTreeMap::new(), LostValues::default());
        Ok(Self { encoding, shard, transformers, route, partitions, lost, filtered: 0 })
    }

    /// Adds the logs of a slice, and uploads full blocks. Returns the dirty rows.
    pub(super) fn add(
        &mut self,
        slice: &Slice,
        upload: &mut impl BlockSink,
    ) -> Result<Vec<DirtyRow>, TaskError> {
        let mut dirty = DirtyRows::of(slice);
        let mut rejected = 0;
        let mut reject = |piece: &Piece<'_>, log: usize, reason: &str| {
            rejected += 1;
            dirty.reject(piece, log, reason);
        };
        let pieces = transform(&mut self.transformers, &slice.batch, &mut reject)?;
        let kept: usize = pieces.iter().map(Piece::represented).sum();
        self.filtered += slice.batch.len().saturating_sub(kept + rejected) as u64;
        let all = positions(slice, self.shard);
        for piece in &pieces {
            let own = piece.origins.as_deref().map(|logs| select(&all, logs));
            self.add_piece(piece, own.as_ref().unwrap_or(&all), &mut dirty, upload)?;
        }
        self.end_blocks(OPEN_BYTES, MAX_OPEN, upload)?;
        let rows = dirty.finish();
        rows.iter().for_each(|row| row.count(row.position.to_string(), &mut self.lost));
        Ok(rows)
    }

    fn add_piece(
        &mut self,
        piece: &Piece<'_>,
        positions: &Positions,
        dirty: &mut DirtyRows<'_>,
        upload: &mut impl BlockSink,
    ) -> Result<(), TaskError> {
        let routed = self.route.route(&piece.batch);
        dirty.add(piece, &routed.dirty_values());
        for (partition, logs) in routed.partitions {
            let whole = logs.len() == piece.batch.len();
            let (part, positions) = match whole {
                true => (None, Cow::Borrowed(positions)),
                false => {
                    let origins = logs.iter().map(|&log| piece.origin(log as usize)).collect();
                    let batch = Cow::Owned(piece.batch.select(&logs));
                    (Some(Piece { batch, origins: Some(origins) }), Cow::Owned(select(positions, &logs)))
                }
            };
            let part = part.as_ref().unwrap_or(piece);
            if !self.is_open(&partition) {
                self.end_blocks(OPEN_BYTES, MAX_OPEN - 1, upload)?;
            }
            let values = self.push(&partition, &part.batch, &positions)?;
            dirty.add(part, &values);
            if self.partitions[&partition].is_full() {
                self.end_block(&partition, upload)?;
            }
        }
        Ok(())
    }

    /// Encodes logs of a partition. Returns the dirty values.
    fn push(
        &mut self,
        partition: &str,
        batch: &LogBatch,
        positions: &Positions,
    ) -> Result<Vec<DirtyValue>, TaskError> {
        let rows = self.partitions.entry(partition.to_owned()).or_default();
        let open = match &mut rows.open {
            Some(open) => open,
            none => none.insert(OpenBlock {
                encoder: self.encoding.open_encoder()?,
                bytes: vec![],
                rows: 0,
                raw_bytes: 0,
            }),
        };
        let made = open.encoder.push(batch, positions)?;
        open.bytes.extend_from_slice(&made.bytes);
        open.rows += u64::from(made.count);
        open.raw_bytes += batch.bytes();
        Ok(made.dirty)
    }

    fn is_open(&self, partition: &str) -> bool {
        self.partitions.get(partition).is_some_and(|rows| rows.open.is_some())
    }

    /// Ends the largest blocks while all together have more than these bytes, or are more than `most`.
    fn end_blocks(
        &mut self,
        bytes: usize,
        most: usize,
        upload: &mut impl BlockSink,
    ) -> Result<(), TaskError> {
        let size =
            |rows: &Partition| rows.open.as_ref().map_or(0, |open| open.bytes.len().max(open.raw_bytes));
        loop {
            let open = || self.partitions.iter().filter(|(_, rows)| rows.open.is_some());
            if open().count() <= most && open().map(|(_, rows)| size(rows)).sum::<usize>() <= bytes {
                break;
            }
            let Some((partition, _)) = open().max_by_key(|(_, rows)| size(rows)) else { break };
            let partition = partition.clone();
            self.end_block(&partition, upload)?;
        }
        Ok(())
    }

    /// Ends the block of a partition, and uploads it.
    fn end_block(&mut self, partition: &str, upload: &mut impl BlockSink) -> Result<(), TaskError> {
        let Some(rows) = self.partitions.get_mut(partition) else { return Ok(()) };
        let Some(OpenBlock { encoder, mut bytes, rows: count, raw_bytes }) = rows.open.take() else {
            return Ok(());
        };
        bytes.extend(encoder.finish()?);
        // All of its logs are dirty.
        if count == 0 {
            return Ok(());
        }
        rows.digest.update(&bytes);
        let block = rows.blocks;
        rows.blocks += 1;
        rows.rows += count;
        rows.raw_bytes += raw_bytes as u64;
        rows.bytes += bytes.len() as u64;
        upload.put(partition, block, bytes)
    }

    /// Ends all blocks. Returns the manifest, with an entry for each partition, and the number of blocks by partition.
    pub(super) fn end_all(
        &mut self,
        table: &str,
        upload: &mut impl BlockSink,
    ) -> Result<(ObjectManifest, Vec<(String, u32)>), TaskError> {
        let partitions: Vec<String> = self.partitions.keys().cloned().collect();
        for partition in &partitions {
            self.end_block(partition, upload)?;
        }
        let has_rows = |(_, rows): &(&String, &Partition)| rows.blocks > 0;
        let entry = |(partition, rows): (&String, &Partition)| ManifestEntry {
            object: if partition.is_empty() { table.to_owned() } else { format!("{table}/{partition}") },
            rows: rows.rows,
            raw_bytes: rows.raw_bytes,
            stored_bytes: rows.bytes,
            sha256: hex::encode(rows.digest.clone().finalize()),
        };
        let entries = self.partitions.iter().filter(has_rows).map(entry).collect();
        let blocks = self.partitions.iter().filter(has_rows).map(|(name, rows)| (name.clone(), rows.blocks));
        let blocks = blocks.collect();
        Ok((ObjectManifest::from_entries(entries), blocks))
    }
}

impl Partition {
    fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.bytes.len().max(open.raw_bytes) >= BLOCK_BYTES)
    }
}

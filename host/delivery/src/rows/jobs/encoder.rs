//! Blocks from shards of the store or of other services, made by the row encoder of a plan.

use std::sync::Arc;

use logship_config::stage_name::DIGEST_PREFIX;
use logship_logstore::{Limits, LogPosition, Shard, Store};
use logship_registry::Registry;
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, Slice, SourceError};
use tokio::runtime::Handle;

use super::blocks::{Block, BlockReader, BlockReaders};
use super::error::RunError;
use super::plan::{RemoteSource, RunPlan, ShardRange};
use super::planner::{Logs, find_logs};
use super::progress::ShardProgress;
use super::remote::RemoteShard;
use crate::rows::encode_maxcompute;
use crate::rows::{BlockEncoder, BlockError, RowEncoding, Sources};

/// The built-in row encoder.
const STAGE: &str = "encode-maxcompute";

/// The number of log groups of the first pull of another service.
const FIRST_PULL: usize = 100;

/// Makes blocks with the row encoders of a registry.
#[derive(Debug)]
pub struct StageBlocks {
    registry: Registry,
    store: Arc<Store>,
    sources: Arc<dyn Sources>,
    runtime: Handle,
}

impl StageBlocks {
    /// Creates the maker of blocks from a store, and from the data sources of other services.
    pub fn new(registry: Registry, store: Arc<Store>, sources: Arc<dyn Sources>, runtime: Handle) -> Self {
        Self { registry, store, sources, runtime }
    }

    /// Opens a shard of a plan.
    fn logs(&self, plan: &RunPlan, range: ShardRange) -> Result<ShardLogs, RunError> {
        let Some(RemoteSource { project, name }) = &plan.remote else {
            let catalog = self.store.catalog();
            let shard = Arc::clone(catalog.logstore(&plan.project, &plan.logstore)?.shard(range.shard)?);
            return Ok(ShardLogs::Store { store: Arc::clone(&self.store), shard, reader: Box::default() });
        };
        match find_logs(&*self.sources, project, name)? {
            Logs::Remote { client, .. } => Ok(ShardLogs::Remote(Box::new(RemoteShard {
                client: *client,
                logstore: plan.logstore.clone(),
                shard: range.shard,
                end: range.end,
                runtime: self.runtime.clone(),
                count: FIRST_PULL,
            }))),
            Logs::Local(_) => {
                let problem = "was at another endpoint when the run began: rerun it".to_owned();
                Err(RunError::Source { name: name.clone(), problem })
            }
        }
    }
}

/// Opens the row encoder of a plan.
///
/// # Errors
/// If it does not exist, or rejects the table or the mapping.
pub(crate) fn encoding(registry: &Registry, plan: &RunPlan) -> Result<RowEncoding, RunError> {
    let table = encode_maxcompute::table(&plan.schema);
    let stage = (plan.stage.as_str(), &[][..]);
    let mut settings = encode_maxcompute::settings(plan.protocol);
    settings.insert("utc-offset".into(), plan.utc_offset.as_str().into());
    RowEncoding::new(registry, stage, settings, &plan.mapping, table)
        .map_err(|error| RunError::Stage(error.to_string()))
}

impl BlockReaders for StageBlocks {
    fn stage(&self) -> Result<String, RunError> {
        let stage = self.registry.row_encoder(STAGE).map_err(|error| RunError::Stage(error.to_string()))?;
        Ok(format!("{DIGEST_PREFIX}{}", stage.identity().digest()))
    }

    fn check(&self, plan: &RunPlan) -> Result<(), RunError> {
        encoding(&self.registry, plan).map(drop)
    }

    fn sample(&self, plan: &RunPlan, ordinal: usize, groups: usize) -> Result<Slice, RunError> {
        let range = plan.shards[ordinal];
        match self.logs(plan, range)? {
            ShardLogs::Store { store, shard, mut reader } => {
                let limits = Limits { groups, bytes: CHUNK_BYTES, end: range.end };
                Ok(reader.read(&store, &shard, range.begin, limits)?)
            }
            ShardLogs::Remote(mut remote) => {
                remote.count = groups.min(FIRST_PULL);
                remote.read(range.begin).map_err(|error| run_error(error, range.shard))
            }
        }
    }

    fn open(
        &self,
        plan: &RunPlan,
        ordinal: usize,
        done: &ShardProgress,
    ) -> Result<Box<dyn BlockReader>, RunError> {
        let range = plan.shards[ordinal];
        // 32-bit machines can't have larger blocks.
        let block_bytes = usize::try_from(plan.block_bytes).unwrap_or(usize::MAX);
        let (encoding, place) = (encoding(&self.registry, plan)?, (done.cursor, range.end));
        let encoder = BlockEncoder::new(encoding, range.shard, place, block_bytes);
        Ok(Box::new(ShardBlocks { encoder, logs: self.logs(plan, range)?, range }))
    }
}

/// The logs of a shard.
enum ShardLogs {
    /// In the store.
    Store { store: Arc<Store>, shard: Arc<Shard>, reader: Box<ShardReader> },
    /// At another endpoint.
    Remote(Box<RemoteShard>),
}

/// The blocks of a shard.
struct ShardBlocks {
    encoder: BlockEncoder,
    logs: ShardLogs,
    range: ShardRange,
}

impl BlockReader for ShardBlocks {
    fn next_block(&mut self) -> Result<Option<Block>, RunError> {
        let Self { encoder, logs, range } = self;
        let made = encoder.next_block(|from| match logs {
            ShardLogs::Store { store, shard, reader } => read(store, shard, reader, from, range.end),
            ShardLogs::Remote(remote) => remote.read(from),
        });
        let Some(block) = made.map_err(|error| run_error(error, range.shard))? else { return Ok(None) };
        let log_bytes = match logs {
            // As the total of the plan counts them.
            ShardLogs::Store { store, shard, .. } => store.bytes_between(shard, block.begin, block.end)?,
            ShardLogs::Remote(_) => block.raw_bytes,
        };
        Ok(Some(Block {
            end: LogPosition::at(block.end),
            bytes: block.bytes.into(),
            rows: block.rows,
            log_bytes,
            dirty: block.dirty.into_iter().map(|row| row.letter).collect(),
        }))
    }
}

fn read(
    store: &Store,
    shard: &Shard,
    reader: &mut ShardReader,
    from: u64,
    end: u64,
) -> Result<Slice, BlockError> {
    // Positions have a gap where another generation of the store begins.
    let from = shard.resolve(from);
    let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end };
    let slice = reader.read(store, shard, from, limits)?;
    match slice.groups.first() {
        Some((first, _)) if *first == from => Ok(slice),
        first => Err(SourceError::Deleted { from, to: first.map_or(end, |(first, _)| *first) }.into()),
    }
}

fn run_error(error: BlockError, shard: u32) -> RunError {
    match error {
        BlockError::Source(SourceError::Deleted { from, to }) => RunError::Expired { shard, from, to },
        BlockError::Source(error) => RunError::Logs(error),
        error => RunError::Stage(error.to_string()),
    }
}

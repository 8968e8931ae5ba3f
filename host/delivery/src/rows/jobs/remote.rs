//! Logs of other services: another logship, or Log Service itself. Pulled as the vendor's own reader does.

use logship_batch::batch::BatchBuilder;
use logship_client::{Client, ClientError, Pulled};
use logship_config::log_hub::LogHubConfig;
use logship_sls::cursor::Cursor;
use logship_sls::log_group::groups;
use logship_source::shard_reader::{CHUNK_BYTES, Slice};
use serde_json::Value;
use tokio::runtime::Handle;

use super::error::RunError;
use super::plan::{ShardRange, Window};
use crate::rows::BlockError;
use crate::rows::sources::log_hub_client;

/// The largest number of log groups of a pull.
const MAX_GROUPS: usize = 1000;

/// The tag with the time of arrival, in Unix seconds.
const RECEIVE_TIME: &str = "__receive_time__";

/// Opens a client of a data source.
pub(super) fn client(name: &str, config: &LogHubConfig) -> Result<Client, RunError> {
    let wrong = |problem: String| RunError::Source { name: name.into(), problem };
    let client = log_hub_client(config).map_err(wrong)?;
    // A project's admin may have named any server within the operator's network.
    Ok(client.without_answers())
}

/// Returns the range of each shard that has logs in the window.
pub(super) async fn ranges(
    client: &Client,
    logstore: &str,
    window: Window,
) -> Result<Vec<ShardRange>, RunError> {
    let shards: Value = client.get(&format!("/logstores/{logstore}/shards"), &[]).await?;
    let mut ranges = vec![];
    for shard in shards.as_array().into_iter().flatten() {
        let number = shard["shardID"].as_u64().and_then(|number| number.try_into().ok());
        let invalid = || client.invalid_reply(200, "a shard has no shardID");
        let shard: u32 = number.ok_or_else(invalid)?;
        let begin = client.cursor(logstore, shard, &window.begin.to_string()).await?.0;
        let end = client.cursor(logstore, shard, &window.end.to_string()).await?.0;
        if begin < end {
            ranges.push(ShardRange { shard, begin, end, bytes: 0 });
        }
    }
    Ok(ranges)
}

/// Pulls the logs of a shard.
pub(super) struct RemoteShard {
    pub(super) client: Client,
    pub(super) logstore: String,
    pub(super) shard: u32,
    pub(super) end: u64,
    pub(super) runtime: Handle,
    /// The number of log groups of the next pull. It follows from their size, so that a chunk stays small.
    pub(super) count: usize,
}

impl RemoteShard {
    /// Pulls the next log groups. Blocks.
    pub(super) fn read(&mut self, from: u64) -> Result<Slice, BlockError> {
        let mut from = from;
        loop {
            let pulled = self.pull(from)?;
            if pulled.groups > 0 || pulled.next.0 >= self.end {
                return self.slice(from, &pulled);
            }
            if pulled.next.0 <= from {
                let problem = format!(
                    "shard {} has no logs at cursor {from}, before the end of the window at {}",
                    self.shard, self.end
                );
                return Err(BlockError::Remote(problem));
            }
            from = pulled.next.0;
        }
    }

    /// Pulls about as many log groups as a chunk has.
    fn pull(&mut self, from: u64) -> Result<Pulled, BlockError> {
        loop {
            let (from, end) = (Cursor(from), Cursor(self.end));
            let pull = self.client.pull_range(&self.logstore, self.shard, (from, end), self.count);
            let pulled = self.runtime.block_on(pull).map_err(|error| remote_error(&error))?;
            let (count, bytes) = (self.count, pulled.list.len().max(1));
            let fitting = pulled.groups * CHUNK_BYTES / bytes;
            self.count = fitting.clamp(1, MAX_GROUPS);
            // A pull that is far too large is repeated with fewer groups.
            if bytes <= 2 * CHUNK_BYTES || pulled.groups <= 1 || self.count >= count {
                return Ok(pulled);
            }
        }
    }

    fn slice(&self, from: u64, pulled: &Pulled) -> Result<Slice, BlockError> {
        let (mut builder, mut found, mut received) = (BatchBuilder::default(), vec![], vec![]);
        let first = pulled.first_position.unwrap_or(from);
        for (number, group) in groups(&pulled.list).enumerate() {
            let group = group.map_err(|error| BlockError::Remote(error.to_string()))?;
            let before = builder.len();
            builder.log_group(group).map_err(|error| BlockError::Remote(error.to_string()))?;
            found.push((first + number as u64, (builder.len() - before) as u32));
        }
        let batch = builder.take();
        let mut log = 0;
        for (_, logs) in &found {
            let group = batch.log_groups.get(log).and_then(|&group| batch.groups.get(group as usize));
            let mut tags = group.into_iter().flat_map(|group| &group.tags);
            let tag = tags.rfind(|tag| tag.key == RECEIVE_TIME);
            received.push(tag.and_then(|tag| tag.value.parse().ok()).unwrap_or(0));
            log += *logs as usize;
        }
        let next = pulled.next.0.min(self.end);
        Ok(Slice { batch, groups: found, next, receive_times: received })
    }
}

fn remote_error(error: &ClientError) -> BlockError {
    BlockError::Remote(error.to_string())
}

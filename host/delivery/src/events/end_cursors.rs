//! End cursors, up to which a bounded consumer reads.

use std::collections::HashMap;

use logship_sls::cursor::Cursor;
use serde::Deserialize;

use crate::events::member::OLDEST;
use logship_client::{Client, ClientError};

/// The ends of a logstore's shards when a member started.
#[derive(Debug)]
pub(super) struct EndCursors {
    ends: HashMap<u32, Cursor>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    #[serde(rename = "shardID")]
    number: u32,
}

/// The group's checkpoint of a shard.
#[derive(Debug, Deserialize)]
pub(super) struct ShardCheckpoint {
    pub(super) shard: u32,
    pub(super) checkpoint: Option<String>,
}

impl EndCursors {
    /// Fetches the current ends of all shards.
    pub(super) async fn now(client: &Client, logstore: &str) -> Result<Self, ClientError> {
        let mut ends = HashMap::new();
        for shard in shards(client, logstore).await? {
            ends.insert(shard, client.cursor(logstore, shard, "end").await?);
        }
        Ok(Self { ends })
    }

    /// The end of a shard; `None` if the shard is newer.
    pub(super) fn end(&self, shard: u32) -> Option<Cursor> {
        self.ends.get(&shard).copied()
    }

    /// True if all logs up to the end cursors are delivered. `is_read` tells for which shards this member has done so;
    /// the group's checkpoints tell it for the others. A shard without a checkpoint counts from its oldest log.
    pub(super) async fn are_reached(
        &self,
        client: &Client,
        logstore: &str,
        group: &str,
        is_read: impl Fn(u32) -> bool,
    ) -> Result<bool, ClientError> {
        let unread = self.ends.iter().filter(|&(&shard, _)| !is_read(shard));
        let unread: Vec<(u32, Cursor)> = unread.map(|(&shard, &end)| (shard, end)).collect();
        if unread.is_empty() {
            return Ok(true);
        }
        let path = format!("/logstores/{logstore}/consumergroups/{group}");
        let saved: Vec<ShardCheckpoint> = client.get(&path, &[]).await?;
        let saved = |shard| saved.iter().find(|saved| saved.shard == shard)?.checkpoint.as_deref();
        // Deleted shards have no logs.
        let existing = shards(client, logstore).await?;
        for (shard, end) in unread.into_iter().filter(|(shard, _)| existing.contains(shard)) {
            let next = match saved(shard).filter(|saved| !saved.is_empty()).map(Cursor::decode) {
                Some(Ok(saved)) => saved,
                _ => client.cursor(logstore, shard, OLDEST).await?,
            };
            if next.0 < end.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The numbers of a logstore's shards.
pub(super) async fn shards(client: &Client, logstore: &str) -> Result<Vec<u32>, ClientError> {
    let shards: Vec<Shard> = client.get(&format!("/logstores/{logstore}/shards"), &[]).await?;
    Ok(shards.into_iter().map(|shard| shard.number).collect())
}

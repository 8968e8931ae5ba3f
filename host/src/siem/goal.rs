//! What a member of a consumer group reads before it ends, if it shall end.

use std::collections::HashMap;

use logship_sls::cursor::Cursor;
use serde::Deserialize;

use super::member::BEGIN;
use crate::client::{Client, ClientError};

/// Where the shards of a logstore ended when a member began.
#[derive(Debug)]
pub(super) struct Goal {
    ends: HashMap<u32, Cursor>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    #[serde(rename = "shardID")]
    number: u32,
}

/// How far the group is with a shard.
#[derive(Debug, Deserialize)]
pub(super) struct Saved {
    pub(super) shard: u32,
    pub(super) checkpoint: Option<String>,
}

impl Goal {
    /// The ends of all shards now.
    pub(super) async fn now(client: &Client, logstore: &str) -> Result<Self, ClientError> {
        let mut ends = HashMap::new();
        for shard in shards(client, logstore).await? {
            ends.insert(shard, client.cursor(logstore, shard, "end").await?);
        }
        Ok(Self { ends })
    }

    /// Where a shard ended. None of one that came later: nothing of it is asked for.
    pub(super) fn end(&self, shard: u32) -> Option<Cursor> {
        self.ends.get(&shard).copied()
    }

    /// Whether all that was there is delivered: that of the shards that `is_read` by this member, and that of all
    /// others by the word of the group, whose logs begin at their beginning where it has no word.
    pub(super) async fn is_reached(
        &self,
        client: &Client,
        logstore: &str,
        group: &str,
        is_read: impl Fn(u32) -> bool,
    ) -> Result<bool, ClientError> {
        let open = self.ends.iter().filter(|&(&shard, _)| !is_read(shard));
        let open: Vec<(u32, Cursor)> = open.map(|(&shard, &end)| (shard, end)).collect();
        if open.is_empty() {
            return Ok(true);
        }
        let path = format!("/logstores/{logstore}/consumergroups/{group}");
        let saved: Vec<Saved> = client.get(&path, &[]).await?;
        let saved = |shard| saved.iter().find(|saved| saved.shard == shard)?.checkpoint.as_deref();
        // Shards that are no more have no logs.
        let there = shards(client, logstore).await?;
        for (shard, end) in open.into_iter().filter(|(shard, _)| there.contains(shard)) {
            let next = match saved(shard).filter(|saved| !saved.is_empty()).map(Cursor::decode) {
                Some(Ok(saved)) => saved,
                _ => client.cursor(logstore, shard, BEGIN).await?,
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

//! The shards of a member of a consumer group: pulled, and their checkpoints saved with the group.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use logship_client::{ClientError, MAX_GROUPS};
use logship_sink::backoff::Backoff;
use logship_sls::cursor::Cursor;
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use crate::engine::stream::on_thread;
use crate::events::chunk::chunks;
use crate::events::delivery::{
    BATCH_BYTES, CheckpointStore, InFlightBatch, MemoryPermit, Reader, Sent, ShardRevoked,
};
use crate::events::end_cursors::EndCursors;
use crate::events::member::Member;

/// The shards of a member.
#[derive(Default)]
pub(super) struct Shards {
    pub(super) assigned: HashMap<u32, AssignedShard>,
    pub(super) deliveries: JoinSet<(u32, bool)>,
}

/// A shard that the service assigned.
pub(super) struct AssignedShard {
    stop: watch::Sender<bool>,
    /// True if the shard was read to its end cursor.
    pub(super) is_read: bool,
}

impl Shards {
    /// Stops reading the selected shards. In-flight batches are still delivered. Releases shards that were read to the
    /// end.
    pub(super) fn stop(&mut self, which: impl Fn(u32) -> bool) {
        self.assigned.retain(|&shard, assigned| {
            let stops = which(shard);
            if stops && !assigned.is_read && !assigned.stop.send_replace(true) {
                tracing::info!(shard, "shard revoked");
            }
            !(stops && assigned.is_read)
        });
    }

    /// Numbers of the assigned shards.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.assigned.keys().copied().collect()
    }

    /// Drops all shards with their in-flight batches.
    pub(super) async fn drop_all(&mut self) {
        self.deliveries.shutdown().await;
        self.assigned.clear();
    }

    /// Starts reading newly assigned shards.
    pub(super) fn start(
        &mut self,
        member: &Arc<Member>,
        assigned: &[u32],
        end_cursors: Option<&Arc<EndCursors>>,
    ) {
        for &shard in assigned {
            if self.assigned.contains_key(&shard) {
                continue;
            }
            let stop = watch::Sender::new(false);
            let (member, stopping) = (Arc::clone(member), stop.subscribe());
            let end_cursors = end_cursors.cloned();
            self.assigned.insert(shard, AssignedShard { stop, is_read: false });
            self.deliveries.spawn(async move {
                let read = AssertUnwindSafe(member.read(shard, end_cursors, stopping)).catch_unwind().await;
                if read.is_err() {
                    // The next heartbeat assigns it again, and reading restarts at the checkpoint.
                    tracing::error!(shard, "a delivery panicked: please report this bug of logship");
                }
                (shard, read.unwrap_or(false))
            });
        }
    }

    /// Handles the end of a shard's delivery. A shard that was read to its end cursor stays assigned, so that no other
    /// member reads it again.
    pub(super) fn finish(&mut self, ended: Result<(u32, bool), JoinError>) {
        let Ok((shard, is_read)) = ended else { return };
        match self.assigned.get_mut(&shard) {
            Some(assigned) if is_read => assigned.is_read = true,
            _ => drop(self.assigned.remove(&shard)),
        }
    }
}

/// A reader that pulls log groups from a shard.
pub(super) struct PullReader {
    pub(super) member: Arc<Member>,
    pub(super) shard: u32,
    pub(super) cursor: Cursor,
    /// The end cursor, if there is one.
    pub(super) end: Option<Cursor>,
    /// True if the last pull returned few logs.
    pub(super) is_paused: bool,
}

impl Reader for PullReader {
    type Mark = Cursor;

    async fn next(&mut self, memory: &Arc<Semaphore>) -> Result<Option<InFlightBatch<Cursor>>, ShardRevoked> {
        let mut backoff = Backoff::default();
        loop {
            if self.end.is_some_and(|end| self.cursor.0 >= end.0) {
                return Ok(None);
            }
            if std::mem::take(&mut self.is_paused) {
                sleep(self.member.membership.fetch).await;
            }
            let mut memory = MemoryPermit::take(memory).await;
            let logstore = &self.member.membership.logstore;
            match self.member.client.pull(logstore, self.shard, self.cursor, 0).await {
                Ok(pulled) => {
                    // Many small requests are expensive, for the receiver too.
                    self.is_paused = pulled.list.len() < BATCH_BYTES / 4 && pulled.groups < MAX_GROUPS;
                    self.log_deleted(pulled.first_position);
                    let (from, next) = (pulled.first_position.unwrap_or(self.cursor.0), pulled.next);
                    if pulled.groups == 0 {
                        backoff = Backoff::default();
                        if next == self.cursor {
                            self.is_paused = true;
                        }
                        self.cursor = next;
                        continue;
                    }
                    memory.shrink(pulled.list.len());
                    match on_thread(move || chunks(&pulled.list, from)).await {
                        Ok(chunks) => {
                            self.cursor = next;
                            return Ok(Some(InFlightBatch { chunks, mark: next, memory, formatters: None }));
                        }
                        Err(error) => {
                            let wait = backoff.next_delay();
                            tracing::error!(shard = self.shard, cursor = from, %error, ?wait, "can't parse pulled log groups; pulling again");
                            drop(memory);
                            sleep(wait).await;
                        }
                    }
                }
                Err(ClientError::Rejected(error)) if error.code == ErrorCode::ShardNotExist => {
                    // In-flight batches are still delivered.
                    tracing::warn!(
                        logstore,
                        shard = self.shard,
                        cursor = self.cursor.0,
                        "the shard was deleted: its unread logs are lost"
                    );
                    return Ok(None);
                }
                Err(ClientError::Rejected(error)) if error.code == ErrorCode::InvalidCursor => {
                    self.skip_to_oldest(&error.to_string()).await;
                }
                Err(error) => {
                    drop(memory);
                    self.member.back_off(&mut backoff, &error).await;
                }
            }
        }
    }
}

impl PullReader {
    /// Logs an error if logs were deleted before they were read.
    fn log_deleted(&self, first: Option<u64>) {
        let Some(first) = first.filter(|first| *first > self.cursor.0) else { return };
        tracing::error!(
            logstore = self.member.membership.logstore,
            shard = self.shard,
            cursor = self.cursor.0,
            oldest = first,
            "{DELETED}"
        );
    }

    /// Continues with the oldest logs after others were deleted. Logs an error.
    async fn skip_to_oldest(&mut self, error: &str) {
        let logstore = &self.member.membership.logstore;
        let oldest = self.member.retry(|| self.member.client.cursor(logstore, self.shard, "begin")).await;
        tracing::error!(
            logstore,
            shard = self.shard,
            cursor = self.cursor.0,
            oldest = oldest.0,
            error,
            "{DELETED}"
        );
        self.cursor = oldest;
        self.is_paused = true;
    }
}

const DELETED: &str =
    "the logstore's time to live deleted logs before they were read; reading continues with the oldest";

/// Saves checkpoints with the consumer group.
pub(super) struct GroupCheckpoints {
    pub(super) member: Arc<Member>,
    pub(super) shard: u32,
}

impl CheckpointStore<Cursor> for GroupCheckpoints {
    async fn save(&mut self, mark: Cursor, _sent: Sent) -> Result<(), ShardRevoked> {
        let member = &self.member;
        let path = format!("{}/{}", member.group_path(), member.membership.group);
        let query = [
            ("type", "checkpoint"),
            ("consumer", member.membership.consumer.as_str()),
            ("forceSuccess", "false"),
        ];
        let body = json!({ "shard": self.shard, "checkpoint": mark.encode() });
        let mut backoff = Backoff::default();
        loop {
            let headers = vec![member.stats_header()];
            match member.client.send_json_with(Method::POST, &path, &query, headers, &body).await {
                Ok(_) => return Ok(()),
                Err(ClientError::Rejected(error)) if is_revoked(&error.code) => {
                    tracing::warn!(shard = self.shard, %error, "the shard was reassigned to another consumer");
                    return Err(ShardRevoked);
                }
                // Later batches are still delivered.
                Err(ClientError::Rejected(error)) if error.code == ErrorCode::ShardNotExist => return Ok(()),
                // A quota, or a key rotation. Giving up would resend all in-flight batches.
                Err(error) => member.back_off(&mut backoff, &error).await,
            }
        }
    }
}

/// True if the error of a checkpoint means that the shard was reassigned.
fn is_revoked(code: &ErrorCode) -> bool {
    use ErrorCode::{ConsumerGroupNotExist, ConsumerNotExist, ConsumerNotMatch};
    matches!(code, ConsumerNotMatch | ConsumerNotExist | ConsumerGroupNotExist)
}

//! The reader of a rule: batches of a shard of the store, each with its task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use logship_logstore::{Limits, LogPosition, Shard, StoreError, Task, TaskId};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::events::chunk::{Chunk, Position};
use crate::events::delivery::{
    BATCH_BYTES, Formatters, InFlightBatch, MemoryPermit, Reader, ShardRevoked, on_thread,
};
use crate::events::rules::worker::{InFlightTask, RuleWorker};
use logship_sink::backoff::Backoff;
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, SourceError};

/// Interval of checks for new logs in an idle shard.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The identity of an in-flight task.
pub(super) struct Mark {
    pub(super) id: TaskId,
    pub(super) end: LogPosition,
}

/// A reader of a shard of the store.
pub(super) struct StoreReader {
    pub(super) worker: Arc<RuleWorker>,
    pub(super) shard: Arc<Shard>,
    pub(super) next: LogPosition,
    /// Unfinished tasks that come first.
    pub(super) pending: VecDeque<Task>,
    pub(super) reader: Option<ShardReader>,
}

/// Logs that were read.
struct Read {
    chunks: Vec<Chunk>,
    next: LogPosition,
    received: u64,
    bytes: usize,
}

/// A task and its logs.
struct TaskBatch {
    read: Read,
    id: TaskId,
    /// The task's own formatters, if not the current ones.
    formatters: Option<Arc<Formatters>>,
}

impl Reader for StoreReader {
    type Mark = Mark;

    async fn next(&mut self, memory: &Arc<Semaphore>) -> Result<Option<InFlightBatch<Mark>>, ShardRevoked> {
        let mut backoff = Backoff::default();
        loop {
            let is_due = !self.pending.is_empty() || self.next.cursor < self.shard.end();
            if !is_due {
                sleep(POLL_INTERVAL).await;
                continue;
            }
            let mut memory = MemoryPermit::take(memory).await;
            // Checked for each batch, so that logs put after a change are never sent by the old rule or stage.
            if !self.worker.is_current().await {
                return Ok(None);
            }
            match self.next_batch().await {
                Ok(Some(TaskBatch { read, id, formatters })) => {
                    memory.shrink(read.bytes);
                    let own =
                        formatters.clone().unwrap_or_else(|| Arc::clone(&self.worker.delivery.formatters));
                    let task = InFlightTask { started: Instant::now(), is_marked: false, formatters: own };
                    self.worker.in_flight().insert(id, task);
                    let mark = Mark { id, end: read.next };
                    return Ok(Some(InFlightBatch { chunks: read.chunks, mark, memory, formatters }));
                }
                // A stage was swapped just now. The next iteration checks if it is this rule's.
                Ok(None) | Err(BatchError::Store(StoreError::StagesChanged)) => {}
                Err(BatchError::Store(
                    StoreError::NoRule(_) | StoreError::NoLogstore(_) | StoreError::Closed,
                )) => {
                    return Err(ShardRevoked);
                }
                Err(error) => {
                    drop(memory);
                    let wait = backoff.next_delay();
                    self.worker
                        .delivery
                        .receiver
                        .health()
                        .record_failure(format!("shard {}: {error}", self.shard.number), wait);
                    sleep(wait).await;
                }
            }
        }
    }
}

/// An error in reading a batch.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl StoreReader {
    /// Reads the next batch and creates its task.
    async fn next_batch(&mut self) -> Result<Option<TaskBatch>, BatchError> {
        let store = Arc::clone(&self.worker.rules.store);
        if let Some(task) = self.pending.front().cloned() {
            if task.begin.cursor < self.shard.begin() {
                self.expire(&task).await?;
                self.pending.pop_front();
                return Ok(None);
            }
            let read = self.read(task.begin, task.end.end_cursor(), usize::MAX).await?;
            let formatters = self.worker.formatters_of(&task).await?;
            store.start_attempt(task.id).await?;
            self.pending.pop_front();
            return Ok(Some(TaskBatch { read, id: task.id, formatters }));
        }
        if self.next.cursor < self.shard.begin() {
            self.skip_deleted().await?;
            return Ok(None);
        }
        let read = self.read(self.next, self.shard.end(), BATCH_BYTES).await?;
        if read.next == self.next {
            return Ok(None);
        }
        let task = self.worker.new_task(&self.shard, self.next, read.next, read.received);
        let id = task.id;
        match store.begin_task(&self.worker.rule, task).await {
            Ok(_) => {
                self.next = read.next;
                Ok(Some(TaskBatch { read, id, formatters: None }))
            }
            Err(StoreError::NextTaskMoved(next)) => {
                self.next = next;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads whole log groups up to `end`, and about `most` bytes.
    async fn read(&mut self, from: LogPosition, end: u64, most: usize) -> Result<Read, SourceError> {
        let (store, shard) = (Arc::clone(&self.worker.rules.store), Arc::clone(&self.shard));
        let mut reader = self.reader.take().unwrap_or_default();
        let work = move || {
            let mut read = Read { chunks: vec![], next: from, received: 0, bytes: 0 };
            let result = loop {
                if read.next.cursor >= end || read.bytes >= most {
                    break Ok(());
                }
                let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end };
                match reader.read(&store, &shard, read.next.cursor, limits) {
                    Ok(slice) => {
                        // The time to live deletes logs before it moves the start of the shard. Missing logs must
                        // not count as sent.
                        let from = read.next.cursor;
                        match slice.groups.first() {
                            Some(&(first, _)) if first == from => {}
                            Some(&(first, _)) => break Err(SourceError::Deleted { from, to: first }),
                            None => break Err(SourceError::Deleted { from, to: end }),
                        }
                        read.bytes += slice.batch.bytes();
                        read.received = slice.received.max(read.received);
                        read.next = LogPosition::at(slice.next.max(read.next.cursor + 1));
                        let position =
                            |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
                        let groups = slice.groups.iter().map(position).collect();
                        read.chunks.push(Chunk { batch: slice.batch, groups });
                    }
                    Err(error) => break Err(error),
                }
            };
            (reader, result.map(|()| read))
        };
        let (reader, result) = on_thread(work).await;
        self.reader = Some(reader);
        result
    }

    /// Records logs that were deleted before they were sent as a permanently failed task, so that the loss is visible.
    async fn skip_deleted(&mut self) -> Result<(), StoreError> {
        let store = &self.worker.rules.store;
        let oldest = LogPosition::at(self.shard.begin());
        let task = self.worker.new_task(&self.shard, self.next, oldest, 0);
        let id = task.id;
        match store.begin_task(&self.worker.rule, task).await {
            Ok(_) => {
                let message = deleted_message(self.next, oldest);
                tracing::error!(rule = self.worker.rule.name, shard = self.shard.number, message);
                store.fail_task(id, "InternalServerError", &message, None).await?;
                self.next = oldest;
            }
            Err(StoreError::NextTaskMoved(next)) => self.next = next,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Fails a task whose first logs were deleted, and creates one for the remaining logs.
    async fn expire(&mut self, task: &Task) -> Result<(), StoreError> {
        let store = &self.worker.rules.store;
        let oldest = LogPosition::at(self.shard.begin()).min(task.end);
        let message = deleted_message(task.begin, oldest);
        tracing::error!(rule = self.worker.rule.name, shard = self.shard.number, task = %task.id, message);
        let remaining = self.worker.new_task(&self.shard, oldest, task.end, task.received);
        let (id, object) = (remaining.id, remaining.object);
        let reason = ("InternalServerError".to_owned(), message);
        if store.expire_task(task.id, oldest, reason, (id, object)).await? {
            self.pending.push_back(store.task(id)?);
            self.pending.make_contiguous()[1..].sort_by_key(|task| task.begin);
        }
        Ok(())
    }
}

fn deleted_message(from: LogPosition, to: LogPosition) -> String {
    format!("the logstore's time to live deleted the logs from cursor {from} to {to} before they were sent")
}

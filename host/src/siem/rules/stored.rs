//! What a rule reads of a shard of the store: loads, each with its task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use logship_logstore::{Limits, Place, Shard, StoreError, Task, TaskId};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::work::{Open, Work};
use crate::siem::backoff::Backoff;
use crate::siem::feed::{Formatters, Gone, LOAD, Load, Reader, Room, on_thread};
use crate::siem::load::{Chunk, Position};
use crate::source::{CHUNK, ShardReader, SourceError};

/// How often a shard is looked at that had nothing to send.
const PAUSE: Duration = Duration::from_millis(500);

/// What a task is known by while it is on its way.
pub(super) struct Mark {
    pub(super) id: TaskId,
    pub(super) end: Place,
}

/// Reads a shard of the store.
pub(super) struct Stored {
    pub(super) work: Arc<Work>,
    pub(super) shard: Arc<Shard>,
    pub(super) next: Place,
    /// Tasks to be done before.
    pub(super) pending: VecDeque<Task>,
    pub(super) reader: Option<ShardReader>,
}

/// What was read.
struct Read {
    chunks: Vec<Chunk>,
    next: Place,
    received: u64,
    bytes: usize,
}

/// What was read, as a task.
struct Taken {
    read: Read,
    id: TaskId,
    /// What formats it, if it is something else than what formats now.
    formatters: Option<Arc<Formatters>>,
}

impl Reader for Stored {
    type Mark = Mark;

    async fn next(&mut self, room: &Arc<Semaphore>) -> Result<Option<Load<Mark>>, Gone> {
        let mut backoff = Backoff::default();
        loop {
            let is_due = !self.pending.is_empty() || self.next.cursor < self.shard.end();
            if !is_due {
                sleep(PAUSE).await;
                continue;
            }
            let mut room = Room::take(room).await;
            // Now, not when it is looked next: what is put after a change is not sent by what was before.
            if !self.work.is_current().await {
                return Ok(None);
            }
            match self.take().await {
                Ok(Some(Taken { read, id, formatters })) => {
                    room.shrink(read.bytes);
                    let by = formatters.clone().unwrap_or_else(|| Arc::clone(&self.work.outlet.formatters));
                    let open = Open { since: Instant::now(), told: false, formatters: by };
                    self.work.open().insert(id, open);
                    let mark = Mark { id, end: read.next };
                    return Ok(Some(Load { chunks: read.chunks, mark, room, formatters }));
                }
                // A stage was swapped just now: is it this one's?
                Ok(None) | Err(TakeError::Store(StoreError::StagesChanged)) => {}
                Err(TakeError::Store(
                    StoreError::NoRule(_) | StoreError::NoLogstore(_) | StoreError::Closed,
                )) => {
                    return Err(Gone);
                }
                Err(error) => {
                    drop(room);
                    let wait = backoff.next();
                    self.work.outlet.receiver.fails(format!("shard {}: {error}", self.shard.number), wait);
                    sleep(wait).await;
                }
            }
        }
    }
}

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Stored {
    /// The next load, with its task.
    async fn take(&mut self) -> Result<Option<Taken>, TakeError> {
        let store = Arc::clone(&self.work.rules.store);
        if let Some(task) = self.pending.front().cloned() {
            if task.begin.cursor < self.shard.begin() {
                self.expire(&task).await?;
                self.pending.pop_front();
                return Ok(None);
            }
            let read = self.read(task.begin, task.end.behind(), usize::MAX).await?;
            let formatters = self.work.formatters_of(&task).await?;
            store.resume_task(task.id).await?;
            self.pending.pop_front();
            return Ok(Some(Taken { read, id: task.id, formatters }));
        }
        if self.next.cursor < self.shard.begin() {
            self.skip_what_is_gone().await?;
            return Ok(None);
        }
        let read = self.read(self.next, self.shard.end(), LOAD).await?;
        if read.next == self.next {
            return Ok(None);
        }
        let task = self.work.new_task(&self.shard, self.next, read.next, read.received);
        let id = task.id;
        match store.begin_task(&self.work.rule, task).await {
            Ok(_) => {
                self.next = read.next;
                Ok(Some(Taken { read, id, formatters: None }))
            }
            Err(StoreError::Overtaken(next)) => {
                self.next = next;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads whole log groups, up to `end` and about as many bytes.
    async fn read(&mut self, from: Place, end: u64, most: usize) -> Result<Read, SourceError> {
        let (store, shard) = (Arc::clone(&self.work.rules.store), Arc::clone(&self.shard));
        let mut reader = self.reader.take().unwrap_or_default();
        let work = move || {
            let mut read = Read { chunks: vec![], next: from, received: 0, bytes: 0 };
            let result = loop {
                if read.next.cursor >= end || read.bytes >= most {
                    break Ok(());
                }
                let limits = Limits { groups: usize::MAX, bytes: CHUNK, end };
                match reader.read(&store, &shard, read.next.cursor, limits) {
                    Ok(slice) => {
                        // The time to live deletes, and only then moves the beginning: what is missing must not pass
                        // for sent.
                        let from = read.next.cursor;
                        match slice.groups.first() {
                            Some(&(first, _)) if first == from => {}
                            Some(&(first, _)) => break Err(SourceError::Deleted { from, to: first }),
                            None => break Err(SourceError::Deleted { from, to: end }),
                        }
                        read.bytes += slice.batch.bytes();
                        read.received = slice.received.max(read.received);
                        read.next = Place::at(slice.next.max(read.next.cursor + 1));
                        let place =
                            |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
                        let groups = slice.groups.iter().map(place).collect();
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

    /// Logs that were deleted before they were sent become a task that failed for good: nothing is lost unseen.
    async fn skip_what_is_gone(&mut self) -> Result<(), StoreError> {
        let store = &self.work.rules.store;
        let oldest = Place::at(self.shard.begin());
        let task = self.work.new_task(&self.shard, self.next, oldest, 0);
        let id = task.id;
        match store.begin_task(&self.work.rule, task).await {
            Ok(_) => {
                let message = gone(self.next, oldest);
                tracing::error!(rule = self.work.rule.name, shard = self.shard.number, message);
                store.fail_task(id, "InternalServerError", &message, None).await?;
                self.next = oldest;
            }
            Err(StoreError::Overtaken(next)) => self.next = next,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The first logs of a task are gone: it fails for good, and what is left is sent by another.
    async fn expire(&mut self, task: &Task) -> Result<(), StoreError> {
        let store = &self.work.rules.store;
        let oldest = Place::at(self.shard.begin()).min(task.end);
        let message = gone(task.begin, oldest);
        tracing::error!(rule = self.work.rule.name, shard = self.shard.number, task = %task.id, message);
        let rest = self.work.new_task(&self.shard, oldest, task.end, task.received);
        let (id, object) = (rest.id, rest.object);
        let why = ("InternalServerError".to_owned(), message);
        if store.expire_task(task.id, oldest, why, (id, object)).await? {
            self.pending.push_back(store.task(id)?);
            self.pending.make_contiguous()[1..].sort_by_key(|task| task.begin);
        }
        Ok(())
    }
}

fn gone(from: Place, to: Place) -> String {
    format!(
        "its logs from cursor {from} to {to} were deleted by the time to live of the logstore before they were sent"
    )
}

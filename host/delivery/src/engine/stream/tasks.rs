//! The tasks of a shard: existing ones that are not finished, then new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logship_logstore::{Damage, Limits, LogPosition, ObjectManifest, Shard, StoreError, Task, TaskId};
use logship_runtime::stage::StageError;
use logship_sink::backoff::Backoff;
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, Slice, SourceError};
use tokio::time::sleep;

use crate::engine::error::TaskError;
use crate::engine::lifecycle::Creation;
use crate::engine::stream::on_thread;
use crate::engine::stream::worker::Worker;
use crate::engine::work::StreamWork;

/// Interval of checks for new logs in an idle shard.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The tasks of a shard.
#[derive(Debug)]
pub struct ShardTasks<W: StreamWork> {
    pub(super) worker: Arc<Worker<W>>,
    pub(super) shard: Arc<Shard>,
    pub(super) next: LogPosition,
    /// Unfinished tasks that come first.
    pub(super) pending: VecDeque<Task>,
    pub(super) reader: Option<ShardReader>,
}

/// A task in flight, and its logs.
#[derive(Debug)]
pub struct StreamTask<P> {
    /// The id.
    pub id: TaskId,
    /// The end of its range.
    pub end: LogPosition,
    /// Its logs.
    pub logs: Vec<Slice>,
    /// Bytes of its logs.
    pub bytes: usize,
    /// The task's own plan, if not the current one.
    pub plan: Option<Arc<P>>,
}

/// The answer to a request for the next task.
#[derive(Debug)]
pub enum NextTask<P> {
    /// A task, which is on disk.
    Task(StreamTask<P>),
    /// No task yet: ask again.
    NotYet,
    /// No task, because of a failure: ask again after a delay.
    Failed(String),
    /// The rule or one of its stages changed: the delivery ends.
    Changed,
    /// The rule was deleted, or the store was closed.
    Revoked,
}

/// The rule was deleted, or the store was closed.
#[derive(Debug)]
pub struct Revoked;

/// An error in reading a task.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// Logs that were read.
struct Read {
    logs: Vec<Slice>,
    next: LogPosition,
    received: u64,
    bytes: usize,
}

/// Saves finished tasks.
#[derive(Debug)]
pub struct FinishedTasks<W: StreamWork>(Arc<Worker<W>>);

impl<W: StreamWork> ShardTasks<W> {
    /// The project.
    pub fn project(&self) -> &str {
        &self.worker.project
    }

    /// The logstore.
    pub fn logstore(&self) -> &str {
        &self.worker.logstore
    }

    /// The name of the rule.
    pub fn rule(&self) -> &str {
        &self.worker.rule.name
    }

    /// The number of the shard.
    pub fn shard(&self) -> u32 {
        self.shard.number
    }

    /// Returns the place for tasks that are delivered.
    pub fn finished(&self) -> FinishedTasks<W> {
        FinishedTasks(Arc::clone(&self.worker))
    }

    /// Waits until there are logs or unfinished tasks.
    pub async fn wait(&self) {
        while self.pending.is_empty() && self.shard.groups_between(self.next.cursor, self.shard.end()) == 0 {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the next task, with about `most` bytes of logs. Call [`wait`](Self::wait) before.
    pub async fn next(&mut self, most: usize) -> NextTask<W::Plan> {
        // Checked for each task, so that logs put after a change are never sent by the old rule or stage.
        if !self.worker.is_current().await {
            return NextTask::Changed;
        }
        match self.read_next(most).await {
            Ok(Some(task)) => {
                let own = task.plan.clone().unwrap_or_else(|| Arc::clone(&self.worker.plan));
                self.worker.begin(task.id, self.shard.number, own);
                NextTask::Task(task)
            }
            // A stage was swapped just now. The next call checks if it is this rule's.
            Ok(None) | Err(ReadError::Store(StoreError::StagesChanged)) => NextTask::NotYet,
            Err(ReadError::Store(StoreError::NoRule(_) | StoreError::NoLogstore(_) | StoreError::Closed)) => {
                NextTask::Revoked
            }
            Err(error) => NextTask::Failed(format!("shard {}: {error}", self.shard.number)),
        }
    }

    /// Starts the next unfinished task, or creates a task.
    async fn read_next(&mut self, most: usize) -> Result<Option<StreamTask<W::Plan>>, ReadError> {
        let engine = Arc::clone(&self.worker.engine);
        if let Some(task) = self.pending.front().cloned() {
            if self.shard.groups_between(task.begin.cursor, self.shard.begin()) > 0 {
                let oldest = LogPosition::at(self.shard.begin()).min(task.end);
                self.expire(&task, oldest, &expired(task.begin, oldest)).await?;
                return Ok(None);
            }
            let read = match self.read(task.begin, task.end.end_cursor(), usize::MAX).await {
                Err(SourceError::Store(StoreError::Damaged(damage))) => {
                    let end = LogPosition::at(damage.end()).min(task.end);
                    self.expire(&task, end, &damaged(damage)).await?;
                    return Ok(None);
                }
                read => read?,
            };
            let plan = self.worker.plan_for_retry(&task).await?;
            engine.lifecycle.start_attempt(task.id).await?;
            self.pending.pop_front();
            return Ok(Some(read.into_task(task.id, plan)));
        }
        if self.shard.groups_between(self.next.cursor, self.shard.begin()) > 0 {
            let oldest = LogPosition::at(self.shard.begin());
            self.skip(oldest, &expired(self.next, oldest)).await?;
            return Ok(None);
        }
        let read = match self.read(self.next, self.shard.end(), most).await {
            Err(SourceError::Store(StoreError::Damaged(damage))) => {
                let end = LogPosition::at(damage.end()).min(LogPosition::at(self.shard.end()));
                self.skip(end, &damaged(damage)).await?;
                return Ok(None);
            }
            read => read?,
        };
        if read.next == self.next {
            return Ok(None);
        }
        let task = self.new_task(read.next, read.received)?;
        let id = task.id;
        match engine.lifecycle.create(&self.worker.rule, task).await? {
            Creation::Created(_) => {
                self.next = read.next;
                Ok(Some(read.into_task(id, None)))
            }
            Creation::NextAt(next) => {
                self.next = next;
                Ok(None)
            }
        }
    }

    /// A new task up to `end`.
    fn new_task(&self, end: LogPosition, received: u64) -> Result<logship_logstore::NewTask, StageError> {
        let (worker, shard) = (&self.worker, self.shard.number);
        let revision = worker.revision.load(Ordering::Relaxed);
        worker.engine.lifecycle.new_task(&*worker.plan, revision, shard, self.next..end, received)
    }

    /// Reads whole log groups up to `end`, and about `most` bytes.
    async fn read(&mut self, from: LogPosition, end: u64, most: usize) -> Result<Read, SourceError> {
        let (engine, shard) = (Arc::clone(&self.worker.engine), Arc::clone(&self.shard));
        let mut reader = self.reader.take().unwrap_or_default();
        let work = move || {
            let mut read = Read { logs: vec![], next: from, received: 0, bytes: 0 };
            let result = loop {
                if shard.groups_between(read.next.cursor, end) == 0 || read.bytes >= most {
                    break Ok(());
                }
                let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end };
                match reader.read(&engine.store, &shard, read.next.cursor, limits) {
                    Ok(slice) => {
                        // The time to live deletes logs before it moves the start of the shard. Missing logs must
                        // not count as sent.
                        let from = shard.resolve(read.next.cursor);
                        match slice.groups.first() {
                            Some(&(first, _)) if first == from => {}
                            Some(&(first, _)) => break Err(SourceError::Deleted { from, to: first }),
                            None => break Err(SourceError::Deleted { from, to: end }),
                        }
                        read.bytes += slice.batch.bytes();
                        read.received = slice.received().max(read.received);
                        read.next = LogPosition::at(slice.next.max(read.next.cursor + 1));
                        read.logs.push(slice);
                        // A task has consecutive positions.
                        if shard.resolve(read.next.cursor) != read.next.cursor {
                            break Ok(());
                        }
                    }
                    // The logs in front of the unreadable ones are sent first.
                    Err(_) if !read.logs.is_empty() && most < usize::MAX => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            (reader, result.map(|()| read))
        };
        let (reader, result) = on_thread(work).await;
        self.reader = Some(reader);
        result
    }

    /// Records logs that were deleted or damaged before they were sent as a permanently failed task, so that the loss is
    /// visible. The next task begins at `end`.
    async fn skip(&mut self, end: LogPosition, error: &TaskError) -> Result<(), ReadError> {
        let task = self.new_task(end, 0)?;
        let (next, is_created) =
            self.worker.engine.lifecycle.create_expired(&self.worker.rule, task, error).await?;
        if is_created {
            let message = error.to_string();
            tracing::error!(rule = self.worker.rule.name, shard = self.shard.number, message);
        }
        self.next = next;
        Ok(())
    }

    /// Fails the first task, whose logs up to `end` were deleted or can't be read, and creates one for the remaining
    /// logs.
    async fn expire(&mut self, task: &Task, end: LogPosition, error: &TaskError) -> Result<(), ReadError> {
        let (engine, shard) = (&self.worker.engine, self.shard.number);
        let message = error.to_string();
        tracing::error!(rule = self.worker.rule.name, shard, task = %task.id, message);
        let remainder = engine.lifecycle.new_id(&*self.worker.plan, shard)?;
        let id = remainder.0;
        let has_remainder = engine.lifecycle.expire(task.id, end, error, remainder).await?;
        self.pending.pop_front();
        if has_remainder {
            self.pending.push_back(engine.store.task(id)?);
            self.pending.make_contiguous().sort_by_key(|task| task.begin);
        }
        Ok(())
    }
}

impl Read {
    fn into_task<P>(self, id: TaskId, plan: Option<Arc<P>>) -> StreamTask<P> {
        StreamTask { id, end: self.next, logs: self.logs, bytes: self.bytes, plan }
    }
}

impl<W: StreamWork> FinishedTasks<W> {
    /// Saves a delivered task, with retries until it succeeds.
    ///
    /// # Errors
    /// When the rule was deleted, or the store was closed.
    pub async fn save(&self, id: TaskId, end: LogPosition, manifest: &ObjectManifest) -> Result<(), Revoked> {
        let mut backoff = Backoff::default();
        self.0.end(id);
        loop {
            match self.0.engine.lifecycle.finish(id, end, manifest).await {
                Ok(()) => return Ok(()),
                // The rule was deleted meanwhile.
                Err(StoreError::NoTask(_) | StoreError::Closed) => return Err(Revoked),
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::error!(task = %id, %error, ?wait, "can't save a finished task");
                    sleep(wait).await;
                }
            }
        }
    }
}

fn damaged(damage: Damage) -> TaskError {
    SourceError::Store(StoreError::Damaged(damage)).into()
}

fn expired(from: LogPosition, to: LogPosition) -> TaskError {
    TaskError::Expired { from: from.cursor, to: to.cursor, delivered: "sent" }
}

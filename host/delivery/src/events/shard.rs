//! The shards of a rule: its tasks as batches of a delivery.

use std::sync::Arc;

use logship_logstore::{LogPosition, ObjectManifest, TaskId};
use logship_sink::backoff::Backoff;
use logship_source::shard_reader::Slice;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::dead_letter::Position;
use crate::engine::stream::{FinishedTasks, NextTask, ShardTasks};
use crate::engine::work::StreamPlan as _;
use crate::events::chunk::Chunk;
use crate::events::delivery::{
    BATCH_BYTES, CheckpointStore, InFlightBatch, MemoryPermit, Reader, Sent, ShardRevoked,
};
use crate::events::rule::{EventPlan, Events};

/// The identity of a task in flight.
pub(super) struct Mark {
    id: TaskId,
    end: LogPosition,
}

/// Reads the tasks of a shard.
pub(super) struct TaskReader<'a> {
    pub(super) plan: &'a EventPlan,
    pub(super) tasks: ShardTasks<Events>,
}

impl Reader for TaskReader<'_> {
    type Mark = Mark;

    async fn next(&mut self, memory: &Arc<Semaphore>) -> Result<Option<InFlightBatch<Mark>>, ShardRevoked> {
        let mut backoff = Backoff::default();
        loop {
            self.tasks.wait().await;
            let mut memory = MemoryPermit::take(memory).await;
            match self.tasks.next(BATCH_BYTES).await {
                NextTask::Task(task) => {
                    memory.shrink(task.bytes);
                    let mark = Mark { id: task.id, end: task.end };
                    let formatters = task.plan.map(|plan| Arc::clone(&plan.delivery.formatters));
                    let chunks = task.logs.into_iter().map(Chunk::from).collect();
                    return Ok(Some(InFlightBatch { chunks, mark, memory, formatters }));
                }
                NextTask::NotYet => {}
                NextTask::Changed => return Ok(None),
                NextTask::Revoked => return Err(ShardRevoked),
                NextTask::Failed(problem) => {
                    drop(memory);
                    let wait = backoff.next_delay();
                    self.plan.record_failure(problem, wait);
                    sleep(wait).await;
                }
            }
        }
    }
}

impl From<Slice> for Chunk {
    fn from(slice: Slice) -> Self {
        let position = |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
        Self { groups: slice.groups.iter().map(position).collect(), batch: slice.batch }
    }
}

impl CheckpointStore<Mark> for FinishedTasks<Events> {
    async fn save(&mut self, mark: Mark, sent: Sent) -> Result<(), ShardRevoked> {
        let manifest = ObjectManifest {
            // Filtered logs are not counted.
            rows: sent.messages + sent.dead,
            raw_bytes: sent.raw,
            stored_bytes: sent.bytes,
            // There is no object.
            sha256: String::new(),
            objects: vec![],
        };
        Self::save(self, mark.id, mark.end, &manifest).await.map_err(|_| ShardRevoked)
    }
}

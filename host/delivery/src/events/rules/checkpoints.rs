//! Checkpoints of SIEM rules: finished tasks.

use std::sync::Arc;

use logship_logstore::{ObjectManifest, StoreError};
use tokio::time::sleep;

use crate::events::delivery::{CheckpointStore, Sent, ShardRevoked};
use crate::events::rules::store_reader::Mark;
use crate::events::rules::worker::RuleWorker;
use logship_sink::backoff::Backoff;

/// Saves finished tasks.
pub(super) struct TaskCheckpoints {
    pub(super) worker: Arc<RuleWorker>,
}

impl CheckpointStore<Mark> for TaskCheckpoints {
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
        let mut backoff = Backoff::default();
        self.worker.in_flight().remove(&mark.id);
        loop {
            match self.save_task(&mark, &manifest).await {
                Ok(()) => return Ok(()),
                // The rule was deleted meanwhile.
                Err(StoreError::NoTask(_) | StoreError::Closed) => return Err(ShardRevoked),
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::error!(task = %mark.id, %error, ?wait, "can't save a finished task");
                    sleep(wait).await;
                }
            }
        }
    }
}

impl TaskCheckpoints {
    async fn save_task(&self, mark: &Mark, manifest: &ObjectManifest) -> Result<(), StoreError> {
        match self.succeed(mark, manifest).await {
            // The task may have been marked as stuck, perhaps just now.
            Err(StoreError::NoTask(_)) => {
                self.worker.store().start_attempt(mark.id).await?;
                self.succeed(mark, manifest).await
            }
            done => done,
        }
    }

    async fn succeed(&self, mark: &Mark, manifest: &ObjectManifest) -> Result<(), StoreError> {
        let store = self.worker.store();
        // The task covers its whole range, so no follow-up task is created.
        store.save_manifest(mark.id, mark.end, manifest.clone(), (mark.id, String::new())).await?;
        store.succeed_task(mark.id).await
    }
}

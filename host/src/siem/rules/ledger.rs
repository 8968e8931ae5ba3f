//! Where it is written down that tasks are done.

use std::sync::Arc;

use logship_logstore::{Seal, StoreError};
use tokio::time::sleep;

use super::stored::Mark;
use super::work::Work;
use crate::siem::backoff::Backoff;
use crate::siem::feed::{Gone, Ledger, Sent};

/// Writes down that tasks are done.
pub(super) struct Tasks {
    pub(super) work: Arc<Work>,
}

impl Ledger<Mark> for Tasks {
    async fn done(&mut self, mark: Mark, sent: Sent) -> Result<(), Gone> {
        let seal = Seal {
            // Those that the transformers left out are not among them.
            rows: sent.messages + sent.dead,
            raw_bytes: sent.raw,
            stored_bytes: sent.bytes,
            // There is no object to compare.
            sha256: String::new(),
            objects: vec![],
        };
        let mut backoff = Backoff::default();
        self.work.open().remove(&mark.id);
        loop {
            match self.write_down(&mark, &seal).await {
                Ok(()) => return Ok(()),
                // Its rule was deleted meanwhile.
                Err(StoreError::NoTask(_) | StoreError::Closed) => return Err(Gone),
                Err(error) => {
                    let wait = backoff.next();
                    tracing::error!(task = %mark.id, %error, ?wait, "that a task is done can't be written down");
                    sleep(wait).await;
                }
            }
        }
    }
}

impl Tasks {
    async fn write_down(&self, mark: &Mark, seal: &Seal) -> Result<(), StoreError> {
        match self.succeed(mark, seal).await {
            // It is shown as failed, perhaps just now, because the receiver did not take it for long.
            Err(StoreError::NoTask(_)) => {
                self.work.store().resume_task(mark.id).await?;
                self.succeed(mark, seal).await
            }
            done => done,
        }
    }

    async fn succeed(&self, mark: &Mark, seal: &Seal) -> Result<(), StoreError> {
        let store = self.work.store();
        // It has the whole of its range: there is no rest.
        store.seal_task(mark.id, mark.end, seal.clone(), (mark.id, String::new())).await?;
        store.succeed_task(mark.id).await
    }
}

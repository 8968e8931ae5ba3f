//! Deletes old tasks.

use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Deletes tasks that succeeded, or whose rule was deleted, and that finished before `time`. Also deletes tasks
    /// that failed permanently and finished before `failed_before`. Both times are in Unix microseconds.
    ///
    /// Deletes a batch of at most [`TASK_DELETE_BATCH`](Self::TASK_DELETE_BATCH) tasks. Returns its size.
    pub async fn delete_old_tasks(&self, time: u64, failed_before: u64) -> Result<usize, StoreError> {
        let job = move |connection: &Connection| {
            let deleted = connection.execute(
                "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE finished > 0 AND next_try IS NULL
                     AND ((finished < ?1 AND (status = 'success' OR (SELECT deleted FROM rule WHERE id = task.rule) IS NOT NULL))
                         OR (finished < ?2 AND status = 'fail')) LIMIT ?3)",
                params![time, failed_before, Self::TASK_DELETE_BATCH],
            )?;
            // Deletes unused plans, but keeps the latest plan of each rule.
            connection.execute(
                "DELETE FROM plan WHERE id NOT IN (SELECT plan FROM task)
                     AND id NOT IN (SELECT max(id) FROM plan GROUP BY rule)",
                [],
            )?;
            Ok(deleted)
        };
        self.writer.run(false, job).await
    }

    /// The number of tasks deleted in a batch: small, so that puts never wait long.
    pub const TASK_DELETE_BATCH: usize = 1000;
}

//! Tasks whose time is over.

use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Forgets tasks that ended before `time`, in Unix microseconds, if they succeeded or their rule is gone; what
    /// failed for good and ended before `lost` too. Does a part of it: returns how many it forgot, at most
    /// [`FORGOTTEN`](Self::FORGOTTEN).
    pub async fn forget_tasks(&self, time: u64, lost: u64) -> Result<usize, StoreError> {
        let job = move |connection: &Connection| {
            let forgotten = connection.execute(
                "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE finished > 0 AND next_try IS NULL
                     AND ((finished < ?1 AND (status = 'success' OR (SELECT deleted FROM rule WHERE id = task.rule) IS NOT NULL))
                         OR (finished < ?2 AND status = 'fail')) LIMIT ?3)",
                params![time, lost, Self::FORGOTTEN],
            )?;
            // What nothing was made by any more, but for the newest of each rule.
            connection.execute(
                "DELETE FROM plan WHERE id NOT IN (SELECT plan FROM task)
                     AND id NOT IN (SELECT max(id) FROM plan GROUP BY rule)",
                [],
            )?;
            Ok(forgotten)
        };
        self.writer.run(false, job).await
    }

    /// Tasks that are forgotten at one time: no put waits long for it.
    pub const FORGOTTEN: usize = 1000;
}

//! Lists, counts and retries the tasks that match a filter.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::{COLUMNS, read};
use crate::error::StoreError;
use crate::model::{Status, Task, TaskCounts, TaskFilter, TaskId};
use crate::store::Store;

const FILTER: &str = "(?1 IS NULL OR project.name = ?1) AND (?2 IS NULL OR logstore.name = ?2)
    AND (?3 IS NULL OR rule.name = ?3) AND (?4 IS NULL OR shard = ?4) AND (?5 IS NULL OR status = ?5)
    AND task.created >= ?6 AND task.created <= ?7 AND rule.id NOT IN (SELECT id FROM resting_rule)";

impl Store {
    /// Returns a page of the tasks that match a filter, the newest first: up to `size` tasks from `offset` on. Also
    /// returns the numbers of matching tasks of every status. Blocks on disk I/O.
    pub fn tasks(
        &self,
        filter: &TaskFilter,
        offset: usize,
        size: usize,
    ) -> Result<(Vec<Task>, TaskCounts), StoreError> {
        self.with_reader(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "{COLUMNS} WHERE {FILTER} ORDER BY task.created DESC, task.id DESC LIMIT ?8 OFFSET ?9"
            ))?;
            let (limit, offset) = (size as i64, offset as i64);
            let mut parameters = filter.params();
            parameters.extend([Box::new(limit) as Parameter, Box::new(offset)]);
            let tasks = select.query_map(rusqlite::params_from_iter(parameters), read)?;
            let tasks = tasks.collect::<Result<_, _>>()?;
            Ok((tasks, count(connection, &TaskFilter { status: None, ..filter.clone() })?))
        })
    }

    /// Schedules failed tasks for an immediate retry: all that match the filter, or only those with the given ids.
    /// Returns their number.
    pub async fn retry_tasks(
        &self,
        filter: TaskFilter,
        ids: Option<Vec<TaskId>>,
    ) -> Result<usize, StoreError> {
        let now = (self.options.clock)();
        let ids = ids.map(HashSet::<TaskId>::from_iter);
        let filter = TaskFilter { status: Some(Status::Failed), ..filter };
        let job = move |connection: &Connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT task.id, task.created, task.number FROM task JOIN rule ON rule.id = task.rule
                 JOIN logstore ON logstore.id = rule.logstore JOIN project ON project.id = logstore.project
                 WHERE {FILTER} AND rule.deleted IS NULL"
            ))?;
            let found = select.query_map(rusqlite::params_from_iter(filter.params()), |row| {
                Ok((row.get::<_, i64>(0)?, TaskId { created: row.get(1)?, number: row.get(2)? }))
            })?;
            let mut update = connection.prepare_cached("UPDATE task SET next_try = ?2 WHERE id = ?1")?;
            let mut count = 0;
            for task in found.collect::<Result<Vec<_>, _>>()? {
                if ids.as_ref().is_none_or(|ids| ids.contains(&task.1)) {
                    count += update.execute(params![task.0, now])?;
                }
            }
            Ok(count)
        };
        self.writer.run(false, job).await
    }
}

type Parameter = Box<dyn rusqlite::ToSql>;

impl TaskFilter {
    /// Returns the parameters of [`FILTER`], in its order.
    fn params(&self) -> Vec<Parameter> {
        const SECOND: u64 = 1_000_000_000;
        let until = |to: u64| to.saturating_add(1).saturating_mul(SECOND).min(u64::MAX >> 1);
        vec![
            Box::new(self.project.clone()),
            Box::new(self.logstore.clone()),
            Box::new(self.rule.clone()),
            Box::new(self.shard),
            Box::new(self.status.map(Status::as_str)),
            Box::new(self.from.unwrap_or(0).saturating_mul(SECOND).min(u64::MAX >> 1)),
            Box::new(self.to.map_or(u64::MAX >> 1, until)),
        ]
    }
}

fn count(connection: &Connection, filter: &TaskFilter) -> Result<TaskCounts, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT status, count(*) FROM task JOIN rule ON rule.id = task.rule
         JOIN logstore ON logstore.id = rule.logstore JOIN project ON project.id = logstore.project
         WHERE {FILTER} GROUP BY status"
    ))?;
    let mut rows = statement.query(rusqlite::params_from_iter(filter.params()))?;
    let mut counts = TaskCounts::default();
    while let Some(row) = rows.next()? {
        let count = row.get(1)?;
        match row.get::<_, String>(0)?.parse() {
            Ok(Status::Running) => counts.running = count,
            Ok(Status::Success) => counts.success = count,
            Ok(Status::Failed) | Err(()) => counts.failed = count,
        }
    }
    Ok(counts)
}

//! Rules that wait for an operator, because another life of the store may have shipped their logs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use super::rule::move_checkpoint;
use super::shard_end::{ShardEnd, shard_ends};
use super::{Store, job};
use crate::error::StoreError;
use crate::model::{Generation, POSITION_BITS, Shard};

/// What an operator decides about logs that another life of the store may have shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshipped {
    /// Ships them: the other life did not, or may not run any more.
    Ship,
    /// Skips them: the other life shipped them.
    Skip,
}

impl Store {
    /// Returns true if a rule, by number, waits for [`confirm_generation`](Self::confirm_generation): another life of
    /// the store may have shipped some of its logs.
    pub fn waits_for_generation(&self, rule: i64) -> bool {
        self.waiting_rules.lock().unwrap_or_else(PoisonError::into_inner).contains(&rule)
    }

    /// Lets the waiting rules and jobs go on. Returns the number of rules.
    pub async fn confirm_generation(&self, unshipped: Unshipped) -> Result<usize, StoreError> {
        let catalog = self.catalog();
        let mut ends: HashMap<i64, Vec<(u32, u64)>> = HashMap::new();
        for logstore in catalog.kept_logstores() {
            let ends_here = |shard: &Arc<Shard>| Some((shard.number, shard.other_life_end()?));
            let firsts: Vec<(u32, u64)> = logstore.shards.iter().filter_map(ends_here).collect();
            let waiting = logstore.rules.values().filter(|rule| self.waits_for_generation(rule.number()));
            ends.extend(waiting.map(|rule| (rule.number(), firsts.clone())));
        }
        let (count, now) = (ends.len(), self.clock());
        let job = move |connection: &Connection| {
            connection.execute("DELETE FROM waiting_rule", [])?;
            job::go_on(connection, unshipped == Unshipped::Skip, now)?;
            if unshipped == Unshipped::Skip {
                ends.iter().try_for_each(|(rule, shards)| skip(connection, *rule, shards, now))?;
            }
            Ok(())
        };
        self.writer.run(false, job).await?;
        self.waiting_rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(count)
    }
}

/// Moves a rule behind the logs of another life of the store, and ends its open tasks.
fn skip(connection: &Connection, rule: i64, ends: &[(u32, u64)], now: u64) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE task SET status = 'success', finished = ?2, next_try = NULL, stage = NULL, code = '',
             message = 'skipped: another life of the store shipped these logs'
         WHERE rule = ?1 AND (status = 'running' OR next_try IS NOT NULL)",
        params![rule, now],
    )?;
    for (shard, end) in ends {
        connection.execute(
            "INSERT INTO progress (rule, shard, next_cursor, next_log, done_cursor, done_log)
             VALUES (?1, ?2, ?3, 0, ?3, 0)
             ON CONFLICT DO UPDATE SET next_cursor = ?3, next_log = 0 WHERE next_cursor < ?3",
            params![rule, shard, end],
        )?;
        move_checkpoint(connection, rule, *shard)?;
    }
    Ok(())
}

/// Returns the rules whose logs another life of the store may have shipped: they have open tasks that are not
/// `repeatable`, or logs of before the generation that are in no task.
pub(super) fn find(
    connection: &Connection,
    generation: &Generation,
    repeatable: &HashSet<i64>,
) -> Result<HashSet<i64>, StoreError> {
    let shards = shard_ends(connection, "logstore IS NOT NULL")?;
    let mut select = connection.prepare("SELECT id, logstore FROM rule WHERE deleted IS NULL")?;
    let mut rows = select.query([])?;
    let mut waiting = HashSet::new();
    while let Some(row) = rows.next()? {
        let (rule, logstore): (i64, i64) = (row.get(0)?, row.get(1)?);
        let mut own = shards.iter().filter(|shard| shard.logstore == Some(logstore));
        let mut is_waiting = !repeatable.contains(&rule) && has_open_task(connection, rule)?;
        while let Some(shard) = own.next().filter(|_| !is_waiting) {
            is_waiting = has_unshipped(connection, rule, shard, generation)?;
        }
        if is_waiting {
            waiting.insert(rule);
        }
    }
    Ok(waiting)
}

pub(super) fn read(connection: &Connection) -> Result<HashSet<i64>, StoreError> {
    let mut select = connection.prepare("SELECT rule FROM waiting_rule")?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Returns the names of the waiting rules.
pub(super) fn names(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut select = connection.prepare(
        "SELECT project.name || '/' || logstore.name || '/' || rule.name FROM waiting_rule
         JOIN rule ON rule.id = waiting_rule.rule JOIN logstore ON logstore.id = rule.logstore
         JOIN project ON project.id = logstore.project ORDER BY 1",
    )?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn has_open_task(connection: &Connection, rule: i64) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM task WHERE rule = ?1 AND (status = 'running' OR next_try IS NOT NULL)",
    )?;
    Ok(select.exists([rule])?)
}

/// Returns true if a shard has logs of before the generation that are in no task of the rule.
fn has_unshipped(
    connection: &Connection,
    rule: i64,
    shard: &ShardEnd,
    generation: &Generation,
) -> Result<bool, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT next_cursor FROM progress WHERE rule = ?1 AND shard = ?2")?;
    let next = select.query_row(params![rule, shard.number], |row| row.get(0)).optional()?;
    let next = next.map_or(0, |next| shard.segments.groups_before(next));
    let end = shard.groups_before(generation);
    let mut select =
        connection.prepare_cached("SELECT 1 FROM log_group WHERE id >= ?1 AND id < ?2 LIMIT 1")?;
    let first = shard.id << POSITION_BITS;
    Ok(next < end && select.exists([first + next as i64, first + end as i64])?)
}

//! Checks the positions of readers against the log groups: of tasks, rules and consumer groups.

use std::collections::HashMap;

use rusqlite::Connection;

use super::chain::{self, head_before, read_heads};
use crate::error::StoreError;
use crate::model::{Catalog, Logstore, Shard, ShippingRule, TaskId};
use crate::position::LogPosition;

/// A shard that a rule ships.
type RuleShards<'a> = HashMap<(i64, u32), (&'a Logstore, &'a ShippingRule, &'a Shard)>;

/// Compares the heads of all tasks with the chains, and checks that no tasks of a rule overlap. Returns the number of
/// tasks with heads.
pub(super) fn check_tasks(
    connection: &Connection,
    catalog: &Catalog,
    contradictions: &mut Vec<String>,
) -> Result<u64, StoreError> {
    let shards = rule_shards(catalog);
    let mut select = connection.prepare(
        "SELECT rule, shard, created, number, begin_cursor, begin_log, end_cursor, end_log, head_before, head_after
         FROM task ORDER BY rule, shard, begin_cursor, begin_log, id",
    )?;
    let mut rows = select.query([])?;
    let (mut count, mut previous) = (0, None);
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?);
        let Some((logstore, rule, shard)) = shards.get(&key) else { continue };
        let id = TaskId { created: row.get(2)?, number: row.get(3)? };
        let begin = LogPosition { cursor: row.get(4)?, log: row.get(5)? };
        let end = LogPosition { cursor: row.get(6)?, log: row.get(7)? };
        let name = format!(
            "task {id} of rule {} ({}/{} shard {}, cursors {begin} to {end})",
            rule.name, logstore.project, logstore.name, shard.number
        );
        if let Some((before, other)) =
            previous.replace((key, (end, id))).filter(|(before, _)| *before == key).map(|(_, task)| task)
            && before > begin
        {
            contradictions.push(format!("{name} overlaps task {other}, which ends at {before}"));
        }
        let Some(recorded) = read_heads(row, 8, 9) else { continue };
        count += 1;
        let Some(chain) = chain::read(connection, shard.id)? else { continue };
        let head = |position| head_before(connection, shard.id, &shard.segments, &chain, position);
        let is_other = |found: Option<_>, recorded| found.is_some_and(|found| found != recorded);
        if is_other(head(begin.cursor)?, recorded.before) || is_other(head(end.end_cursor())?, recorded.after)
        {
            contradictions
                .push(format!("{name} was made from other log groups: its heads are not those of the chain"));
        }
    }
    Ok(count)
}

/// Checks that the positions of rules and consumer groups are in their shards.
pub(super) fn check_positions(
    connection: &Connection,
    catalog: &Catalog,
    contradictions: &mut Vec<String>,
) -> Result<(), StoreError> {
    check_progress(connection, catalog, contradictions)?;
    let mut select = connection
        .prepare("SELECT shard, cursor FROM checkpoint WHERE consumer_group = ?1 ORDER BY shard")?;
    for logstore in catalog.logstores() {
        for group in logstore.groups.values() {
            let mut rows = select.query([group.id])?;
            while let Some(row) = rows.next()? {
                let (number, cursor): (u32, u64) = (row.get(0)?, row.get(1)?);
                let Ok(shard) = logstore.shard(number) else { continue };
                if !(shard.origin()..=shard.end()).contains(&cursor) {
                    contradictions.push(format!(
                        "the checkpoint of consumer group {} ({}/{} shard {number}) is at cursor {cursor}, outside the shard",
                        group.name, logstore.project, logstore.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Checks the progress of rules: the next task begins in the shard and not in front of the end of a task.
fn check_progress(
    connection: &Connection,
    catalog: &Catalog,
    contradictions: &mut Vec<String>,
) -> Result<(), StoreError> {
    let shards = rule_shards(catalog);
    let mut select = connection.prepare(
        "SELECT rule, shard, next_cursor, done_cursor,
             (SELECT max(end_cursor) FROM task WHERE task.rule = progress.rule AND task.shard = progress.shard)
         FROM progress ORDER BY rule, shard",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?);
        let Some((logstore, rule, shard)) = shards.get(&key) else { continue };
        let (next, done, task): (u64, u64, Option<u64>) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let valid = shard.origin().max(task.unwrap_or(0))..=shard.end();
        if !valid.contains(&next) || done > next || done < shard.origin() {
            contradictions.push(format!(
                "the progress of rule {} ({}/{} shard {}) is at cursors {done} and {next}: its tasks end at {}, the shard at {}",
                rule.name,
                logstore.project,
                logstore.name,
                shard.number,
                task.unwrap_or(done),
                shard.end()
            ));
        }
    }
    Ok(())
}

fn rule_shards(catalog: &Catalog) -> RuleShards<'_> {
    let mut shards = RuleShards::new();
    for logstore in catalog.logstores() {
        for rule in logstore.rules.values() {
            for shard in &logstore.shards {
                shards.insert((rule.id, shard.number), (logstore, rule, shard));
            }
        }
    }
    shards
}

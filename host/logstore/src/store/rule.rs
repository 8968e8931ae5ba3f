//! Creates, updates and deletes shipping rules, and moves their progress.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::json::read_json;
use crate::error::StoreError;
use crate::model::{CONFIG_NOT_EXIST, Logstore, Progress, RuleSettings, RuleStart, ShippingRule, Status};
use crate::position::LogPosition;

impl Store {
    /// Creates a rule.
    pub async fn create_rule(
        &self,
        logstore: &Logstore,
        name: &str,
        settings: RuleSettings,
        from: RuleStart,
    ) -> Result<(), StoreError> {
        let (logstore_id, name, now) = (logstore.id, name.to_owned(), self.now());
        // Read before the transaction, so that logs received in the meantime are shipped.
        let ends: Vec<(u32, u64)> = logstore.shards.iter().map(|shard| (shard.number, shard.end())).collect();
        let job = move |connection: &Connection| {
            let known = connection
                .query_row(
                    "SELECT deleted FROM rule WHERE logstore = ?1 AND name = ?2",
                    params![logstore_id, name],
                    |row| row.get::<_, Option<u64>>(0),
                )
                .optional()?;
            match known {
                None => {}
                Some(None) => return Err(StoreError::RuleExists(name)),
                Some(Some(_)) => return Err(StoreError::RuleNameTaken(name)),
            }
            connection.execute(
                "INSERT INTO rule (logstore, name, target, configuration, created, modified)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                params![logstore_id, name, settings.target, settings.configuration.to_string(), now],
            )?;
            if from == RuleStart::Now {
                let rule = connection.last_insert_rowid();
                for (shard, end) in ends {
                    save_next(connection, rule, shard, LogPosition::at(end))?;
                }
            }
            Ok(())
        };
        self.writer.run(true, job).await
    }

    /// Updates a rule. Existing tasks keep their plans.
    pub async fn update_rule(
        &self,
        logstore: &Logstore,
        name: &str,
        settings: RuleSettings,
    ) -> Result<(), StoreError> {
        let (logstore, name, now) = (logstore.id, name.to_owned(), self.now());
        let job = move |connection: &Connection| {
            let changed = connection.execute(
                "UPDATE rule SET target = ?3, configuration = ?4, modified = ?5
                 WHERE logstore = ?1 AND name = ?2 AND deleted IS NULL",
                params![logstore, name, settings.target, settings.configuration.to_string(), now],
            )?;
            if changed == 0 { Err(StoreError::NoRule(name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Deletes a rule. Its name stays reserved, its tasks stay listed, and its unfinished tasks fail permanently.
    pub async fn delete_rule(&self, logstore: &Logstore, name: &str) -> Result<(), StoreError> {
        let (logstore, name, now) = (logstore.id, name.to_owned(), (self.options.clock)());
        let job = move |connection: &Connection| {
            let rule: Option<i64> = connection
                .query_row(
                    "UPDATE rule SET deleted = ?3 WHERE logstore = ?1 AND name = ?2 AND deleted IS NULL RETURNING id",
                    params![logstore, name, now / 1_000_000],
                    |row| row.get(0),
                )
                .optional()?;
            let rule = rule.ok_or(StoreError::NoRule(name))?;
            connection.execute(
                "UPDATE task SET status = ?2, code = ?3, message = 'the rule was deleted', finished = ?4, next_try = NULL
                 WHERE rule = ?1 AND status <> ?5",
                params![rule, Status::Failed.as_str(), CONFIG_NOT_EXIST, now, Status::Success.as_str()],
            )?;
            Ok(())
        };
        self.writer.run(true, job).await
    }

    /// Returns the progress of a rule, by shard number, in the shards that it has begun. Blocks on disk I/O.
    pub fn progress(&self, rule: &ShippingRule) -> Result<BTreeMap<u32, Progress>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT shard, next_cursor, next_log, done_cursor, done_log FROM progress WHERE rule = ?1",
            )?;
            let rows = statement.query_map([rule.id], |row| {
                let next = LogPosition { cursor: row.get(1)?, log: row.get(2)? };
                let checkpoint = LogPosition { cursor: row.get(3)?, log: row.get(4)? };
                Ok((row.get(0)?, Progress { next, checkpoint }))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Saves the start of the rule's next task in the shard.
pub(super) fn save_next(
    connection: &Connection,
    rule: i64,
    shard: u32,
    next: LogPosition,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO progress (rule, shard, next_cursor, next_log, done_cursor, done_log)
             VALUES (?1, ?2, ?3, ?4, ?3, ?4)
             ON CONFLICT DO UPDATE SET next_cursor = ?3, next_log = ?4",
        )?
        .execute(params![rule, shard, next.cursor, next.log])?;
    Ok(())
}

/// Moves the checkpoint to the first log that does not belong to a successful task.
pub(super) fn move_checkpoint(connection: &Connection, rule: i64, shard: u32) -> Result<(), StoreError> {
    let open = connection
        .prepare_cached(
            "SELECT begin_cursor, begin_log FROM task WHERE rule = ?1 AND shard = ?2 AND status <> ?3
             ORDER BY begin_cursor, begin_log LIMIT 1",
        )?
        .query_row(params![rule, shard, Status::Success.as_str()], |row| {
            Ok(LogPosition { cursor: row.get(0)?, log: row.get(1)? })
        })
        .optional()?;
    let set = "UPDATE progress SET (done_cursor, done_log) =";
    match open {
        Some(position) => connection
            .prepare_cached(&format!("{set} (?3, ?4) WHERE rule = ?1 AND shard = ?2"))?
            .execute(params![rule, shard, position.cursor, position.log])?,
        None => connection
            .prepare_cached(&format!("{set} (next_cursor, next_log) WHERE rule = ?1 AND shard = ?2"))?
            .execute(params![rule, shard])?,
    };
    Ok(())
}

/// Reads the rules of all logstores, without deleted rules, by logstore.
pub(super) fn read_rules(
    connection: &Connection,
) -> Result<BTreeMap<i64, BTreeMap<String, ShippingRule>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT logstore, id, name, target, configuration, created, modified FROM rule WHERE deleted IS NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut rules: BTreeMap<i64, BTreeMap<String, ShippingRule>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let rule = ShippingRule {
            id: row.get(1)?,
            name: row.get(2)?,
            target: row.get(3)?,
            configuration: read_json(row, 4)?,
            created: row.get(5)?,
            modified: row.get(6)?,
        };
        rules.entry(row.get(0)?).or_default().insert(rule.name.clone(), rule);
    }
    Ok(rules)
}

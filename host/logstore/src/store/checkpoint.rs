//! Checkpoints of consumer groups.

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use crate::error::StoreError;
use crate::model::{Checkpoint, ConsumerGroup, Logstore, Shard};

impl Store {
    /// Returns the checkpoints of the group: of all shards, or of `shard`. Blocks on disk I/O.
    pub fn checkpoints(
        &self,
        logstore: &Logstore,
        group: &str,
        shard: Option<u32>,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let group = logstore.group(group)?;
        let requested = logstore.shards.iter().filter(|each| shard.is_none_or(|shard| shard == each.number));
        self.with_reader(|connection| {
            requested.map(|shard| read_checkpoint(connection, group.id, shard.number)).collect()
        })
    }

    /// Saves the checkpoint of a shard. `position` is the next position to read; it may be before the previous
    /// checkpoint.
    ///
    /// Without `force`, only the consumer that holds the shard may save it.
    pub async fn save_checkpoint(
        &self,
        logstore: &Logstore,
        group: &str,
        shard: u32,
        position: u64,
        consumer: &str,
        force: bool,
    ) -> Result<(), StoreError> {
        let group = logstore.group(group)?;
        logstore.shard(shard)?.check(position)?;
        if !force {
            self.check_holder(group, shard, consumer)?;
        }
        let (id, name) = (group.id, group.name.clone());
        let (consumer, now) = (consumer.to_owned(), (self.options.clock)());
        let job = move |connection: &Connection| {
            let saved = connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO checkpoint (consumer_group, shard, cursor, updated, consumer)
                     SELECT id, ?2, ?3, ?4, ?5 FROM consumer_group WHERE id = ?1",
                )?
                .execute(params![id, shard, position, now, consumer])?;
            // The group may have been deleted in the meantime.
            if saved == 0 { Err(StoreError::NoGroup(name)) } else { Ok(()) }
        };
        self.writer.run(false, job).await
    }

    /// Returns true if the group has read the shard to its end.
    pub(super) fn is_read(&self, group: &ConsumerGroup, shard: &Shard) -> Result<bool, StoreError> {
        let checkpoint =
            self.with_reader(|connection| read_checkpoint(connection, group.id, shard.number))?;
        let unread = |from| shard.groups_between(from, shard.end());
        Ok(unread(shard.begin()) == 0 || checkpoint.position.is_some_and(|position| unread(position) == 0))
    }
}

fn read_checkpoint(connection: &Connection, group: i64, shard: u32) -> Result<Checkpoint, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT cursor, updated, consumer FROM checkpoint WHERE consumer_group = ?1 AND shard = ?2",
    )?;
    let found = statement.query_row(params![group, shard], |row| {
        Ok(Checkpoint { shard, position: Some(row.get(0)?), updated: row.get(1)?, consumer: row.get(2)? })
    });
    let unsaved = || Checkpoint { shard, position: None, updated: 0, consumer: String::new() };
    Ok(found.optional()?.unwrap_or_else(unsaved))
}

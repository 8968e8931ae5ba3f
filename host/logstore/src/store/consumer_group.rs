//! Creates, updates and deletes consumer groups, and reports their status.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::Store;
use crate::error::StoreError;
use crate::model::{Checkpoint, GroupStatus, Logstore, Shard};

impl Store {
    /// Creates a consumer group. `creator` is the ID of the creator's access key.
    pub async fn create_group(
        &self,
        logstore: &Logstore,
        name: &str,
        timeout: u32,
        ordered: bool,
        creator: &str,
    ) -> Result<(), StoreError> {
        let (logstore, name, quota) = (logstore.id, name.to_owned(), self.options.groups);
        let creator = creator.to_owned();
        let job = move |connection: &Connection| {
            let count: usize = connection.query_row(
                "SELECT count(*) FROM consumer_group WHERE logstore = ?1 AND name != ?2",
                params![logstore, name],
                |row| row.get(0),
            )?;
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO consumer_group (logstore, name, timeout, ordered, creator)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![logstore, name, timeout, ordered, creator],
            )?;
            match inserted {
                0 => Err(StoreError::GroupExists(name)),
                _ if count >= quota => Err(StoreError::GroupQuota(quota)),
                _ => Ok(()),
            }
        };
        self.writer.run(true, job).await
    }

    /// Updates a consumer group.
    pub async fn update_group(
        &self,
        logstore: &Logstore,
        name: &str,
        timeout: Option<u32>,
        ordered: Option<bool>,
    ) -> Result<(), StoreError> {
        let group = logstore.group(name)?.clone();
        let (timeout, ordered) = (timeout.unwrap_or(group.timeout), ordered.unwrap_or(group.ordered));
        if (timeout, ordered) == (group.timeout, group.ordered) {
            // Every worker of the SDK repeats the current settings when it starts.
            return Ok(());
        }
        let job = move |connection: &Connection| {
            let changed = connection.execute(
                "UPDATE consumer_group SET timeout = ?2, ordered = ?3 WHERE id = ?1",
                params![group.id, timeout, ordered],
            )?;
            if changed == 0 { Err(StoreError::NoGroup(group.name)) } else { Ok(()) }
        };
        self.writer.run(true, job).await
    }

    /// Deletes a consumer group and its checkpoints.
    pub async fn delete_group(&self, logstore: &Logstore, name: &str) -> Result<(), StoreError> {
        let id = logstore.group(name)?.id;
        let job = move |connection: &Connection| {
            connection.execute("DELETE FROM consumer_group WHERE id = ?1", [id])?;
            Ok(())
        };
        self.writer.run(true, job).await?;
        self.groups().remove_deleted(&self.catalog());
        Ok(())
    }

    /// Returns the status of the group in each shard. Blocks on disk I/O.
    pub fn group_status(&self, logstore: &Logstore, group: &str) -> Result<Vec<GroupStatus>, StoreError> {
        let found = logstore.group(group)?;
        let id = found.id;
        self.expire(found);
        let checkpoints = self.checkpoints(logstore, group, None)?;
        let status = |(shard, checkpoint): (&Arc<Shard>, Checkpoint)| {
            let next = checkpoint.position.unwrap_or(0).max(shard.begin());
            let unread_groups = shard.groups_between(next, shard.end());
            let newest_read = if unread_groups == 0 {
                None
            } else {
                let last =
                    shard.previous(next).map(|last| self.newest_at(shard, last)).transpose()?.flatten();
                last.or(self.newest_at(shard, next)?)
            };
            let lag_seconds = newest_read.map_or(0, |read| shard.newest().saturating_sub(read));
            let owner = self.owner(id, shard.number);
            Ok(GroupStatus { checkpoint, owner, unread_groups, lag_seconds })
        };
        logstore.shards.iter().zip(checkpoints).map(status).collect()
    }
}

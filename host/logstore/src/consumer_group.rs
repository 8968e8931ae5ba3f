//! Consumer groups: members, heartbeats and checkpoints.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use crate::balance::{Held, Members, Shards};
use crate::catalog::{Catalog, Logstore, Shard};
use crate::error::StoreError;
use crate::store::Store;

/// A consumer group of a logstore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub(crate) id: i64,
    /// The name.
    pub name: String,
    /// The heartbeat timeout of a consumer, in seconds.
    pub timeout: u32,
    /// True if members get the shards of a split or merge only after its parents have been read to the end.
    pub ordered: bool,
}

/// The checkpoint of a group in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard number.
    pub shard: u32,
    /// The next position to read, if a checkpoint was ever saved.
    pub position: Option<u64>,
    /// The time of the last save, in Unix microseconds; 0 if there was none.
    pub updated: u64,
    /// The consumer that saved it; empty if there was none.
    pub consumer: String,
}

/// The status of a group in a shard.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The consumer to which the shard is assigned.
    pub owner: Option<String>,
    /// The number of unread log groups.
    pub unread_groups: u64,
    /// The lag in seconds of log time: from the newest read log to the newest log. If nothing was read yet, from the
    /// oldest group.
    pub lag_seconds: u64,
}

/// The members of all groups, by group id. The database has a copy of the assignments.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<i64, Group>);

#[derive(Debug, Default)]
struct Group {
    members: Members,
    /// Expired members that may still be in the database.
    expired: BTreeSet<String>,
    /// The number of saves begun. It identifies the latest save.
    saves: u64,
}

impl Group {
    /// Removes members whose heartbeats timed out.
    fn expire(&mut self, group: &ConsumerGroup, now: u64) {
        let cutoff = now.saturating_sub(u64::from(group.timeout) * 1_000_000);
        self.expired.extend(self.members.expire(cutoff));
    }
}

impl Groups {
    pub(crate) fn read(connection: &Connection, now: u64) -> Result<Self, StoreError> {
        let mut groups = Self::default();
        let mut statement =
            connection.prepare("SELECT consumer_group, shard, consumer, given FROM assignment")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            groups.0.entry(row.get(0)?).or_default().members.restore(
                row.get(2)?,
                row.get(1)?,
                row.get(3)?,
                now,
            );
        }
        Ok(groups)
    }

    /// Removes deleted groups.
    fn remove_deleted(&mut self, catalog: &Catalog) {
        let existing: HashSet<i64> =
            catalog.logstores().flat_map(|logstore| logstore.groups.values()).map(|group| group.id).collect();
        self.0.retain(|id, _| existing.contains(id));
    }
}

impl Store {
    /// Creates a consumer group.
    pub async fn create_group(
        &self,
        logstore: &Logstore,
        name: &str,
        timeout: u32,
        ordered: bool,
    ) -> Result<(), StoreError> {
        let (logstore, name, quota) = (logstore.id, name.to_owned(), self.options.groups);
        let job = move |connection: &Connection| {
            let count: usize = connection.query_row(
                "SELECT count(*) FROM consumer_group WHERE logstore = ?1 AND name != ?2",
                params![logstore, name],
                |row| row.get(0),
            )?;
            let inserted = connection.execute(
                "INSERT OR IGNORE INTO consumer_group (logstore, name, timeout, ordered) VALUES (?1, ?2, ?3, ?4)",
                params![logstore, name, timeout, ordered],
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

    /// Handles a consumer's heartbeat. `reported` contains the shards that it may still be processing. Returns the
    /// shards assigned to it. A consumer joins the group by its first heartbeat.
    pub async fn heartbeat(
        &self,
        logstore: &Logstore,
        group: &str,
        consumer: &str,
        reported: &[u32],
    ) -> Result<Vec<u32>, StoreError> {
        let group = logstore.group(group)?;
        let shards = self.assignable(logstore, group)?;
        let reported = reported.iter().copied().filter(|&shard| logstore.shard(shard).is_ok()).collect();
        let (assigned, save) = {
            let mut groups = self.groups();
            let entry = groups.0.entry(group.id).or_default();
            let now = (self.options.uptime)();
            entry.expire(group, now);
            // The save below rewrites a consumer that came back.
            entry.expired.remove(consumer);
            let assigned = entry.members.heartbeat(consumer, reported, &shards, now);
            let saved = entry.members.is_saved(consumer) && entry.expired.is_empty();
            // Sent while the members are locked, so that saves are written in the order of their states.
            (assigned, (!saved).then(|| Save::begin(self, group.id, consumer, entry)))
        };
        if let Some(save) = save {
            // Before the reply: a restart must know all assignments. After a failure the next heartbeat retries.
            save.finish(self).await?;
        }
        Ok(assigned.into_iter().collect())
    }

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
        let found = logstore.shard(shard)?;
        let (begin, end) = (found.begin(), found.end());
        if position > end {
            return Err(StoreError::NoCursor { shard, cursor: position, begin, end });
        }
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

    /// Returns the status of the group in each shard. Blocks on disk I/O.
    pub fn group_status(&self, logstore: &Logstore, group: &str) -> Result<Vec<GroupStatus>, StoreError> {
        let found = logstore.group(group)?;
        let id = found.id;
        self.expire(found);
        let checkpoints = self.checkpoints(logstore, group, None)?;
        let status = |(shard, checkpoint): (&Arc<Shard>, Checkpoint)| {
            let next = checkpoint.position.unwrap_or(0).max(shard.begin());
            let unread_groups = shard.end().saturating_sub(next);
            let newest_read = match next.checked_sub(1).filter(|_| unread_groups > 0) {
                Some(last) => self.newest_at(shard, last)?.or(self.newest_at(shard, next)?),
                None => None,
            };
            let lag_seconds = newest_read.map_or(0, |read| shard.newest().saturating_sub(read));
            let owner = self
                .groups()
                .0
                .get(&id)
                .and_then(|entry| entry.members.owner(shard.number).map(str::to_owned));
            Ok(GroupStatus { checkpoint, owner, unread_groups, lag_seconds })
        };
        logstore.shards.iter().zip(checkpoints).map(status).collect()
    }

    /// Returns the live consumers of a group.
    pub fn consumers(&self, group: &ConsumerGroup) -> Vec<String> {
        self.expire(group);
        let groups = self.groups();
        let names = |entry: &Group| entry.members.names().map(str::to_owned).collect();
        groups.0.get(&group.id).map(names).unwrap_or_default()
    }

    fn expire(&self, group: &ConsumerGroup) {
        if let Some(entry) = self.groups().0.get_mut(&group.id) {
            entry.expire(group, (self.options.uptime)());
        }
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_holder(&self, group: &ConsumerGroup, shard: u32, consumer: &str) -> Result<(), StoreError> {
        let groups = self.groups();
        let members = groups.0.get(&group.id).map(|entry| &entry.members);
        match members.filter(|members| members.contains(consumer)) {
            None => Err(StoreError::NoConsumer(consumer.into())),
            // An expired consumer that came back may still report shards that now belong to others.
            Some(members)
                if members.held(consumer).contains_key(&shard)
                    && members.owner(shard).is_none_or(|owner| owner == consumer) =>
            {
                Ok(())
            }
            Some(_) => Err(StoreError::NotOwner { shard, consumer: consumer.into() }),
        }
    }

    /// Returns the assignable shards. In an ordered group, a shard is assignable after its parents have been read.
    fn assignable(&self, logstore: &Logstore, group: &ConsumerGroup) -> Result<Shards, StoreError> {
        let mut shards = Shards::new();
        for shard in &logstore.shards {
            // Retention has removed a missing parent, so it can't be read any more.
            let mut parents = shard.parents.iter().filter_map(|&parent| logstore.shard(parent).ok());
            let is_blocked = group.ordered
                && parents.try_fold(false, |blocked, parent| {
                    Ok::<_, StoreError>(blocked || !self.is_read(group, parent)?)
                })?;
            if !is_blocked {
                shards.insert(shard.number);
            }
        }
        Ok(shards)
    }

    /// Returns true if the group has read the shard to its end.
    fn is_read(&self, group: &ConsumerGroup, shard: &Shard) -> Result<bool, StoreError> {
        let checkpoint =
            self.with_reader(|connection| read_checkpoint(connection, group.id, shard.number))?;
        Ok(shard.begin() == shard.end() || checkpoint.position == Some(shard.end()))
    }
}

impl Logstore {
    /// Returns the consumer group of this name.
    pub fn group(&self, name: &str) -> Result<&ConsumerGroup, StoreError> {
        self.groups.get(name).ok_or_else(|| StoreError::NoGroup(name.into()))
    }
}

/// A save of a consumer's assignments in progress.
struct Save<F> {
    group: i64,
    consumer: String,
    held: Held,
    expired: BTreeSet<String>,
    number: u64,
    written: F,
}

impl<F: Future<Output = Result<(), StoreError>>> Save<F> {
    /// Waits until the save is on disk.
    async fn finish(self, store: &Store) -> Result<(), StoreError> {
        self.written.await?;
        if let Some(entry) = store.groups().0.get_mut(&self.group)
            && entry.saves == self.number
        {
            entry.members.set_saved(&self.consumer, self.held);
            entry.expired.retain(|name| !self.expired.contains(name));
        }
        Ok(())
    }
}

impl Save<()> {
    fn begin(
        store: &Store,
        group: i64,
        consumer: &str,
        entry: &mut Group,
    ) -> Save<impl Future<Output = Result<(), StoreError>> + Send + use<>> {
        entry.saves += 1;
        let (consumer, held, expired) =
            (consumer.to_owned(), entry.members.held(consumer), entry.expired.clone());
        let written =
            store.writer.run(false, save_assignments(group, consumer.clone(), held.clone(), expired.clone()));
        Save { group, consumer, held, expired, number: entry.saves, written }
    }
}

/// Returns the job that saves the assignments of a consumer and deletes those of expired consumers.
fn save_assignments(
    group: i64,
    consumer: String,
    held: Held,
    expired: BTreeSet<String>,
) -> impl FnOnce(&Connection) -> Result<(), StoreError> {
    move |connection| {
        let mut delete = connection
            .prepare_cached("DELETE FROM assignment WHERE consumer_group = ?1 AND consumer = ?2")?;
        for name in expired.iter().chain([&consumer]) {
            delete.execute(params![group, name])?;
        }
        // The group may have been deleted in the meantime.
        let mut insert = connection.prepare_cached(
            "INSERT INTO assignment (consumer_group, shard, consumer, given)
             SELECT id, ?2, ?3, ?4 FROM consumer_group WHERE id = ?1",
        )?;
        for (shard, assigned) in held {
            insert.execute(params![group, shard, consumer, assigned])?;
        }
        Ok(())
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

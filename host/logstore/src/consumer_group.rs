//! Consumer groups: their members, and how far each shard was read.

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
    /// Its name.
    pub name: String,
    /// Seconds after which a silent consumer is taken for dead.
    pub timeout: u32,
    /// Whether the shards that came from a split or merge wait until those before them are read to the end.
    pub ordered: bool,
}

/// How far a group has read a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of the shard.
    pub shard: u32,
    /// The position to go on from, if the group ever said one.
    pub position: Option<u64>,
    /// When it was said, in Unix microseconds; 0 if never.
    pub updated: u64,
    /// Who said it; empty if nobody.
    pub consumer: String,
}

/// How a group stands with a shard.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// How far it has read.
    pub checkpoint: Checkpoint,
    /// Who owns the shard.
    pub owner: Option<String>,
    /// Log groups not read yet.
    pub behind: u64,
    /// Seconds from the newest log that was read to the newest there is, by the logs' own times; where none was
    /// read yet, from the oldest group's.
    pub lag: u64,
}

/// The members of all groups, by the group's number. Who holds what is in the database too.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<i64, Group>);

#[derive(Debug, Default)]
struct Group {
    members: Members,
    /// Members that were silent for too long, as long as the database may still have them.
    gone: BTreeSet<String>,
    /// How often it was begun to write who holds what.
    saves: u64,
}

impl Group {
    /// Removes who was silent for too long.
    fn expire(&mut self, group: &ConsumerGroup, now: u64) {
        let silent = now.saturating_sub(u64::from(group.timeout) * 1_000_000);
        self.gone.extend(self.members.expire(silent));
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

    /// Forgets groups that are no more.
    fn tidy(&mut self, catalog: &Catalog) {
        let there: HashSet<i64> =
            catalog.logstores().flat_map(|logstore| logstore.groups.values()).map(|group| group.id).collect();
        self.0.retain(|id, _| there.contains(id));
    }
}

impl Store {
    /// Makes a consumer group.
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
            let made = connection.execute(
                "INSERT OR IGNORE INTO consumer_group (logstore, name, timeout, ordered) VALUES (?1, ?2, ?3, ?4)",
                params![logstore, name, timeout, ordered],
            )?;
            match made {
                0 => Err(StoreError::GroupExists(name)),
                _ if count >= quota => Err(StoreError::GroupQuota(quota)),
                _ => Ok(()),
            }
        };
        self.writer.run(true, job).await
    }

    /// Changes a consumer group.
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
            // Every worker of the SDK says at its start what the group is already.
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

    /// Deletes a consumer group with its checkpoints.
    pub async fn delete_group(&self, logstore: &Logstore, name: &str) -> Result<(), StoreError> {
        let id = logstore.group(name)?.id;
        let job = move |connection: &Connection| {
            connection.execute("DELETE FROM consumer_group WHERE id = ?1", [id])?;
            Ok(())
        };
        self.writer.run(true, job).await?;
        self.groups().tidy(&self.catalog());
        Ok(())
    }

    /// Takes a consumer's heartbeat: `reported` is what it may still be working on. Returns the shards that it
    /// shall own from now on. A consumer joins by its first.
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
        let (given, save) = {
            let mut groups = self.groups();
            let entry = groups.0.entry(group.id).or_default();
            let now = (self.options.uptime)();
            entry.expire(group, now);
            // Who is back is written anew.
            entry.gone.remove(consumer);
            let given = entry.members.heartbeat(consumer, reported, &shards, now);
            let saved = entry.members.is_saved(consumer) && entry.gone.is_empty();
            // Sent while the members are locked, so that what is written last is what holds.
            (given, (!saved).then(|| Save::begin(self, group.id, consumer, entry)))
        };
        if let Some(save) = save {
            // Before the consumer hears of it: a restart must know who has what. After a failure the next
            // heartbeat tries again.
            save.end(self).await?;
        }
        Ok(given.into_iter().collect())
    }

    /// How far the group has read: one entry for each shard, or for the one asked for. Blocks on the disk.
    pub fn checkpoints(
        &self,
        logstore: &Logstore,
        group: &str,
        shard: Option<u32>,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let group = logstore.group(group)?;
        let asked = logstore.shards.iter().filter(|each| shard.is_none_or(|shard| shard == each.number));
        self.with_reader(|connection| {
            asked.map(|shard| read_checkpoint(connection, group.id, shard.number)).collect()
        })
    }

    /// Says how far a shard was read: `position` is the next to be read, and may be before the last one said.
    ///
    /// Without `force` only the consumer that holds the shard can.
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
            // Deleted meanwhile.
            if saved == 0 { Err(StoreError::NoGroup(name)) } else { Ok(()) }
        };
        self.writer.run(false, job).await
    }

    /// How the group stands with each shard. Blocks on the disk.
    pub fn group_status(&self, logstore: &Logstore, group: &str) -> Result<Vec<GroupStatus>, StoreError> {
        let found = logstore.group(group)?;
        let id = found.id;
        self.expire(found);
        let checkpoints = self.checkpoints(logstore, group, None)?;
        let status = |(shard, checkpoint): (&Arc<Shard>, Checkpoint)| {
            let next = checkpoint.position.unwrap_or(0).max(shard.begin());
            let behind = shard.end().saturating_sub(next);
            let read = match next.checked_sub(1).filter(|_| behind > 0) {
                Some(last) => self.newest_at(shard, last)?.or(self.newest_at(shard, next)?),
                None => None,
            };
            let lag = read.map_or(0, |read| shard.newest().saturating_sub(read));
            let owner = self
                .groups()
                .0
                .get(&id)
                .and_then(|entry| entry.members.owner(shard.number).map(str::to_owned));
            Ok(GroupStatus { checkpoint, owner, behind, lag })
        };
        logstore.shards.iter().zip(checkpoints).map(status).collect()
    }

    /// The consumers of a group that were heard of within its timeout.
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
            // One that came back late still reports what is another's by now.
            Some(members)
                if members.held(consumer).contains_key(&shard)
                    && members.owner(shard).is_none_or(|owner| owner == consumer) =>
            {
                Ok(())
            }
            Some(_) => Err(StoreError::NotOwner { shard, consumer: consumer.into() }),
        }
    }

    /// The shards that members can own just now: in an ordered group not those whose parents are unread.
    fn assignable(&self, logstore: &Logstore, group: &ConsumerGroup) -> Result<Shards, StoreError> {
        let mut shards = Shards::new();
        for shard in &logstore.shards {
            // A parent that is gone was too old for anybody to read.
            let mut parents = shard.parents.iter().filter_map(|&parent| logstore.shard(parent).ok());
            let waits = group.ordered
                && parents.try_fold(false, |waits, parent| {
                    Ok::<_, StoreError>(waits || !self.is_read(group, parent)?)
                })?;
            if !waits {
                shards.insert(shard.number);
            }
        }
        Ok(shards)
    }

    fn is_read(&self, group: &ConsumerGroup, shard: &Shard) -> Result<bool, StoreError> {
        let checkpoint =
            self.with_reader(|connection| read_checkpoint(connection, group.id, shard.number))?;
        Ok(shard.begin() == shard.end() || checkpoint.position == Some(shard.end()))
    }
}

impl Logstore {
    /// The consumer group of this name.
    pub fn group(&self, name: &str) -> Result<&ConsumerGroup, StoreError> {
        self.groups.get(name).ok_or_else(|| StoreError::NoGroup(name.into()))
    }
}

/// Writing who holds what, on its way.
struct Save<F> {
    group: i64,
    consumer: String,
    held: Held,
    gone: BTreeSet<String>,
    number: u64,
    written: F,
}

impl<F: Future<Output = Result<(), StoreError>>> Save<F> {
    /// Waits until it is on disk.
    async fn end(self, store: &Store) -> Result<(), StoreError> {
        self.written.await?;
        if let Some(entry) = store.groups().0.get_mut(&self.group)
            && entry.saves == self.number
        {
            entry.members.saved(&self.consumer, self.held);
            entry.gone.retain(|name| !self.gone.contains(name));
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
        let (consumer, held, gone) = (consumer.to_owned(), entry.members.held(consumer), entry.gone.clone());
        let written = store.writer.run(false, write(group, consumer.clone(), held.clone(), gone.clone()));
        Save { group, consumer, held, gone, number: entry.saves, written }
    }
}

fn write(
    group: i64,
    consumer: String,
    held: Held,
    gone: BTreeSet<String>,
) -> impl FnOnce(&Connection) -> Result<(), StoreError> {
    move |connection| {
        let mut delete = connection
            .prepare_cached("DELETE FROM assignment WHERE consumer_group = ?1 AND consumer = ?2")?;
        for name in gone.iter().chain([&consumer]) {
            delete.execute(params![group, name])?;
        }
        // The group may have been deleted meanwhile.
        let mut insert = connection.prepare_cached(
            "INSERT INTO assignment (consumer_group, shard, consumer, given)
             SELECT id, ?2, ?3, ?4 FROM consumer_group WHERE id = ?1",
        )?;
        for (shard, given) in held {
            insert.execute(params![group, shard, consumer, given])?;
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
    let never = || Checkpoint { shard, position: None, updated: 0, consumer: String::new() };
    Ok(found.optional()?.unwrap_or_else(never))
}

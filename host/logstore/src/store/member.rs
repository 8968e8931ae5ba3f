//! Members of consumer groups: heartbeats and assignments.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::Store;
use crate::balance::{Held, Members, Shards};
use crate::error::StoreError;
use crate::model::{Catalog, ConsumerGroup, Logstore};

/// The members of all groups, by group id. The database has a copy of the assignments.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<i64, Group>);

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
    /// Reads the assignments. Each member has one timeout, from `now` on, to send a heartbeat.
    pub(super) fn read(connection: &Connection, now: u64) -> Result<Self, StoreError> {
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
    pub(super) fn remove_deleted(&mut self, catalog: &Catalog) {
        let existing: HashSet<i64> = catalog
            .kept_logstores()
            .flat_map(|logstore| logstore.groups.values())
            .map(|group| group.id)
            .collect();
        self.0.retain(|id, _| existing.contains(id));
    }
}

impl Store {
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

    /// Returns the live consumers of a group.
    pub fn consumers(&self, group: &ConsumerGroup) -> Vec<String> {
        self.expire(group);
        let groups = self.groups();
        let names = |entry: &Group| entry.members.names().map(str::to_owned).collect();
        groups.0.get(&group.id).map(names).unwrap_or_default()
    }

    /// Returns the consumer of a group to which a shard is assigned.
    pub(super) fn owner(&self, group: i64, shard: u32) -> Option<String> {
        self.groups().0.get(&group).and_then(|entry| entry.members.owner(shard).map(str::to_owned))
    }

    /// Removes members of the group whose heartbeats timed out.
    pub(super) fn expire(&self, group: &ConsumerGroup) {
        if let Some(entry) = self.groups().0.get_mut(&group.id) {
            entry.expire(group, (self.options.uptime)());
        }
    }

    /// Returns the members of all groups.
    pub(super) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless the consumer holds the shard.
    pub(super) fn check_holder(
        &self,
        group: &ConsumerGroup,
        shard: u32,
        consumer: &str,
    ) -> Result<(), StoreError> {
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

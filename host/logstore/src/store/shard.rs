//! Splits and merges shards.

use logship_sls::hash_key::HashRange;
use rusqlite::{Connection, params};
use serde_json::Value;

use super::Store;
use crate::error::StoreError;
use crate::model::Resharding;

impl Store {
    /// Splits a shard, or merges it with the next one. Returns the numbers of all affected shards, the new ones last.
    pub async fn reshard(
        &self,
        project: &str,
        logstore: &str,
        shard: u32,
        operation: Resharding,
    ) -> Result<Vec<u32>, StoreError> {
        let catalog = self.catalog();
        let logstore = catalog.logstore(project, logstore)?;
        let first = logstore.shard(shard)?;
        if !first.writable {
            return Err(StoreError::ReadOnlyShard(shard));
        }
        let (mut parents, children) = match operation {
            Resharding::Split { at } => {
                if logstore.writable().count() >= self.options.shards as usize {
                    return Err(StoreError::TooManyShards(self.options.shards));
                }
                let at = at.unwrap_or_else(|| first.keys.midpoint());
                let (low, high) =
                    first.keys.split(at).map_err(|source| StoreError::Resharding { shard, source })?;
                (vec![shard], vec![low, high])
            }
            Resharding::Merge => {
                let next = logstore.writable().find(|next| next.keys.begin == first.keys.end);
                let next = next.ok_or(StoreError::NoAdjacentShard(shard))?;
                let merged = first.keys.merge(&next.keys);
                let keys = merged.map_err(|source| StoreError::Resharding { shard, source })?;
                (vec![shard, next.number], vec![keys])
            }
        };
        let (logstore, origin, sources) = (logstore.id, (self.new_position(), self.now()), parents.clone());
        let job = move |connection: &Connection| {
            for parent in &sources {
                let closed = connection.execute(
                    "UPDATE shard SET writable = 0 WHERE logstore = ?1 AND number = ?2 AND writable",
                    params![logstore, parent],
                )?;
                if closed == 0 {
                    return Err(StoreError::ReadOnlyShard(*parent));
                }
            }
            let first: u32 = connection.query_row(
                "SELECT max(number) + 1 FROM shard WHERE logstore = ?1",
                [logstore],
                |row| row.get(0),
            )?;
            let mut created = vec![];
            for (number, keys) in (first..).zip(children) {
                insert_shard(connection, logstore, number, keys, &sources, origin)?;
                created.push(number);
            }
            Ok(created)
        };
        parents.extend(self.writer.run(true, job).await?);
        Ok(parents)
    }
}

/// Inserts a shard at the time `now`. `origin` is its first position, from [`Store::new_position`], so the cursors of an
/// earlier logstore of the same name are all smaller.
pub(super) fn insert_shard(
    connection: &Connection,
    logstore: i64,
    number: u32,
    keys: HashRange,
    parents: &[u32],
    (origin, now): (u64, u64),
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO shard (logstore, number, writable, begin_key, end_key, parents, created, origin, next)
         VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?7)",
        params![
            logstore,
            number,
            keys.begin.to_string(),
            keys.end.to_string(),
            Value::from(parents).to_string(),
            now,
            origin
        ],
    )?;
    Ok(())
}

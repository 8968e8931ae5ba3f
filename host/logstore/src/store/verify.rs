//! Verifies a store: its log groups, their chains, and the tasks.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::chain::{self, head_before};
use super::readers;
use super::walk::Walk;
use crate::damage::{Damage, Flaw};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Catalog, Chain, Comparison, Logstore, Shard, ShardHead, Verification};
use crate::schema;

/// A store that is open for verification. A service may use it at the same time.
#[derive(Debug)]
pub struct StoreVerifier {
    connection: Connection,
    catalog: Catalog,
}

impl StoreVerifier {
    /// Opens the store in `directory` for reading.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let connection = schema::open_existing(&directory.join("logstore.db"))?;
        let catalog = Catalog::read(&connection, &Catalog::default())?;
        Ok(Self { connection, catalog })
    }

    /// Returns the number of bytes to read.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let used = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
        Ok(used * pragma("page_size")?)
    }

    /// Verifies each log group, the chains, and the tasks. Calls `progress` with the bytes of each step.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, StoreError> {
        let mut verification = Verification::default();
        for (logstore, shard) in self.shards() {
            let walk = Walk::new(shard, unread_head(logstore, shard));
            verification.shards.push(walk.run(&self.connection, &mut progress)?);
        }
        let contradictions = &mut verification.contradictions;
        verification.tasks = readers::check_tasks(&self.connection, &self.catalog, contradictions)?;
        readers::check_positions(&self.connection, &self.catalog, contradictions)?;
        Ok(verification)
    }

    /// Compares a head that was kept elsewhere with the store.
    pub fn compare(&self, kept: &ShardHead) -> Result<Comparison, StoreError> {
        let found =
            self.catalog.logstore(&kept.project, &kept.logstore).and_then(|found| found.shard(kept.shard));
        let Ok(shard) = found else { return Ok(Comparison::NoShard) };
        if shard.origin() != kept.origin {
            return Ok(Comparison::Replaced);
        }
        let chain = self.chain(shard)?;
        if kept.cursor > chain.end {
            return Ok(Comparison::Gone { end: chain.end });
        }
        if kept.cursor < shard.begin() {
            return Ok(Comparison::Expired);
        }
        let found = match kept.cursor == chain.end {
            true => Some(chain.head),
            false => head_before(&self.connection, shard.id, &shard.segments, &chain, kept.cursor)?,
        };
        Ok(if found == Some(kept.head) { Comparison::Same } else { Comparison::Different { found } })
    }

    /// Returns the current heads of all shards, without verification.
    pub fn heads(&self) -> Result<Vec<ShardHead>, StoreError> {
        let head = |(logstore, shard)| {
            let Chain { end, head, .. } = self.chain(shard)?;
            Ok(ShardHead { cursor: end, head, ..unread_head(logstore, shard) })
        };
        self.shards().map(head).collect()
    }

    fn shards(&self) -> impl Iterator<Item = (&Logstore, &Shard)> {
        self.catalog
            .kept_logstores()
            .flat_map(|logstore| logstore.shards.iter().map(|shard| (&**logstore, &**shard)))
    }

    fn chain(&self, shard: &Shard) -> Result<Chain, StoreError> {
        let recorded = chain::read(&self.connection, shard.id)?;
        Ok(recorded.unwrap_or_else(|| Chain::begin(shard.id, shard.origin(), shard.end())))
    }
}

/// Returns the place of a shard's head, before the head is known.
fn unread_head(logstore: &Logstore, shard: &Shard) -> ShardHead {
    let Chain { end, head, .. } = Chain::begin(shard.id, shard.origin(), shard.origin());
    ShardHead {
        project: logstore.project.clone(),
        logstore: logstore.name.clone(),
        shard: shard.number,
        origin: shard.origin(),
        cursor: end,
        head,
    }
}

/// Compares the first and the last log group of a shard with the recorded ends of its chain.
pub(super) fn chain_ends(connection: &Connection, shard: &Shard) -> Result<Option<Damage>, StoreError> {
    let (first, end) = shard.rows();
    let edge = |order: &str| {
        let query =
            format!("SELECT id FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id {order} LIMIT 1");
        connection.prepare_cached(&query)?.query_row([first, end], |row| row.get(0)).optional()
    };
    let (first, last) = (edge("ASC")?, edge("DESC")?);
    let head: Option<Digest> = match last {
        Some(row) => connection
            .prepare_cached("SELECT head FROM log_group WHERE id = ?1")?
            .query_row([row], |row| Ok(row.get(0).unwrap_or_default()))?,
        None => None,
    };
    let damage = |position, flaw| Some(Damage { shard: shard.number, position, flaw });
    let end = last.map(|row| shard.position(row) + 1);
    let Some(chain) = chain::read(connection, shard.id)? else {
        return Ok(end.filter(|_| head.is_some()).and_then(|end| damage(end, Flaw::Ends)));
    };
    let begin = first.map_or(chain.end, |row| shard.position(row));
    let end = end.unwrap_or(chain.start);
    let is_before = |from, to| shard.groups_between(from, to) > 0;
    Ok(if is_before(chain.start, begin) {
        damage(chain.start, Flaw::Missing { to: begin })
    } else if is_before(end, chain.end) {
        damage(end, Flaw::Missing { to: chain.end })
    } else if is_before(chain.end, end) {
        damage(chain.end, Flaw::Added { to: end })
    } else if head.unwrap_or(chain.base) != chain.head {
        damage(end, Flaw::Ends)
    } else {
        None
    })
}

//! Generations of the store: detects at the start that the data is of another life, and begins the next generation.

use std::collections::HashSet;
use std::path::Path;
use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension, params};

use super::high_water::{Found, HighWater, Mark};
use super::shard_end::{ShardEnd, shard_ends};
use super::{Store, job, waiting_rules};
use crate::error::StoreError;
use crate::model::{Generation, GenerationReason, Shard};
use crate::moment::Moment;

/// The positions that a new generation may skip at random, so that two copies which start in the same moment have
/// different ones.
const SKIPPED_POSITIONS: u64 = 1 << 32;

/// The name of the counter of log groups in removed shards.
const REMOVED_GROUPS: &str = "removed-groups";
/// The name of the highest position in removed shards.
const HIGHEST_POSITION: &str = "highest-position";

impl Store {
    /// Returns the current generation.
    pub fn generation(&self) -> Generation {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the generations, the first one first. Blocks on disk I/O.
    pub fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        self.with_reader(read_generations)
    }

    /// Returns the first position of a new shard: the current time in microseconds, but behind every position that
    /// this store ever gave out, even if the clock was set back.
    pub(super) fn new_position(&self) -> u64 {
        let ends = self.catalog().shards().map(|shard| shard.end() + 1).max().unwrap_or(0);
        let removed = self.with_reader(|connection| counter(connection, HIGHEST_POSITION));
        // A database that can't be read can't create a shard either.
        self.clock().max(ends).max(removed.unwrap_or(0))
    }
}

/// The state of a store at its start.
pub(super) struct Start {
    pub(super) generation: Generation,
    pub(super) high_water: HighWater,
    /// The rules that wait for an operator.
    pub(super) waiting_rules: HashSet<i64>,
    /// The last known moment before this start.
    pub(super) last: Option<Moment>,
}

/// Compares the database with the high-water mark, and begins a generation if the data is of another life.
pub(super) fn start(connection: &Connection, directory: &Path, now: Moment) -> Result<Start, StoreError> {
    let failed = |(path, source)| StoreError::File { path, source };
    let (mut high_water, found) = HighWater::open(directory).map_err(failed)?;
    let generations = read_generations(connection)?;
    let stored = Mark { token: String::new(), moment: now, ..count(connection)? };
    // A database without a mark is new, or of an older logship.
    let last = found.as_ref().map(|found| found.mark.moment.clone());
    let generation = match generations.last() {
        None if found.as_ref().is_some_and(|found| found.is_above(&stored)) => {
            next_generation(connection, GenerationReason::RolledBack, found.as_ref(), &stored)?
        }
        None => {
            // The mark comes first: a database with a generation always has one.
            let token = new_token();
            high_water.record(Mark { token: token.clone(), ..stored.clone() });
            begin(connection, token, GenerationReason::Created, 0, stored.moment.time, &HashSet::new())?
        }
        Some(current) => match reason(&generations, found.as_ref(), &stored) {
            None => current.clone(),
            Some(reason) => next_generation(connection, reason, found.as_ref(), &stored)?,
        },
    };
    let earlier = last.clone().filter(|last| last.time <= stored.moment.time);
    let moment = earlier.unwrap_or_else(|| stored.moment.clone());
    high_water.record(Mark { token: generation.token.clone(), moment, ..stored });
    let synced = high_water.sync();
    synced.map_err(|source| StoreError::File { path: directory.to_owned(), source })?;
    let waiting_rules = waiting_rules::read(connection)?;
    for rule in &waiting_rules {
        tracing::error!(
            rule,
            "a rule waits, as another life of this store may have shipped its logs: decide with `logship store confirm`"
        );
    }
    Ok(Start { generation, high_water, waiting_rules, last })
}

/// Begins a generation because the data is of another life, and tells it.
fn next_generation(
    connection: &Connection,
    reason: GenerationReason,
    found: Option<&Found>,
    stored: &Mark,
) -> Result<Generation, StoreError> {
    let acknowledged = found.map_or(0, |found| found.mark.groups);
    let lost = acknowledged.saturating_sub(stored.groups);
    let generation = begin(connection, new_token(), reason, lost, stored.moment.time, &HashSet::new())?;
    tell(&generation);
    Ok(generation)
}

/// Returns why the data is of another life than the last generation, if it is.
fn reason(generations: &[Generation], found: Option<&Found>, stored: &Mark) -> Option<GenerationReason> {
    let current = generations.last()?;
    let Some(found) = found else { return Some(GenerationReason::Replaced) };
    let Found { mark, is_copy, has_older } = found;
    if found.is_above(stored) {
        let is_known = generations.iter().any(|generation| generation.token == mark.token);
        return Some(if is_known { GenerationReason::RolledBack } else { GenerationReason::Replaced });
    }
    if *is_copy {
        return Some(GenerationReason::Copied);
    }
    if mark.token == current.token {
        // An older copy of all files was put over the directory, and has lost nothing.
        return has_older.then_some(GenerationReason::RolledBack);
    }
    // The process was killed after the begin of the current generation, before it wrote the mark.
    let previous = generations.iter().rev().nth(1);
    let was_interrupted = previous.is_some_and(|previous| previous.token == mark.token);
    (!was_interrupted).then_some(GenerationReason::Replaced)
}

fn tell(generation: &Generation) {
    let Generation { number, reason, lost_groups, .. } = generation;
    tracing::error!(
        generation = number,
        lost_groups,
        "{reason}; the store begins a new generation: cursors of the other life are refused. If the other one still runs, stop it or change its rules"
    );
    if *lost_groups > 0 {
        tracing::error!(lost_groups, "acknowledged log groups are gone");
    }
}

/// Begins a generation: each writable shard continues at positions that no other life has given out.
pub(super) fn begin(
    connection: &Connection,
    token: String,
    reason: GenerationReason,
    lost_groups: u64,
    now: u64,
    repeatable: &HashSet<i64>,
) -> Result<Generation, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(
        "INSERT INTO generation (token, began, reason, lost) VALUES (?1, ?2, ?3, ?4)",
        params![token, now, reason.as_str(), lost_groups],
    )?;
    let number = transaction.last_insert_rowid() as u32;
    let generation = Generation { number, token, began: now, reason, lost_groups };
    if reason != GenerationReason::Created {
        for ShardEnd { id, segments, groups, .. } in
            shard_ends(&transaction, "writable AND logstore IS NOT NULL")?
        {
            let end = segments.position(groups);
            let position = now.max(end.saturating_add(2)).saturating_add(fastrand::u64(..SKIPPED_POSITIONS));
            transaction.execute(
                "INSERT INTO segment (shard, position, before, generation) VALUES (?1, ?2, ?3, ?4)",
                params![id, position, groups, number],
            )?;
        }
    }
    let mut wait = transaction.prepare("INSERT OR IGNORE INTO waiting_rule (rule) VALUES (?1)")?;
    if reason != GenerationReason::Created {
        waiting_rules::find(&transaction, &generation, repeatable)?
            .into_iter()
            .try_for_each(|rule| wait.execute([rule]).map(drop))?;
        job::wait(&transaction)?;
    }
    drop(wait);
    transaction.commit()?;
    Ok(generation)
}

/// Returns a random token, in hexadecimal.
pub(super) fn new_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Returns the numbers of log groups and other rows ever stored.
pub(super) fn count(connection: &Connection) -> Result<Mark, StoreError> {
    let removed = counter(connection, REMOVED_GROUPS)?;
    let groups: u64 = shard_ends(connection, "1")?.iter().map(|shard| shard.groups).sum();
    Ok(Mark { groups: removed + groups, changes: changes(connection)?, ..Mark::default() })
}

/// Returns the number of rows ever stored, besides log groups: logstores, rules, tasks and others.
pub(super) fn changes(connection: &Connection) -> Result<u64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(sum(seq), 0) FROM sqlite_sequence")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// Remembers the positions of a shard that is removed.
pub(super) fn remember_positions(connection: &Connection, shard: &Shard) -> Result<(), StoreError> {
    let groups = shard.segments.groups_before(shard.end());
    let mut add = connection.prepare_cached(
        "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + ?2",
    )?;
    add.execute(params![REMOVED_GROUPS, groups])?;
    let mut raise = connection.prepare_cached(
        "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, ?2)",
    )?;
    raise.execute(params![HIGHEST_POSITION, shard.end()])?;
    Ok(())
}

fn counter(connection: &Connection, name: &str) -> Result<u64, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM counter WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn read_generations(connection: &Connection) -> Result<Vec<Generation>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT number, token, began, reason, lost FROM generation ORDER BY number")?;
    let generations = select.query_map([], |row| {
        Ok(Generation {
            number: row.get(0)?,
            token: row.get(1)?,
            began: row.get(2)?,
            reason: GenerationReason::parse(&row.get::<_, String>(3)?),
            lost_groups: row.get(4)?,
        })
    })?;
    Ok(generations.collect::<Result<_, _>>()?)
}

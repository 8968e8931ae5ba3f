//! Generations of the store: detects at the start that the data is of another life, and begins the next generation.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use super::high_water::{Found, HighWater, Mark};
use super::rule::move_checkpoint;
use super::{Store, chain, job};
use crate::error::StoreError;
use crate::model::{Generation, GenerationReason, POSITION_BITS, Segments, Shard};
use crate::moment::Moment;

/// The positions that a new generation may skip at random, so that two copies which start in the same moment have
/// different ones.
const SKIPPED_POSITIONS: u64 = 1 << 32;

/// The name of the counter of log groups in removed shards.
const REMOVED_GROUPS: &str = "removed-groups";
/// The name of the highest position in removed shards.
const HIGHEST_POSITION: &str = "highest-position";

/// What an operator decides about logs that another life of the store may have shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshipped {
    /// Ships them: the other life did not, or may not run any more.
    Ship,
    /// Skips them: the other life shipped them.
    Skip,
}

impl Store {
    /// Returns the current generation.
    pub fn generation(&self) -> Generation {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the generations, the first one first. Blocks on disk I/O.
    pub fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        self.with_reader(read_generations)
    }

    /// Returns true if a rule, by number, waits for [`confirm_generation`](Self::confirm_generation): another life of
    /// the store may have shipped some of its logs.
    pub fn waits_for_generation(&self, rule: i64) -> bool {
        self.waiting_rules.lock().unwrap_or_else(PoisonError::into_inner).contains(&rule)
    }

    /// Lets the waiting rules and jobs go on. Returns the number of rules.
    pub async fn confirm_generation(&self, unshipped: Unshipped) -> Result<usize, StoreError> {
        let catalog = self.catalog();
        let mut ends: HashMap<i64, Vec<(u32, u64)>> = HashMap::new();
        for logstore in catalog.kept_logstores() {
            let ends_here = |shard: &Arc<Shard>| Some((shard.number, shard.other_life_end()?));
            let firsts: Vec<(u32, u64)> = logstore.shards.iter().filter_map(ends_here).collect();
            let waiting = logstore.rules.values().filter(|rule| self.waits_for_generation(rule.number()));
            ends.extend(waiting.map(|rule| (rule.number(), firsts.clone())));
        }
        let (count, now) = (ends.len(), self.clock());
        let job = move |connection: &Connection| {
            connection.execute("DELETE FROM waiting_rule", [])?;
            job::go_on(connection, unshipped == Unshipped::Skip, now)?;
            if unshipped == Unshipped::Skip {
                ends.iter().try_for_each(|(rule, shards)| skip(connection, *rule, shards, now))?;
            }
            Ok(())
        };
        self.writer.run(false, job).await?;
        self.waiting_rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(count)
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
    let waiting_rules = read_waiting_rules(connection)?;
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
            shards_of(&transaction, "writable AND logstore IS NOT NULL")?
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
        find_waiting_rules(&transaction, &generation, repeatable)?
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
    let groups: u64 = shards_of(connection, "1")?.iter().map(|shard| shard.groups).sum();
    Ok(Mark { groups: removed + groups, changes: changes(connection)?, ..Mark::default() })
}

/// Returns the number of rows ever stored, besides log groups: logstores, rules, tasks and others.
pub(super) fn changes(connection: &Connection) -> Result<u64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(sum(seq), 0) FROM sqlite_sequence")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// A shard in the database.
struct ShardEnd {
    id: i64,
    logstore: Option<i64>,
    number: u32,
    origin: u64,
    segments: Segments,
    /// The number of log groups ever stored.
    groups: u64,
}

impl ShardEnd {
    /// Returns the number of log groups that were stored before a generation, the latest one.
    fn groups_before(&self, generation: &Generation) -> u64 {
        if self.origin >= generation.began { 0 } else { self.segments.last_begin().unwrap_or(self.groups) }
    }
}

fn shards_of(connection: &Connection, condition: &str) -> Result<Vec<ShardEnd>, StoreError> {
    let mut later = read_segments(connection)?;
    let mut select = connection.prepare(&format!(
        "SELECT id, logstore, number, origin, next FROM shard WHERE {condition} ORDER BY id"
    ))?;
    let mut last = connection.prepare_cached("SELECT max(id) FROM log_group WHERE id >= ?1 AND id < ?2")?;
    let mut rows = select.query([])?;
    let mut shards = vec![];
    while let Some(row) = rows.next()? {
        let (id, origin, next): (i64, u64, u64) = (row.get(0)?, row.get(3)?, row.get(4)?);
        let mut segments = Segments::from_origin(origin);
        later
            .remove(&id)
            .into_iter()
            .flatten()
            .for_each(|(before, position)| segments.push(before, position));
        let first = id << POSITION_BITS;
        let newest: Option<i64> = last.query_row([first, first + (1 << POSITION_BITS)], |row| row.get(0))?;
        let stored = newest.map_or(0, |row| (row - first) as u64 + 1);
        // The chain knows of log groups that were removed from outside: these are damage, and no other life.
        let chain = chain::read(connection, id)?.map_or(0, |chain| chain.groups(&segments));
        let groups = stored.max(segments.groups_before(next)).max(chain);
        shards.push(ShardEnd { id, logstore: row.get(1)?, number: row.get(2)?, origin, segments, groups });
    }
    Ok(shards)
}

/// Returns the positions of a shard.
pub(super) fn segments_of(connection: &Connection, shard: i64, origin: u64) -> Result<Segments, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT before, position FROM segment WHERE shard = ?1 ORDER BY position")?;
    let mut rows = select.query([shard])?;
    let mut segments = Segments::from_origin(origin);
    while let Some(row) = rows.next()? {
        segments.push(row.get(0)?, row.get(1)?);
    }
    Ok(segments)
}

/// Reads the later positions of shards: the number of log groups before each run, and its first position.
pub(super) fn read_segments(connection: &Connection) -> Result<HashMap<i64, Vec<(u64, u64)>>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT shard, before, position FROM segment ORDER BY position")?;
    let mut rows = select.query([])?;
    let mut segments: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
    while let Some(row) = rows.next()? {
        segments.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
    }
    Ok(segments)
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

/// Moves a rule behind the logs of another life of the store, and ends its open tasks.
fn skip(connection: &Connection, rule: i64, ends: &[(u32, u64)], now: u64) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE task SET status = 'success', finished = ?2, next_try = NULL, stage = NULL, code = '',
             message = 'skipped: another life of the store shipped these logs'
         WHERE rule = ?1 AND (status = 'running' OR next_try IS NOT NULL)",
        params![rule, now],
    )?;
    for (shard, end) in ends {
        connection.execute(
            "INSERT INTO progress (rule, shard, next_cursor, next_log, done_cursor, done_log)
             VALUES (?1, ?2, ?3, 0, ?3, 0)
             ON CONFLICT DO UPDATE SET next_cursor = ?3, next_log = 0 WHERE next_cursor < ?3",
            params![rule, shard, end],
        )?;
        move_checkpoint(connection, rule, *shard)?;
    }
    Ok(())
}

/// Returns the rules whose logs another life of the store may have shipped: they have open tasks that are not
/// `repeatable`, or logs of before the generation that are in no task.
fn find_waiting_rules(
    connection: &Connection,
    generation: &Generation,
    repeatable: &HashSet<i64>,
) -> Result<HashSet<i64>, StoreError> {
    let shards = shards_of(connection, "logstore IS NOT NULL")?;
    let mut select = connection.prepare("SELECT id, logstore FROM rule WHERE deleted IS NULL")?;
    let mut rows = select.query([])?;
    let mut waiting = HashSet::new();
    while let Some(row) = rows.next()? {
        let (rule, logstore): (i64, i64) = (row.get(0)?, row.get(1)?);
        let mut own = shards.iter().filter(|shard| shard.logstore == Some(logstore));
        let mut is_waiting = !repeatable.contains(&rule) && has_open_task(connection, rule)?;
        while let Some(shard) = own.next().filter(|_| !is_waiting) {
            is_waiting = has_unshipped(connection, rule, shard, generation)?;
        }
        if is_waiting {
            waiting.insert(rule);
        }
    }
    Ok(waiting)
}

fn read_waiting_rules(connection: &Connection) -> Result<HashSet<i64>, StoreError> {
    let mut select = connection.prepare("SELECT rule FROM waiting_rule")?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Returns the names of the waiting rules.
pub(super) fn name_waiting_rules(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut select = connection.prepare(
        "SELECT project.name || '/' || logstore.name || '/' || rule.name FROM waiting_rule
         JOIN rule ON rule.id = waiting_rule.rule JOIN logstore ON logstore.id = rule.logstore
         JOIN project ON project.id = logstore.project ORDER BY 1",
    )?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn has_open_task(connection: &Connection, rule: i64) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM task WHERE rule = ?1 AND (status = 'running' OR next_try IS NOT NULL)",
    )?;
    Ok(select.exists([rule])?)
}

/// Returns true if a shard has logs of before the generation that are in no task of the rule.
fn has_unshipped(
    connection: &Connection,
    rule: i64,
    shard: &ShardEnd,
    generation: &Generation,
) -> Result<bool, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT next_cursor FROM progress WHERE rule = ?1 AND shard = ?2")?;
    let next = select.query_row(params![rule, shard.number], |row| row.get(0)).optional()?;
    let next = next.map_or(0, |next| shard.segments.groups_before(next));
    let end = shard.groups_before(generation);
    let mut select =
        connection.prepare_cached("SELECT 1 FROM log_group WHERE id >= ?1 AND id < ?2 LIMIT 1")?;
    let first = shard.id << POSITION_BITS;
    Ok(next < end && select.exists([first + next as i64, first + end as i64])?)
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

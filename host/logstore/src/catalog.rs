//! The catalog: all projects, logstores and shards, cached in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use logship_sls::hash_key::{HashKey, HashRange};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use tokio::sync::Notify;

use crate::consumer_group::ConsumerGroup;
use crate::error::StoreError;
use crate::rule::{ShippingRule, read_rules};
use crate::stage::{StageAliases, read_stages};

/// A snapshot of all projects, logstores and shards.
#[derive(Debug, Default)]
pub struct Catalog {
    projects: BTreeMap<String, Arc<Project>>,
    stages: StageAliases,
    /// The shards of deleted logstores that still have logs to delete.
    pub(crate) orphans: Vec<Arc<Shard>>,
}

/// A project: a namespace of logstores.
#[derive(Debug)]
pub struct Project {
    /// The name.
    pub name: String,
    /// The description.
    pub description: String,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
    /// The logstores, by name.
    pub logstores: BTreeMap<String, Arc<Logstore>>,
}

/// A logstore: logs of one kind, with a time to live.
#[derive(Debug)]
pub struct Logstore {
    pub(crate) id: i64,
    /// The name of its project.
    pub project: String,
    /// The name.
    pub name: String,
    /// The time to live of its logs, in days.
    pub ttl: u32,
    /// Other settings of the client, returned unchanged and not interpreted.
    pub settings: Value,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
    /// The shards, by number.
    pub shards: Vec<Arc<Shard>>,
    /// The consumer groups, by name.
    pub groups: BTreeMap<String, ConsumerGroup>,
    /// The shipping rules, by name.
    pub rules: BTreeMap<String, ShippingRule>,
    /// The round-robin counter of [`next_shard`](Self::next_shard).
    pub(crate) round_robin: AtomicUsize,
}

/// A shard: a sequence of log groups. The position of a log group is its cursor.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: i64,
    /// The number within the logstore.
    pub number: u32,
    /// True if the shard accepts puts: until it is split or merged.
    pub writable: bool,
    /// The range of hash keys that are routed to the shard.
    pub keys: HashRange,
    /// The shards it was split or merged from.
    pub parents: Vec<u32>,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The position of the first log group ever stored in it.
    pub(crate) origin: u64,
    pub(crate) state: Arc<ShardState>,
}

/// The state of a shard that changes with every put. Successive catalogs share it.
#[derive(Debug)]
pub(crate) struct ShardState {
    /// The position of the oldest log group.
    pub(crate) begin: AtomicU64,
    /// The position of the next log group.
    pub(crate) end: AtomicU64,
    /// The time of receipt of the last log group, in Unix seconds.
    pub(crate) received: AtomicU64,
    /// The time of the newest log, in Unix seconds.
    pub(crate) newest: AtomicU64,
    /// True if the newest catalog says that the shard accepts no more puts.
    pub(crate) read_only: AtomicBool,
    /// Wakes readers after a put.
    pub(crate) written: Notify,
}

/// The number of bits of a row id that count the log groups of a shard: enough for 10^12 log groups.
const POSITION_BITS: u32 = 40;

impl Catalog {
    /// Returns all projects, in the order of their names.
    pub fn projects(&self) -> impl Iterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    /// Returns the project of this name.
    pub fn project(&self, name: &str) -> Result<&Arc<Project>, StoreError> {
        self.projects.get(name).ok_or_else(|| StoreError::NoProject(name.into()))
    }

    /// Returns a logstore by its project and name.
    pub fn logstore(&self, project: &str, name: &str) -> Result<&Arc<Logstore>, StoreError> {
        self.project(project)?.logstores.get(name).ok_or_else(|| StoreError::NoLogstore(name.into()))
    }

    /// Returns the stage aliases.
    pub fn stages(&self) -> &StageAliases {
        &self.stages
    }

    /// Returns all logstores.
    pub fn logstores(&self) -> impl Iterator<Item = &Arc<Logstore>> {
        self.projects.values().flat_map(|project| project.logstores.values())
    }

    /// Reads the catalog from the database. Shards of the `previous` catalog keep their state.
    pub(crate) fn read(connection: &Connection, previous: &Self) -> Result<Self, StoreError> {
        let known: HashMap<i64, Arc<ShardState>> =
            previous.shards().map(|shard| (shard.id, Arc::clone(&shard.state))).collect();
        let mut shards = read_shards(connection, &known)?;
        let mut logstores = read_logstores(connection, &mut shards)?;
        let mut statement =
            connection.prepare_cached("SELECT id, name, description, created, modified FROM project")?;
        let projects = statement.query_map([], |row| {
            Ok(Project {
                name: row.get(1)?,
                description: row.get(2)?,
                created: row.get(3)?,
                modified: row.get(4)?,
                logstores: logstores.remove(&row.get(0)?).unwrap_or_default(),
            })
        })?;
        let projects = projects
            .map(|project| project.map(|project| (project.name.clone(), Arc::new(project))))
            .collect::<Result<_, _>>()?;
        let (stages, orphans) = (read_stages(connection)?, shards.remove(&None).unwrap_or_default());
        Ok(Self { projects, stages, orphans })
    }

    /// Returns all shards, including those of deleted logstores.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.logstores().flat_map(|logstore| &logstore.shards).chain(&self.orphans)
    }
}

impl Logstore {
    /// Returns the shard of this number.
    pub fn shard(&self, number: u32) -> Result<&Arc<Shard>, StoreError> {
        self.shards
            .binary_search_by_key(&number, |shard| shard.number)
            .map(|index| &self.shards[index])
            .map_err(|_| StoreError::NoShard(number))
    }

    /// Returns the writable shards.
    pub fn writable(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().filter(|shard| shard.writable)
    }

    /// Returns the shard for the next logs without a key: round robin among the writable shards.
    pub fn next_shard(&self) -> Option<&Arc<Shard>> {
        let count = self.writable().count().max(1);
        self.writable().nth(self.round_robin.fetch_add(1, Ordering::Relaxed) % count)
    }

    /// Returns the writable shard whose range contains the key.
    pub fn shard_of(&self, key: HashKey) -> Option<&Arc<Shard>> {
        self.writable().find(|shard| shard.keys.contains(key))
    }
}

impl Shard {
    /// Returns the position of the oldest stored log group.
    pub fn begin(&self) -> u64 {
        self.state.begin.load(Ordering::Acquire)
    }

    /// Returns the end of the shard: the position of the next log group.
    pub fn end(&self) -> u64 {
        self.state.end.load(Ordering::Acquire)
    }

    /// Returns the time of receipt of the last log group, in Unix seconds; 0 if the shard never had one.
    pub fn last_received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Returns the time of the newest log, in Unix seconds; 0 if the shard never had one.
    pub fn newest(&self) -> u64 {
        self.state.newest.load(Ordering::Relaxed)
    }

    /// Waits until there is a log group at `position`.
    pub async fn wait_for(&self, position: u64) {
        loop {
            let written = self.state.written.notified();
            tokio::pin!(written);
            // Registers before the check, so that no put in between is missed.
            written.as_mut().enable();
            if self.end() > position {
                return;
            }
            written.await;
        }
    }

    /// Returns the row id of the log group at `position`.
    pub(crate) fn row(&self, position: u64) -> i64 {
        (self.id << POSITION_BITS) + position.saturating_sub(self.origin).min((1 << POSITION_BITS) - 1) as i64
    }

    /// Returns the range of the shard's row ids: the first, and one past the last.
    pub(crate) fn rows(&self) -> (i64, i64) {
        (self.id << POSITION_BITS, (self.id + 1) << POSITION_BITS)
    }

    /// Returns the position of the log group in `row`.
    pub(crate) fn position(&self, row: i64) -> u64 {
        self.origin + (row - (self.id << POSITION_BITS)) as u64
    }
}

impl ShardState {
    fn read(connection: &Connection, shard: i64, origin: u64, next: u64) -> Result<Self, rusqlite::Error> {
        let first = shard << POSITION_BITS;
        let range = params![first, first + (1 << POSITION_BITS)];
        let edge = |order: &str| {
            let query = format!(
                "SELECT id, received, newest FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id {order} LIMIT 1"
            );
            let mut statement = connection.prepare_cached(&query)?;
            let row = statement.query_row(range, |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?, row.get::<_, u64>(2)?))
            });
            row.optional()
        };
        let position = |row: i64| origin + (row - first) as u64;
        let last = edge("DESC")?;
        let end = last.map_or(next, |(row, ..)| position(row) + 1).max(next);
        Ok(Self {
            begin: edge("ASC")?.map_or(end, |(row, ..)| position(row)).into(),
            end: end.into(),
            received: last.map_or(0, |(_, received, _)| received).into(),
            newest: last.map_or(0, |(.., newest)| newest).into(),
            read_only: false.into(),
            written: Notify::new(),
        })
    }
}

type Shards = HashMap<Option<i64>, Vec<Arc<Shard>>>;

fn read_shards(connection: &Connection, known: &HashMap<i64, Arc<ShardState>>) -> Result<Shards, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, logstore, number, writable, begin_key, end_key, parents, created, origin, next
         FROM shard ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    let mut shards = Shards::new();
    while let Some(row) = rows.next()? {
        let (id, origin): (i64, u64) = (row.get(0)?, row.get(8)?);
        let state = match known.get(&id) {
            Some(state) => Arc::clone(state),
            None => Arc::new(ShardState::read(connection, id, origin, row.get(9)?)?),
        };
        let (logstore, writable): (Option<i64>, bool) = (row.get(1)?, row.get(3)?);
        state.read_only.store(logstore.is_none() || !writable, Ordering::Release);
        let shard = Shard {
            id,
            number: row.get(2)?,
            writable,
            keys: HashRange { begin: key(row, 4)?, end: key(row, 5)? },
            parents: serde_json::from_str(&row.get::<_, String>(6)?).map_err(|error| corrupt(6, error))?,
            created: row.get(7)?,
            origin,
            state,
        };
        shards.entry(logstore).or_default().push(Arc::new(shard));
    }
    Ok(shards)
}

fn read_logstores(
    connection: &Connection,
    shards: &mut Shards,
) -> Result<HashMap<i64, BTreeMap<String, Arc<Logstore>>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT logstore.id, project.id, project.name, logstore.name, ttl, settings, logstore.created, logstore.modified
         FROM logstore JOIN project ON project.id = logstore.project",
    )?;
    let mut rows = statement.query([])?;
    let (mut groups, mut rules) = (read_groups(connection)?, read_rules(connection)?);
    let mut logstores: HashMap<i64, BTreeMap<String, Arc<Logstore>>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let logstore = Logstore {
            id,
            project: row.get(2)?,
            name: row.get(3)?,
            ttl: row.get(4)?,
            settings: serde_json::from_str(&row.get::<_, String>(5)?).map_err(|error| corrupt(5, error))?,
            created: row.get(6)?,
            modified: row.get(7)?,
            shards: shards.remove(&Some(id)).unwrap_or_default(),
            groups: groups.remove(&id).unwrap_or_default(),
            rules: rules.remove(&id).unwrap_or_default(),
            round_robin: AtomicUsize::new(0),
        };
        logstores.entry(row.get(1)?).or_default().insert(logstore.name.clone(), Arc::new(logstore));
    }
    Ok(logstores)
}

fn read_groups(connection: &Connection) -> Result<HashMap<i64, BTreeMap<String, ConsumerGroup>>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT logstore, id, name, timeout, ordered FROM consumer_group")?;
    let mut rows = statement.query([])?;
    let mut groups: HashMap<i64, BTreeMap<String, ConsumerGroup>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let group =
            ConsumerGroup { id: row.get(1)?, name: row.get(2)?, timeout: row.get(3)?, ordered: row.get(4)? };
        groups.entry(row.get(0)?).or_default().insert(group.name.clone(), group);
    }
    Ok(groups)
}

fn key(row: &rusqlite::Row<'_>, column: usize) -> Result<HashKey, rusqlite::Error> {
    row.get::<_, String>(column)?.parse().map_err(|error| corrupt(column, error))
}

fn corrupt(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

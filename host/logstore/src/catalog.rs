//! What there is: projects, their logstores, the shards of these. Kept in memory whole, beside the database.

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
use crate::stage::{StageNames, read_stages};

/// Everything there is at one moment.
#[derive(Debug, Default)]
pub struct Catalog {
    projects: BTreeMap<String, Arc<Project>>,
    stages: StageNames,
    /// Shards whose logstore is gone, but not yet all of their logs.
    pub(crate) dropped: Vec<Arc<Shard>>,
}

/// A project: a name that logstores stand below.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// When it was changed last, in Unix seconds.
    pub modified: u64,
    /// Its logstores, by name.
    pub logstores: BTreeMap<String, Arc<Logstore>>,
}

/// A logstore: logs of one kind, kept for a while.
#[derive(Debug)]
pub struct Logstore {
    pub(crate) id: i64,
    /// The project that it belongs to.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Days that its logs are kept.
    pub ttl: u32,
    /// What clients set besides: given back as it was, and of no meaning here.
    pub settings: Value,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// When it was changed last, in Unix seconds.
    pub modified: u64,
    /// Its shards, by number.
    pub shards: Vec<Arc<Shard>>,
    /// Its consumer groups, by name.
    pub groups: BTreeMap<String, ConsumerGroup>,
    /// What ships it, by name.
    pub rules: BTreeMap<String, ShippingRule>,
    /// Whose turn it is among the shards that take logs.
    pub(crate) turn: AtomicUsize,
}

/// A shard: a sequence of log groups, each at a position, its cursor.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: i64,
    /// Its number within the logstore.
    pub number: u32,
    /// Whether logs can be put: not after it was split or merged.
    pub writable: bool,
    /// The hash keys whose logs it takes.
    pub keys: HashRange,
    /// The shards that it was split or merged from.
    pub parents: Vec<u32>,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// The position of the first log group it ever had.
    pub(crate) origin: u64,
    pub(crate) live: Arc<Live>,
}

/// What changes with every put.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) begin: AtomicU64,
    pub(crate) end: AtomicU64,
    /// When the last log group was received.
    pub(crate) received: AtomicU64,
    /// The time of the newest log.
    pub(crate) newest: AtomicU64,
    /// Whether it takes no more logs, by the newest catalog.
    pub(crate) closed: AtomicBool,
    pub(crate) written: Notify,
}

/// Bits of a row's number that count the log groups of a shard: a million million.
const POSITION_BITS: u32 = 40;

impl Catalog {
    /// All projects, by name.
    pub fn projects(&self) -> impl Iterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    /// The project of this name.
    pub fn project(&self, name: &str) -> Result<&Arc<Project>, StoreError> {
        self.projects.get(name).ok_or_else(|| StoreError::NoProject(name.into()))
    }

    /// The logstore of this name in that project.
    pub fn logstore(&self, project: &str, name: &str) -> Result<&Arc<Logstore>, StoreError> {
        self.project(project)?.logstores.get(name).ok_or_else(|| StoreError::NoLogstore(name.into()))
    }

    /// The names of stages.
    pub fn stages(&self) -> &StageNames {
        &self.stages
    }

    /// All logstores there are.
    pub fn logstores(&self) -> impl Iterator<Item = &Arc<Logstore>> {
        self.projects.values().flat_map(|project| project.logstores.values())
    }

    /// Reads it from the database. What was live in `before` stays so.
    pub(crate) fn read(connection: &Connection, before: &Self) -> Result<Self, StoreError> {
        let known: HashMap<i64, Arc<Live>> =
            before.shards().map(|shard| (shard.id, Arc::clone(&shard.live))).collect();
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
        let (stages, dropped) = (read_stages(connection)?, shards.remove(&None).unwrap_or_default());
        Ok(Self { projects, stages, dropped })
    }

    /// Every shard, also those whose logstore is gone.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.logstores().flat_map(|logstore| &logstore.shards).chain(&self.dropped)
    }
}

impl Logstore {
    /// The shard of this number.
    pub fn shard(&self, number: u32) -> Result<&Arc<Shard>, StoreError> {
        self.shards
            .binary_search_by_key(&number, |shard| shard.number)
            .map(|index| &self.shards[index])
            .map_err(|_| StoreError::NoShard(number))
    }

    /// The shards that take logs.
    pub fn writable(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().filter(|shard| shard.writable)
    }

    /// The shard that takes logs without a key: each in turn.
    pub fn next_shard(&self) -> Option<&Arc<Shard>> {
        let count = self.writable().count().max(1);
        self.writable().nth(self.turn.fetch_add(1, Ordering::Relaxed) % count)
    }

    /// The shard that takes the logs of `key`.
    pub fn shard_of(&self, key: HashKey) -> Option<&Arc<Shard>> {
        self.writable().find(|shard| shard.keys.contains(key))
    }
}

impl Shard {
    /// The position of the oldest log group that is still there.
    pub fn begin(&self) -> u64 {
        self.live.begin.load(Ordering::Acquire)
    }

    /// The position of the next log group: nothing is there yet.
    pub fn end(&self) -> u64 {
        self.live.end.load(Ordering::Acquire)
    }

    /// When the last log group was received, in Unix seconds; 0 if there never was one.
    pub fn last_received(&self) -> u64 {
        self.live.received.load(Ordering::Relaxed)
    }

    /// The time of the newest log, in Unix seconds; 0 if there never was one.
    pub fn newest(&self) -> u64 {
        self.live.newest.load(Ordering::Relaxed)
    }

    /// Waits until there is something at `position`.
    pub async fn written(&self, position: u64) {
        loop {
            let written = self.live.written.notified();
            tokio::pin!(written);
            // Before looking, so that no put comes between.
            written.as_mut().enable();
            if self.end() > position {
                return;
            }
            written.await;
        }
    }

    /// The row of the log group at `position`.
    pub(crate) fn row(&self, position: u64) -> i64 {
        (self.id << POSITION_BITS) + position.saturating_sub(self.origin).min((1 << POSITION_BITS) - 1) as i64
    }

    /// The rows that are the shard's: the first, and one past the last.
    pub(crate) fn rows(&self) -> (i64, i64) {
        (self.id << POSITION_BITS, (self.id + 1) << POSITION_BITS)
    }

    /// The position of the log group in `row`.
    pub(crate) fn position(&self, row: i64) -> u64 {
        self.origin + (row - (self.id << POSITION_BITS)) as u64
    }
}

impl Live {
    fn find(connection: &Connection, shard: i64, origin: u64, next: u64) -> Result<Self, rusqlite::Error> {
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
            closed: false.into(),
            written: Notify::new(),
        })
    }
}

type Shards = HashMap<Option<i64>, Vec<Arc<Shard>>>;

fn read_shards(connection: &Connection, known: &HashMap<i64, Arc<Live>>) -> Result<Shards, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, logstore, number, writable, begin_key, end_key, parents, created, origin, next
         FROM shard ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    let mut shards = Shards::new();
    while let Some(row) = rows.next()? {
        let (id, origin): (i64, u64) = (row.get(0)?, row.get(8)?);
        let live = match known.get(&id) {
            Some(live) => Arc::clone(live),
            None => Arc::new(Live::find(connection, id, origin, row.get(9)?)?),
        };
        let (logstore, writable): (Option<i64>, bool) = (row.get(1)?, row.get(3)?);
        live.closed.store(logstore.is_none() || !writable, Ordering::Release);
        let shard = Shard {
            id,
            number: row.get(2)?,
            writable,
            keys: HashRange { begin: key(row, 4)?, end: key(row, 5)? },
            parents: serde_json::from_str(&row.get::<_, String>(6)?).map_err(|error| corrupt(6, error))?,
            created: row.get(7)?,
            origin,
            live,
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
            turn: AtomicUsize::new(0),
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

//! Reads the catalog from the database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use logship_sls::hash_key::{HashKey, HashRange};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;

use super::chain;
use super::data_source::read_sources;
use super::deletion::Deletions;
use super::json::read_json;
use super::rule::read_rules;
use super::segments::{read_segments, segments_from};
use super::stage::read_stages;
use crate::error::StoreError;
use crate::model::{
    Catalog, Chain, ConsumerGroup, Logstore, POSITION_BITS, Project, Segments, Shard, ShardState,
};

impl Catalog {
    /// Reads the catalog from the database. Shards of the `previous` catalog keep their state.
    pub(super) fn read(connection: &Connection, previous: &Self) -> Result<Self, StoreError> {
        let known: HashMap<i64, Arc<ShardState>> =
            previous.shards().map(|shard| (shard.id, Arc::clone(&shard.state))).collect();
        let mut shards = read_shards(connection, &known)?;
        let mut logstores = read_logstores(connection, &mut shards)?;
        let mut statement =
            connection.prepare_cached("SELECT id, name, description, created, modified FROM project")?;
        let mut rows = statement.query([])?;
        let (deletions, mut sources) = (Deletions::read(connection)?, read_sources(connection)?);
        let mut catalog = Self {
            stages: read_stages(connection)?,
            orphans: shards.remove(&None).unwrap_or_default(),
            ..Self::default()
        };
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let mut project = Project {
                name: row.get(1)?,
                description: row.get(2)?,
                created: row.get(3)?,
                modified: row.get(4)?,
                logstores: BTreeMap::new(),
                sources: sources.remove(&id).unwrap_or_default(),
            };
            let mut live = logstores.remove(&id).unwrap_or_default();
            let (deleted, deleted_project) = deletions.take(id, &project, &mut live);
            catalog.deleted_logstores.extend(deleted);
            match deleted_project {
                Some(deleted) => catalog.deleted_projects.push(deleted),
                None => {
                    project.logstores = live;
                    catalog.projects.insert(project.name.clone(), Arc::new(project));
                }
            }
        }
        Ok(catalog)
    }
}

impl ShardState {
    fn read(
        connection: &Connection,
        shard: i64,
        segments: &Segments,
        next: u64,
    ) -> Result<Self, rusqlite::Error> {
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
        let before = |row: i64| (row - first) as u64;
        let last = edge("DESC")?;
        let stored = last.map_or(0, |(row, ..)| before(row) + 1);
        let recorded = chain::read(connection, shard)?;
        // Removed log groups leave a gap at the ends: it is not closed, so readers fail there.
        let known = recorded.map_or(0, |chain| chain.groups(segments)).max(segments.groups_before(next));
        let end = segments.position(stored.max(known));
        let begin = edge("ASC")?.map_or(end, |(row, ..)| segments.position(before(row)));
        let begin = recorded.map_or(begin, |chain| chain.start.min(begin));
        Ok(Self {
            begin: begin.into(),
            end: end.into(),
            chain: recorded.unwrap_or_else(|| Chain::begin(shard, segments.origin(), end)).into(),
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
    let mut later = read_segments(connection)?;
    while let Some(row) = rows.next()? {
        let (id, origin): (i64, u64) = (row.get(0)?, row.get(8)?);
        let segments = segments_from(origin, later.remove(&id));
        let state = match known.get(&id) {
            Some(state) => Arc::clone(state),
            None => Arc::new(ShardState::read(connection, id, &segments, row.get(9)?)?),
        };
        let (logstore, writable): (Option<i64>, bool) = (row.get(1)?, row.get(3)?);
        state.read_only.store(logstore.is_none() || !writable, Ordering::Release);
        let shard = Shard {
            id,
            number: row.get(2)?,
            writable,
            keys: HashRange { begin: key(row, 4)?, end: key(row, 5)? },
            parents: read_json(row, 6)?,
            created: row.get(7)?,
            segments,
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
        "SELECT logstore.id, project.id, project.name, logstore.name, ttl, settings, logstore.created, logstore.modified,
             legal_hold.reason
         FROM logstore JOIN project ON project.id = logstore.project
         LEFT JOIN legal_hold ON legal_hold.logstore = logstore.id",
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
            settings: read_json(row, 5)?,
            created: row.get(6)?,
            modified: row.get(7)?,
            hold: row.get(8)?,
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
    let mut statement = connection
        .prepare_cached("SELECT logstore, id, name, timeout, ordered, creator FROM consumer_group")?;
    let mut rows = statement.query([])?;
    let mut groups: HashMap<i64, BTreeMap<String, ConsumerGroup>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let group = ConsumerGroup {
            id: row.get(1)?,
            name: row.get(2)?,
            timeout: row.get(3)?,
            ordered: row.get(4)?,
            creator: row.get(5)?,
        };
        groups.entry(row.get(0)?).or_default().insert(group.name.clone(), group);
    }
    Ok(groups)
}

fn key(row: &rusqlite::Row<'_>, column: usize) -> Result<HashKey, rusqlite::Error> {
    row.get::<_, String>(column)?.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

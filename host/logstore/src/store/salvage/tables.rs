//! Copies the tables of a damaged database.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::Salvage;
use crate::damage::Damage;
use crate::error::StoreError;
use crate::model::{Catalog, Shard};
use crate::store::chain;
use crate::store::integrity::{GROUP_COLUMNS, checked_group, unreadable};

/// The largest range of rows that is searched one by one behind an unreadable row.
const MAX_SEARCH: i64 = 10_000;

/// A table of the new database.
struct Table {
    name: String,
    columns: Vec<String>,
    has_rowid: bool,
}

impl Salvage {
    /// Copies all tables but the log groups.
    pub(super) fn copy_tables(&mut self, source: &Connection, target: &Connection) -> Result<(), StoreError> {
        let version = |connection: &Connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        };
        let is_current = version(source)? == version(target)?;
        for table in tables(source, target)? {
            if table.columns.is_empty() {
                if is_current {
                    self.broken_tables.push((table.name, 0));
                }
                continue;
            }
            let copied = table.copy(source, target)?;
            if let Some(rows) = copied {
                self.broken_tables.push((table.name, rows));
            }
        }
        // Ids of deleted rows are never used again.
        let mut sequences: Vec<(String, i64)> = vec![];
        scan(source, "SELECT name, seq FROM sqlite_sequence", &[], &mut |row| {
            sequences.extend(row.get(0).and_then(|name| Ok((name, row.get(1)?))).ok());
            Ok(())
        })?;
        for (name, sequence) in sequences {
            let known = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
            if target.execute(known, (&name, sequence))? == 0 {
                target
                    .execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (&name, sequence))?;
            }
        }
        Ok(())
    }

    /// Copies the log groups that match their checksums.
    pub(super) fn copy_groups(&mut self, source: &Connection, target: &Connection) -> Result<(), StoreError> {
        let catalog = Catalog::read(target, &Catalog::default())?;
        let has_checksums = columns(source, "log_group")?.iter().any(|column| column == "checksum");
        let select = match has_checksums {
            true => format!("SELECT {GROUP_COLUMNS}, head FROM log_group"),
            false => "SELECT id, received, newest, logs, size, body, NULL, NULL FROM log_group".into(),
        };
        for shard in catalog.shards() {
            let chain_start = chain::read(target, shard.id)?.map_or(u64::MAX, |chain| chain.start);
            let (first, end) = shard.rows();
            // Without the record of the chain, the end is unknown.
            let end = if chain_start == u64::MAX { end } else { end.min(shard.row(shard.end())) };
            let mut copy = GroupCopy { salvage: self, target, shard, chain_start };
            walk(source, &select, "id", (first, end), &mut |row| copy.copy(row))?;
        }
        Ok(())
    }
}

/// Copies the log groups of a shard.
struct GroupCopy<'a> {
    salvage: &'a mut Salvage,
    target: &'a Connection,
    shard: &'a Shard,
    chain_start: u64,
}

impl GroupCopy<'_> {
    fn copy(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        match checked_group(row, self.shard, self.chain_start) {
            Ok(_) => {
                let values = (0..8).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>();
                match values {
                    Ok(values) => self.salvage.groups += insert_group(self.target, &values)?,
                    Err(error) => {
                        let position = self.shard.position(row.get(0).unwrap_or_default());
                        let flaw = unreadable(position, &error);
                        self.salvage.damaged.push(Damage { shard: self.shard.number, position, flaw });
                    }
                }
            }
            Err(damage) => self.salvage.damaged.push(damage),
        }
        Ok(())
    }
}

/// Inserts a log group, unless it is there. Returns the number of inserted rows.
pub(super) fn insert_group(target: &Connection, values: &[Value]) -> Result<u64, StoreError> {
    let mut insert = target.prepare_cached(&format!(
        "INSERT OR IGNORE INTO log_group ({GROUP_COLUMNS}, head) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    ))?;
    Ok(insert.execute(params_from_iter(values))? as u64)
}

/// Deletes rows whose parents are lost.
pub(super) fn remove_orphans(target: &Connection) -> Result<(), StoreError> {
    loop {
        let mut statement = target.prepare("PRAGMA foreign_key_check")?;
        let orphans = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let with_rowid: Vec<_> = orphans.iter().filter_map(|(table, id)| Some((table, (*id)?))).collect();
        if with_rowid.is_empty() {
            return Ok(());
        }
        for (table, id) in with_rowid {
            target.execute(&format!("DELETE FROM \"{table}\" WHERE rowid = ?1"), [id])?;
        }
    }
}

/// Replaces values that no store can have, so that one of them does not keep the store from opening.
pub(super) fn replace_impossible_values(target: &Connection) -> Result<(), StoreError> {
    target.execute_batch(
        "UPDATE shard SET begin_key = '00000000000000000000000000000000', end_key = 'ffffffffffffffffffffffffffffffff'
         WHERE length(begin_key) <> 32 OR length(end_key) <> 32
             OR begin_key GLOB '*[^0-9a-fA-F]*' OR end_key GLOB '*[^0-9a-fA-F]*';
         UPDATE shard SET parents = '[]' WHERE NOT json_valid(parents);
         UPDATE logstore SET settings = '{}' WHERE NOT json_valid(settings);
         DELETE FROM rule WHERE NOT json_valid(configuration);
         DELETE FROM data_source WHERE NOT json_valid(content);
         DELETE FROM job WHERE NOT json_valid(configuration);
         DELETE FROM run WHERE NOT json_valid(parameters);",
    )?;
    Ok(())
}

/// Makes up projects and logstores whose rows are lost, so that their log groups stay readable.
pub(super) fn name_orphans(target: &Connection) -> Result<(), StoreError> {
    target.execute_batch(
        "INSERT INTO project (id, name, description, created, modified)
         SELECT DISTINCT project, 'salvaged-' || project, '', 0, 0 FROM logstore
         WHERE project NOT IN (SELECT id FROM project);
         INSERT OR IGNORE INTO project (name, description, created, modified)
         SELECT 'salvaged', '', 0, 0 FROM shard WHERE logstore NOT IN (SELECT id FROM logstore) LIMIT 1;
         INSERT INTO logstore (id, project, name, ttl, settings, created, modified)
         SELECT DISTINCT logstore, (SELECT id FROM project WHERE name = 'salvaged'), 'salvaged-' || logstore, 3650, '{}', 0, 0
         FROM shard WHERE logstore NOT IN (SELECT id FROM logstore)",
    )?;
    Ok(())
}

/// Returns the columns of a table; none if it does not exist.
fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    Ok(statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Returns all tables, with the columns that both databases have: the damaged one may be of an older version, or a part
/// of its schema is damaged.
fn tables(source: &Connection, target: &Connection) -> Result<Vec<Table>, StoreError> {
    let mut statement = target.prepare(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
         AND name NOT LIKE 'sqlite_%' AND name <> 'log_group'",
    )?;
    let names = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let mut tables = vec![];
    for (name, without_rowid) in names {
        let known = self::columns(target, &name)?;
        let mut columns = self::columns(source, &name)?;
        columns.retain(|column| known.contains(column));
        tables.push(Table { name, columns, has_rowid: !without_rowid });
    }
    Ok(tables)
}

impl Table {
    fn select(&self, clause: &str) -> String {
        format!("SELECT {} FROM \"{}\" {clause}", self.columns.join(", "), self.name)
    }

    /// Copies the rows. Returns their number if some are unreadable.
    fn copy(&self, source: &Connection, target: &Connection) -> Result<Option<u64>, StoreError> {
        let places = (1..=self.columns.len()).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
        let mut insert = target.prepare(&format!(
            "INSERT OR IGNORE INTO \"{}\" ({}) VALUES ({places})",
            self.name,
            self.columns.join(", ")
        ))?;
        let (mut rows, mut is_broken) = (0, false);
        let mut copy = |row: &Row<'_>| {
            let values =
                (0..self.columns.len()).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>();
            // A value of another type than the column's is damage as well.
            match values.and_then(|values| insert.execute(params_from_iter(values))) {
                Ok(inserted) => rows += inserted as u64,
                Err(error) if is_full(&error) => return Err(error.into()),
                Err(_) => is_broken = true,
            }
            Ok(())
        };
        let is_complete = if self.has_rowid {
            let select = format!("SELECT {}, rowid AS rowid FROM \"{}\"", self.columns.join(", "), self.name);
            walk(source, &select, "rowid", (i64::MIN, i64::MAX), &mut copy)?
        } else {
            let key = (1..=self.columns.len()).map(|place| place.to_string()).collect::<Vec<_>>();
            let ascending = scan(source, &self.select(""), &[], &mut copy)?;
            let backward = key.iter().map(|place| format!("{place} DESC")).collect::<Vec<_>>().join(", ");
            ascending || {
                scan(source, &self.select(&format!("ORDER BY {backward}")), &[], &mut copy)?;
                false
            }
        };
        Ok((is_broken || !is_complete).then_some(rows))
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// Visits the rows of a table in a range of row ids: forward up to an unreadable one, backward up to another one, and
/// one by one between them. Returns true if all were readable.
fn walk(
    source: &Connection,
    select: &str,
    id: &str,
    (first, end): (i64, i64),
    visit: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let (mut low, mut high) = (None, None);
    let forward = format!("{select} WHERE {id} >= ?1 AND {id} < ?2 ORDER BY {id}");
    let backward = format!("{forward} DESC");
    if scan_ids(source, &forward, id, [first, end], &mut |row, id| {
        low = Some(id);
        visit(row)
    })? {
        return Ok(true);
    }
    let from = low.map_or(first, |low| low + 1);
    scan_ids(source, &backward, id, [from, end], &mut |row, id| {
        high = Some(id);
        visit(row)
    })?;
    if low.is_none() && high.is_none() {
        // The root is damaged: no row is readable.
        return Ok(false);
    }
    let from = if low.is_none() && first == i64::MIN { 1 } else { from };
    let to = high.unwrap_or(end).min(from.saturating_add(MAX_SEARCH));
    let single = format!("{select} WHERE {id} = ?1");
    for row in from..to {
        scan(source, &single, &[row], visit)?;
    }
    Ok(false)
}

/// Visits rows with their ids. Returns false at an unreadable one.
fn scan_ids(
    source: &Connection,
    select: &str,
    id: &str,
    range: [i64; 2],
    visit: &mut dyn FnMut(&Row<'_>, i64) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    scan(source, select, &range, &mut |row| visit(row, row.get(id)?))
}

/// Visits rows. Returns false at an unreadable one.
fn scan(
    source: &Connection,
    select: &str,
    parameters: &[i64],
    visit: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let Ok(mut statement) = source.prepare_cached(select) else { return Ok(false) };
    let Ok(mut rows) = statement.query(params_from_iter(parameters)) else { return Ok(false) };
    loop {
        match rows.next() {
            Ok(Some(row)) => visit(row)?,
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
}

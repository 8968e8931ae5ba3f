//! Finds log groups in the pages of a database file, without its trees.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::Salvage;
use super::tables::insert_group;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Catalog, GroupColumns, POSITION_BITS, Shard};
use crate::store::chain;

/// The type of a page with rows of a table.
const TABLE_LEAF: u8 = 0x0d;

/// The columns of a log group.
const COLUMNS: usize = 8;

/// The largest log group that a damaged length may claim, in bytes.
const MAX_ROW: u64 = 1 << 30;

/// The pages of a database: those of its write-ahead log replace those of the file.
struct Pages {
    file: File,
    log: Option<File>,
    /// The place of a page in the write-ahead log.
    in_log: HashMap<u32, u64>,
    size: usize,
    count: u32,
}

impl Salvage {
    /// Searches the pages for log groups that are not copied yet, and copies them if their checksums prove them.
    pub(super) fn find_groups(
        &mut self,
        source: &Connection,
        path: &Path,
        target: &Connection,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        let size = source.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))? as usize;
        let pages = Pages::open(path, size).map_err(failed)?;
        let catalog = Catalog::read(target, &Catalog::default())?;
        let shards: HashMap<i64, &Shard> = catalog.shards().map(|shard| (shard.id, &**shard)).collect();
        for number in 1..=pages.count {
            let Ok(page) = pages.read(number) else { continue };
            for row in pages.rows(number, &page) {
                let found = is_proven(&row, &shards, target)?;
                if found && insert_group(target, &row)? > 0 {
                    self.groups += 1;
                    self.found += 1;
                }
            }
        }
        Ok(())
    }
}

/// Returns true if a row is a log group of a shard: its checksum matches, and retention did not delete it.
fn is_proven(row: &[Value], shards: &HashMap<i64, &Shard>, target: &Connection) -> Result<bool, StoreError> {
    let [
        Value::Integer(id),
        Value::Integer(received),
        Value::Integer(newest),
        Value::Integer(logs),
        Value::Integer(size),
        Value::Blob(body),
        Value::Blob(checksum),
        Value::Blob(_),
    ] = row
    else {
        return Ok(false);
    };
    let Some(shard) = shards.get(&(id >> POSITION_BITS)) else { return Ok(false) };
    let position = shard.position(*id);
    let number = |value: &i64| u32::try_from(*value).ok();
    let (Some(newest), Some(logs), Some(size)) = (number(newest), number(logs), number(size)) else {
        return Ok(false);
    };
    let columns = GroupColumns { position, received: *received as u64, newest, logs, size };
    let is_kept = chain::read(target, shard.id)?.is_none_or(|chain| position >= chain.start);
    Ok(is_kept && columns.checksum(shard, &Digest::of(body)).bytes()[..] == checksum[..])
}

impl Pages {
    fn open(path: &Path, size: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let count = (file.metadata()?.len() / size as u64) as u32;
        let mut log = path.to_owned().into_os_string();
        log.push("-wal");
        let log = File::open(log).ok();
        let mut pages = Self { file, log, in_log: HashMap::new(), size, count };
        if let Some(log) = &pages.log {
            pages.in_log = frames(log, size).unwrap_or_default();
            pages.count = pages.in_log.keys().copied().max().unwrap_or(0).max(pages.count);
        }
        Ok(pages)
    }

    fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        let mut page = vec![0; self.size];
        match (self.in_log.get(&number), &self.log) {
            (Some(at), Some(log)) => log.read_exact_at(&mut page, *at)?,
            _ => {
                let at = u64::from(number.max(1) - 1) * self.size as u64;
                self.file.read_exact_at(&mut page, at)?;
            }
        }
        Ok(page)
    }

    /// Returns the rows of a page that look like log groups.
    fn rows(&self, number: u32, page: &[u8]) -> Vec<Vec<Value>> {
        let header = if number == 1 { 100 } else { 0 };
        if page.get(header) != Some(&TABLE_LEAF) {
            return vec![];
        }
        let cells = number_at(page, header + 3, 2).unwrap_or(0) as usize;
        let cell = |index| self.row(page, number_at(page, header + 8 + 2 * index, 2)? as usize);
        (0..cells.min(self.size / 2)).filter_map(cell).collect()
    }

    /// Reads the row of the cell at `at`.
    fn row(&self, page: &[u8], at: usize) -> Option<Vec<Value>> {
        let mut cell = page.get(at..)?;
        let length = varint(&mut cell)?;
        let id = varint(&mut cell)? as i64;
        if length > MAX_ROW {
            return None;
        }
        record(&self.payload(cell, length as usize)?, id)
    }

    /// Reads the content of a cell, from its page and its overflow pages.
    fn payload(&self, cell: &[u8], length: usize) -> Option<Vec<u8>> {
        let most = self.size - 35;
        let least = (self.size - 12) * 32 / 255 - 23;
        let fitting = least + length.saturating_sub(least) % (self.size - 4);
        let local = match length {
            _ if length <= most => length,
            _ if fitting <= most => fitting,
            _ => least,
        };
        let mut payload = cell.get(..local)?.to_vec();
        let mut next = if local < length { number_at(cell, local, 4)? as u32 } else { 0 };
        while payload.len() < length {
            if next == 0 || next > self.count {
                return None;
            }
            let page = self.read(next).ok()?;
            next = number_at(&page, 0, 4)? as u32;
            let rest = (length - payload.len()).min(self.size - 4);
            payload.extend_from_slice(&page[4..4 + rest]);
        }
        Some(payload)
    }
}

/// Returns the places of the pages in a write-ahead log. Later frames replace earlier ones.
fn frames(log: &File, size: usize) -> io::Result<HashMap<u32, u64>> {
    let (mut header, mut frame) = ([0; 32], [0; 24]);
    log.read_exact_at(&mut header, 0)?;
    let mut places = HashMap::new();
    let mut at = 32;
    // A frame of an earlier run of the log has other salts.
    while log.read_exact_at(&mut frame, at).is_ok() && frame[8..16] == header[16..24] {
        let page = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        places.insert(page, at + 24);
        at += 24 + size as u64;
    }
    Ok(places)
}

/// Parses a record of a log group. The id is not part of the record.
fn record(payload: &[u8], id: i64) -> Option<Vec<Value>> {
    let mut header = payload;
    let length = varint(&mut header)? as usize;
    let header_length = length.checked_sub(payload.len() - header.len())?;
    let (mut kinds, mut values) = (header.get(..header_length)?, payload.get(length..)?);
    let mut row = vec![];
    while !kinds.is_empty() && row.len() < COLUMNS {
        row.push(value(varint(&mut kinds)?, &mut values)?);
    }
    if row.len() != COLUMNS || row[0] != Value::Null {
        return None;
    }
    row[0] = Value::Integer(id);
    Some(row)
}

/// Reads a value of a kind, the "serial type" of SQLite's file format.
fn value(kind: u64, values: &mut &[u8]) -> Option<Value> {
    let length = match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind as usize,
        5 => 6,
        6 => 8,
        12.. => ((kind - 12) / 2) as usize,
        _ => return None,
    };
    let bytes = values.get(..length)?;
    *values = &values[length..];
    Some(match kind {
        0 => Value::Null,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        1..=6 => {
            let sign = i64::from(bytes[0] as i8 >> 7);
            Value::Integer(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
        }
        _ if kind.is_multiple_of(2) => Value::Blob(bytes.to_vec()),
        _ => return None,
    })
}

/// Reads a number of up to four bytes.
fn number_at(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads a number of variable length.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for index in 0..9 {
        let byte = *bytes.get(index)?;
        if index == 8 {
            *bytes = &bytes[9..];
            return Some(number << 8 | u64::from(byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(number);
        }
    }
    None
}

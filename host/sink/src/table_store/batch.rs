//! Rows, and the requests that they are cut into.

use std::collections::HashMap;
use std::ops::Range;

use super::error::{Class, TableStoreError};

/// The most rows of a request.
const MAX_ROWS: usize = 200;

/// The most bytes of rows of a request. The service accepts 4 MiB.
const MAX_BYTES: usize = 4_000_000;

/// Rows of a table, end to end, as a row encoder makes them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The bytes of all rows.
    pub bytes: &'a [u8],
    /// For each row, one past its last byte in `bytes`.
    pub ends: &'a [u32],
    /// For each row, one past the last byte of its key in `bytes`. The key is the beginning of the row.
    pub key_ends: &'a [u32],
}

impl<'a> Rows<'a> {
    /// Fails unless each row has a key, and the rows are all of the bytes.
    pub(super) fn check(&self) -> Result<(), TableStoreError> {
        let end = self.ends.last().map_or(0, |end| *end as usize);
        if self.key_ends.len() == self.ends.len() && end == self.bytes.len() {
            return Ok(());
        }
        let problem = "the row encoder makes rows without keys: use one for Table Store";
        Err(TableStoreError::new(Class::Configuration, problem))
    }

    fn begin(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// Returns the bytes of a row.
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[self.begin(row)..self.ends[row] as usize]
    }

    fn key(&self, row: usize) -> &'a [u8] {
        &self.bytes[self.begin(row)..self.key_ends[row] as usize]
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// The table.
    pub table: &'a str,
    /// True if a row adds its columns to an existing one. False if it replaces it.
    pub is_update: bool,
    /// The most requests at a time. With one, requests are sent in order, so that the last of several rows with the same
    /// key wins.
    pub requests: usize,
}

/// A row that Table Store refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// The index of the row.
    pub row: usize,
    /// The reason.
    pub error: TableStoreError,
}

/// Cuts rows into requests. A request has each key once: of rows that replace each other the last one stays, rows that
/// update the same one go into several requests.
pub(super) fn cut(rows: &Rows<'_>, is_update: bool) -> Vec<Vec<usize>> {
    let mut requests = vec![];
    let mut at = 0;
    while at < rows.ends.len() {
        let range = next_request(rows, at, is_update);
        at = range.end;
        requests.push(if is_update { range.collect() } else { last_of_each_key(rows, range) });
    }
    requests
}

/// Returns the rows of the next request.
fn next_request(rows: &Rows<'_>, first: usize, is_update: bool) -> Range<usize> {
    let mut keys = HashMap::new();
    let mut end = first;
    while end < rows.ends.len() && end - first < MAX_ROWS {
        let bytes = rows.ends[end] as usize - rows.begin(first);
        // A larger row is alone.
        if end > first && bytes > MAX_BYTES {
            break;
        }
        if is_update && keys.insert(rows.key(end), end).is_some() {
            break;
        }
        end += 1;
    }
    first..end
}

/// Returns the rows of a range without those that a later one replaces.
fn last_of_each_key(rows: &Rows<'_>, range: Range<usize>) -> Vec<usize> {
    let last: HashMap<_, _> = range.clone().map(|row| (rows.key(row), row)).collect();
    if last.len() == range.len() {
        return range.collect();
    }
    range.filter(|row| last.get(rows.key(*row)) == Some(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a key of one byte, and so many bytes more.
    fn cut_rows(rows: &[(u8, usize)], is_update: bool) -> Vec<Vec<usize>> {
        let (mut bytes, mut ends, mut key_ends) = (vec![], vec![], vec![]);
        for (key, size) in rows {
            bytes.push(*key);
            key_ends.push(bytes.len() as u32);
            bytes.resize(bytes.len() + size, 0);
            ends.push(bytes.len() as u32);
        }
        cut(&Rows { bytes: &bytes, ends: &ends, key_ends: &key_ends }, is_update)
    }

    #[test]
    fn requests_keep_their_limits() {
        let many: Vec<_> = (0..201).map(|row| (row as u8, row / 256)).collect();
        let made = cut_rows(&many, false);
        assert_eq!(made.iter().map(Vec::len).collect::<Vec<_>>(), [200, 1]);
        let large = [(0, 1_999_999), (1, 1_999_999), (2, 1), (3, 4_000_000), (4, 0)];
        assert_eq!(cut_rows(&large, false), [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert!(cut_rows(&[], false).is_empty());
    }

    #[test]
    fn rows_need_keys() {
        let (bytes, ends, key_ends) = (&b"abcd"[..], &[2, 4][..], &[1, 3][..]);
        assert_eq!(Rows { bytes, ends, key_ends }.check(), Ok(()));
        assert_eq!(Rows { bytes: b"", ends: &[], key_ends: &[] }.check(), Ok(()));
        assert!(Rows { bytes, ends, key_ends: &[] }.check().is_err());
        assert!(Rows { bytes, ends: &[], key_ends: &[] }.check().is_err());
    }

    #[test]
    fn each_key_is_once_in_a_request() {
        let rows = [(0, 1), (1, 1), (0, 2), (2, 1), (0, 3)];
        assert_eq!(cut_rows(&rows, false), [[1, 3, 4]]);
        assert_eq!(cut_rows(&rows, true), [vec![0, 1], vec![2, 3], vec![4]]);
    }
}

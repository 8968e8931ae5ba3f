//! Reads a shard's logs as one compressed LogGroupList, the request body of a function call.
//!
//! Stored LZ4 blocks are spliced, not recompressed.

use std::ops::ControlFlow;

use logship_logstore::{Limits, LogPosition, Shard, Store, StoredGroup};
use logship_sls::compression::Compression;
use logship_sls::log_group::frame_header;
use logship_sls::lz4_splice::BlockWriter;

use crate::shard_reader::SourceError;
use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_batch::log_group::log_groups;

/// Size limits of a list. The first log is always included, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLimits {
    /// Largest compressed size, in bytes.
    pub compressed: usize,
    /// Largest uncompressed size, in bytes.
    pub raw: usize,
}

/// A list of log groups, as one LZ4 block.
#[derive(Debug)]
pub struct GroupList {
    /// The LZ4 block.
    pub compressed: Vec<u8>,
    /// Uncompressed size, in bytes.
    pub raw_bytes: usize,
    /// Number of logs.
    pub rows: u64,
    /// The position after the last log.
    pub end: LogPosition,
    /// The position of the first log group found. It differs from the requested position if that group was deleted.
    pub first_position: Option<u64>,
}

/// The largest overhead of a group in the list, in bytes: its header, and LZ4's longer literal lengths.
const GROUP_OVERHEAD: usize = 32;

impl GroupList {
    /// Reads a shard's logs from `begin` to `end`, within the limits. Blocks on disk I/O.
    ///
    /// # Errors
    /// Fails if the store fails, the position is not in the shard, or a log group is corrupt.
    pub fn read(
        store: &Store,
        shard: &Shard,
        begin: LogPosition,
        end: LogPosition,
        limits: ListLimits,
    ) -> Result<Self, SourceError> {
        let mut list = ListBuilder {
            block: BlockWriter::default(),
            max_compressed: 0,
            raw: 0,
            rows: 0,
            end: begin,
            limits,
        };
        let read_limits = Limits { groups: usize::MAX, bytes: usize::MAX, end: end.end_cursor() };
        let (mut first_position, mut corrupt) = (None, None);
        let first = shard.resolve(begin.cursor);
        store.read(shard, begin.cursor, read_limits, |group| {
            if *first_position.get_or_insert(group.position) != first {
                return ControlFlow::Break(());
            }
            let from = if group.position == first { begin.log } else { 0 };
            let to = if group.position == end.cursor { end.log.min(group.logs) } else { group.logs };
            list.add(&group, from, to).unwrap_or_else(|error| {
                corrupt = Some(error);
                ControlFlow::Break(())
            })
        })?;
        match corrupt {
            Some(error) => Err(error),
            None => Ok(Self {
                compressed: list.block.finish(),
                raw_bytes: list.raw,
                rows: list.rows,
                end: list.end,
                first_position,
            }),
        }
    }
}

/// A builder of a list.
struct ListBuilder {
    block: BlockWriter,
    /// Upper bound of the block's size, in bytes.
    max_compressed: usize,
    raw: usize,
    rows: u64,
    end: LogPosition,
    limits: ListLimits,
}

impl ListBuilder {
    /// Adds the logs `from..to` of a group, or as many as fit. Breaks if the list is full.
    fn add(&mut self, group: &StoredGroup<'_>, from: u32, to: u32) -> Result<ControlFlow<()>, SourceError> {
        let position = group.position;
        let is_complete = from == 0 && to == group.logs;
        if is_complete && self.fits(group.body.len(), group.size as usize) {
            self.push(position, group.body, group.size as usize)?;
            self.rows += u64::from(group.logs);
            self.end = LogPosition::at(position + 1);
            return Ok(ControlFlow::Continue(()));
        }
        if is_complete && self.rows > 0 {
            // The group goes to the next list.
            return Ok(ControlFlow::Break(()));
        }
        let batch = decompress(group)?;
        let mut count = to.saturating_sub(from);
        while count > 0 {
            let part = compress_logs(&batch, from, from + count)?;
            if self.fits(part.compressed.len(), part.raw) || (count == 1 && self.rows == 0) {
                self.push(position, &part.compressed, part.raw)?;
                self.rows += u64::from(count);
                break;
            }
            count /= 2;
        }
        let next = from + count;
        self.end = if next == group.logs {
            LogPosition::at(position + 1)
        } else {
            LogPosition { cursor: position, log: next }
        };
        Ok(if next == to { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn fits(&self, compressed: usize, raw: usize) -> bool {
        self.max_compressed + compressed + GROUP_OVERHEAD <= self.limits.compressed
            && self.raw + raw + GROUP_OVERHEAD <= self.limits.raw
    }

    fn push(&mut self, position: u64, compressed: &[u8], raw: usize) -> Result<(), SourceError> {
        let header = frame_header(raw);
        self.block.literals(&header);
        self.block.block(compressed).map_err(|source| SourceError::Splice { position, source })?;
        self.max_compressed += compressed.len() + GROUP_OVERHEAD;
        self.raw += header.len() + raw;
        Ok(())
    }
}

/// Some logs of a group, as a separate compressed group.
struct PartialGroup {
    compressed: Vec<u8>,
    raw: usize,
}

fn decompress(group: &StoredGroup<'_>) -> Result<LogBatch, SourceError> {
    let (position, size) = (group.position, group.size as usize);
    let raw = Compression::Lz4
        .decompress(group.body, size, size)
        .map_err(|source| SourceError::Decompress { position, source })?;
    let mut builder = BatchBuilder::default();
    builder.log_group(&raw).map_err(|source| SourceError::Parse { position, source })?;
    Ok(builder.take())
}

fn compress_logs(batch: &LogBatch, from: u32, to: u32) -> Result<PartialGroup, SourceError> {
    // All logs are of one group, so there is one result.
    let raw = log_groups(&batch.slice(from as usize..to as usize), "").concat();
    Ok(PartialGroup { compressed: Compression::Lz4.compress(&raw)?, raw: raw.len() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use logship_logstore::{LogstoreSettings, NewGroup, Options};
    use logship_sls::log_group::{Header, LogGroupBuilder, groups};
    use serde_json::json;

    use super::*;

    /// Creates a shard with one group per count, whose logs are numbered.
    async fn shard(counts: &[u32]) -> (tempfile::TempDir, Store, Arc<Shard>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        store.create_project("p", "").await.unwrap();
        let settings = LogstoreSettings { ttl: 1, settings: json!({}) };
        store.create_logstore("p", "l", 1, &settings).await.unwrap();
        let shard = Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(0).unwrap());
        let mut number = 0;
        for &count in counts {
            let tags = [(&b"host"[..], &b"h"[..])];
            let header = Header { topic: Some(b"t"), source: Some(b"s"), machine_uuid: None, tags: &tags };
            let mut group = LogGroupBuilder::new(&header);
            for _ in 0..count {
                let mut log = group.begin_log(7, None);
                log.field(b"n", format!("{number:0100}").as_bytes());
                log.end_log();
                number += 1;
            }
            let raw = group.finish();
            let body = Compression::Lz4.compress(&raw).unwrap().into();
            let group = NewGroup { body, size: raw.len() as u32, logs: count, newest: 7 };
            store.put(&shard, vec![group]).await.unwrap();
        }
        (folder, store, shard)
    }

    /// Returns the numbers of all logs of a list, and asserts that each group has the shared metadata.
    fn numbers(list: &GroupList) -> Vec<u64> {
        let raw = Compression::Lz4.decompress(&list.compressed, list.raw_bytes, list.raw_bytes).unwrap();
        let mut builder = BatchBuilder::default();
        for group in groups(&raw) {
            builder.log_group(group.unwrap()).unwrap();
        }
        let batch = builder.take();
        assert_eq!(batch.len() as u64, list.rows);
        for group in &batch.groups {
            assert_eq!((group.topic.as_str(), group.source.as_str(), group.tags.len()), ("t", "s", 1));
        }
        let number = |log| batch.log_fields(log).map(|(_, value)| text(value).parse::<u64>().unwrap()).sum();
        (0..batch.len()).map(number).collect()
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn lists_have_each_log_once_and_respect_limits() {
        let (_folder, store, shard) = shard(&[3, 40, 0, 1, 1, 25]).await;
        let end = LogPosition::at(shard.end());
        for (compressed, raw) in
            [(usize::MAX, usize::MAX), (usize::MAX, 6000), (300, usize::MAX), (500, 700), (0, 0)]
        {
            let limits = ListLimits { compressed, raw };
            let (mut at, mut found, mut lists) = (LogPosition::at(shard.begin()), vec![], 0);
            while at < end {
                let list = GroupList::read(&store, &shard, at, end, limits).unwrap();
                assert_eq!(list.first_position, Some(at.cursor));
                assert!(list.end > at, "{limits:?}: no log was read at {at}");
                let fits = list.compressed.len() <= compressed && list.raw_bytes <= raw;
                assert!(
                    fits || list.rows <= 1,
                    "{limits:?}: {} of {} logs",
                    list.compressed.len(),
                    list.rows
                );
                found.extend(numbers(&list));
                (at, lists) = (list.end, lists + 1);
            }
            assert_eq!(found, (0..70).collect::<Vec<_>>(), "{limits:?}");
            assert_eq!(lists == 1, raw == usize::MAX && compressed > 500, "{limits:?}: {lists}");
        }
    }

    #[tokio::test]
    async fn list_begins_and_ends_within_groups() {
        let (_folder, store, shard) = shard(&[10, 10, 10]).await;
        let at = |group, log| LogPosition { cursor: shard.begin() + group, log };
        let limits = ListLimits { compressed: usize::MAX, raw: usize::MAX };
        for (from, to, expected) in [
            (at(0, 4), at(2, 3), 4..23),
            (at(1, 2), at(1, 5), 12..15),
            (at(1, 0), at(1, 10), 10..20),
            (at(0, 9), at(1, 0), 9..10),
        ] {
            let list = GroupList::read(&store, &shard, from, to, limits).unwrap();
            assert_eq!(numbers(&list), expected.collect::<Vec<_>>());
            let same = if to.log == 10 { LogPosition::at(to.cursor + 1) } else { to };
            assert_eq!(list.end, same);
        }
    }

    #[tokio::test]
    async fn missing_logs_are_detected() {
        let (_folder, store, shard) = shard(&[1]).await;
        let limits = ListLimits { compressed: usize::MAX, raw: usize::MAX };
        let end = LogPosition::at(shard.end());
        let list = GroupList::read(&store, &shard, end, LogPosition::at(shard.end() + 1), limits).unwrap();
        assert_eq!((list.first_position, list.rows, list.end), (None, 0, end));
    }
}

//! Logs of a shard as one LogGroupList, packed as they lie in the store: what a function is called with.

use std::ops::ControlFlow;

use logship_logstore::{Limits, Place, Shard, Store, StoredGroup};
use logship_sls::compression::Compression;
use logship_sls::log_group::frame_header;
use logship_sls::lz4_splice::BlockWriter;

use crate::batch::{BatchBuilder, LogBatch};
use crate::log_group::log_groups;
use crate::source::SourceError;

/// How much a list may have. The first log is taken however large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Most {
    /// Bytes of the list as it is sent.
    pub(crate) packed: usize,
    /// Bytes of it unpacked.
    pub(crate) raw: usize,
}

/// Log groups, one behind the other, as one LZ4 block.
#[derive(Debug)]
pub(crate) struct GroupList {
    /// The block.
    pub(crate) packed: Vec<u8>,
    /// Bytes that it has unpacked.
    pub(crate) raw_bytes: usize,
    /// How many logs there are in it.
    pub(crate) rows: u64,
    /// Behind its last log.
    pub(crate) end: Place,
    /// The first log group of the shard that it found: not the one that was asked for, if that is no more.
    pub(crate) first: Option<u64>,
}

/// Bytes that a group adds besides its own at most: its header, and what LZ4 writes of literals that grew longer.
const BESIDE: usize = 32;

impl GroupList {
    /// The logs of a shard from `begin` to `end`, as many as may be. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails, the position is none of the shard, or a log group is damaged.
    pub(crate) fn read(
        store: &Store,
        shard: &Shard,
        begin: Place,
        end: Place,
        most: Most,
    ) -> Result<Self, SourceError> {
        let mut list =
            Building { block: BlockWriter::default(), packed: 0, raw: 0, rows: 0, end: begin, most };
        let limits = Limits { groups: usize::MAX, bytes: usize::MAX, end: end.behind() };
        let (mut first, mut damaged) = (None, None);
        store.read(shard, begin.cursor, limits, |group| {
            if *first.get_or_insert(group.position) != begin.cursor {
                return ControlFlow::Break(());
            }
            let from = if group.position == begin.cursor { begin.log } else { 0 };
            let to = if group.position == end.cursor { end.log.min(group.logs) } else { group.logs };
            list.add(&group, from, to).unwrap_or_else(|error| {
                damaged = Some(error);
                ControlFlow::Break(())
            })
        })?;
        match damaged {
            Some(error) => Err(error),
            None => Ok(Self {
                packed: list.block.finish(),
                raw_bytes: list.raw,
                rows: list.rows,
                end: list.end,
                first,
            }),
        }
    }
}

/// A list in the making.
struct Building {
    block: BlockWriter,
    /// Bytes that it has as a block, at most.
    packed: usize,
    raw: usize,
    rows: u64,
    end: Place,
    most: Most,
}

impl Building {
    /// Adds the logs of a group from number `from` to `to`, or as many as may be. Breaks when it is full.
    fn add(&mut self, group: &StoredGroup<'_>, from: u32, to: u32) -> Result<ControlFlow<()>, SourceError> {
        let position = group.position;
        let is_whole = from == 0 && to == group.logs;
        if is_whole && self.has_room(group.body.len(), group.size as usize) {
            self.push(position, group.body, group.size as usize)?;
            self.rows += u64::from(group.logs);
            self.end = Place::at(position + 1);
            return Ok(ControlFlow::Continue(()));
        }
        if is_whole && self.rows > 0 {
            // It is the next list's.
            return Ok(ControlFlow::Break(()));
        }
        let batch = unpacked(group)?;
        let mut count = to.saturating_sub(from);
        while count > 0 {
            let part = pack(&batch, from, from + count)?;
            if self.has_room(part.packed.len(), part.raw) || (count == 1 && self.rows == 0) {
                self.push(position, &part.packed, part.raw)?;
                self.rows += u64::from(count);
                break;
            }
            count /= 2;
        }
        let behind = from + count;
        self.end = if behind == group.logs {
            Place::at(position + 1)
        } else {
            Place { cursor: position, log: behind }
        };
        Ok(if behind == to { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn has_room(&self, packed: usize, raw: usize) -> bool {
        self.packed + packed + BESIDE <= self.most.packed && self.raw + raw + BESIDE <= self.most.raw
    }

    fn push(&mut self, position: u64, packed: &[u8], raw: usize) -> Result<(), SourceError> {
        let header = frame_header(raw);
        self.block.literals(&header);
        self.block.block(packed).map_err(|source| SourceError::Block { position, source })?;
        self.packed += packed.len() + BESIDE;
        self.raw += header.len() + raw;
        Ok(())
    }
}

/// Logs of a group, packed as a group of their own.
struct Part {
    packed: Vec<u8>,
    raw: usize,
}

fn unpacked(group: &StoredGroup<'_>) -> Result<LogBatch, SourceError> {
    let (position, size) = (group.position, group.size as usize);
    let raw = Compression::Lz4
        .decompress(group.body, size, size)
        .map_err(|source| SourceError::Packed { position, source })?;
    let mut builder = BatchBuilder::default();
    builder.log_group(&raw).map_err(|source| SourceError::Group { position, source })?;
    Ok(builder.take())
}

fn pack(batch: &LogBatch, from: u32, to: u32) -> Result<Part, SourceError> {
    // All are of one group.
    let raw = log_groups(&batch.slice(from as usize..to as usize), "").concat();
    Ok(Part { packed: Compression::Lz4.compress(&raw)?, raw: raw.len() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use logship_logstore::{LogstoreSettings, NewGroup, Options};
    use logship_sls::log_group::{Header, LogGroupBuilder, groups};
    use serde_json::json;

    use super::*;

    /// A shard with groups of so many logs each, which are numbered.
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

    /// The numbers of all logs of a list; of each group, that it has what the logs share.
    fn numbers(list: &GroupList) -> Vec<u64> {
        let raw = Compression::Lz4.decompress(&list.packed, list.raw_bytes, list.raw_bytes).unwrap();
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
    async fn lists_of_any_size_have_each_log_once_and_no_more_than_they_may() {
        let (_folder, store, shard) = shard(&[3, 40, 0, 1, 1, 25]).await;
        let end = Place::at(shard.end());
        for (packed, raw) in
            [(usize::MAX, usize::MAX), (usize::MAX, 6000), (300, usize::MAX), (500, 700), (0, 0)]
        {
            let most = Most { packed, raw };
            let (mut at, mut found, mut lists) = (Place::at(shard.begin()), vec![], 0);
            while at < end {
                let list = GroupList::read(&store, &shard, at, end, most).unwrap();
                assert_eq!(list.first, Some(at.cursor));
                assert!(list.end > at, "{most:?}: nothing was taken at {at}");
                let fits = list.packed.len() <= packed && list.raw_bytes <= raw;
                assert!(fits || list.rows <= 1, "{most:?}: {} of {} logs", list.packed.len(), list.rows);
                found.extend(numbers(&list));
                (at, lists) = (list.end, lists + 1);
            }
            assert_eq!(found, (0..70).collect::<Vec<_>>(), "{most:?}");
            assert_eq!(lists == 1, raw == usize::MAX && packed > 500, "{most:?}: {lists}");
        }
    }

    #[tokio::test]
    async fn a_list_begins_and_ends_within_groups() {
        let (_folder, store, shard) = shard(&[10, 10, 10]).await;
        let at = |group, log| Place { cursor: shard.begin() + group, log };
        let most = Most { packed: usize::MAX, raw: usize::MAX };
        for (from, to, expected) in [
            (at(0, 4), at(2, 3), 4..23),
            (at(1, 2), at(1, 5), 12..15),
            (at(1, 0), at(1, 10), 10..20),
            (at(0, 9), at(1, 0), 9..10),
        ] {
            let list = GroupList::read(&store, &shard, from, to, most).unwrap();
            assert_eq!(numbers(&list), expected.collect::<Vec<_>>());
            let same = if to.log == 10 { Place::at(to.cursor + 1) } else { to };
            assert_eq!(list.end, same);
        }
    }

    #[tokio::test]
    async fn logs_that_are_no_more_are_seen() {
        let (_folder, store, shard) = shard(&[1]).await;
        let most = Most { packed: usize::MAX, raw: usize::MAX };
        let end = Place::at(shard.end());
        let list = GroupList::read(&store, &shard, end, Place::at(shard.end() + 1), most).unwrap();
        assert_eq!((list.first, list.rows, list.end), (None, 0, end));
    }
}

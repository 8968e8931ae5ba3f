//! Benchmarks of the store: storage formats, and the speed of reading shards for shipping.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_batch::log_group::log_groups;
use logship_bench::median;
use logship_logstore::{Limits, LogstoreSettings, NewGroup, Options, Store};
use logship_sls::compression::Compression;
use logship_sls::log_group::{LogGroupView, frame_header};
use logship_sls::lz4_splice::BlockWriter;
use logship_source::shard_reader::ShardReader;
use rusqlite::Connection;

use super::{ROUNDS, seconds};

/// A stored log group, and its uncompressed size.
type StoredGroup = (Vec<u8>, usize);

/// A storage format of log groups.
struct StorageFormat {
    name: &'static str,
    /// Converts a client's LZ4 block with the given uncompressed size to its stored form.
    store: fn(&[u8], usize) -> Vec<u8>,
    /// Reads a stored group as a batch for stages, and returns the number of logs.
    ship: fn(&[u8], usize, &mut BatchBuilder) -> usize,
    /// Builds the reply to a pull, one LZ4 block for all groups, and returns its size.
    pull: fn(&[StoredGroup]) -> usize,
}

const FORMATS: [StorageFormat; 3] = [
    StorageFormat {
        name: "LogGroup as LZ4 block, as received",
        store: |block, size| {
            // Every format requires validation before storage.
            parse(&decompress(block, size));
            block.to_vec()
        },
        ship: |stored, size, builder| add_to_batch(&decompress(stored, size), builder),
        pull: |groups| {
            let mut list = BlockWriter::with_capacity(1 << 20);
            for (stored, size) in groups {
                list.literals(&frame_header(*size));
                list.block(stored).expect("a block");
            }
            list.finish().len()
        },
    },
    StorageFormat {
        name: "LogGroup",
        store: |block, size| {
            let raw = decompress(block, size);
            parse(&raw);
            raw
        },
        ship: |stored, _, builder| add_to_batch(stored, builder),
        pull: |groups| {
            let mut list = vec![];
            for (stored, _) in groups {
                list.extend_from_slice(&frame_header(stored.len()));
                list.extend_from_slice(stored);
            }
            compress(&list).len()
        },
    },
    StorageFormat {
        name: "flat batch",
        store: |block, size| {
            let raw = decompress(block, size);
            let mut builder = BatchBuilder::default();
            builder.log_group(&raw).expect("a log group");
            flat::write(&builder.take())
        },
        ship: |stored, _, _| flat::read(stored).len(),
        pull: |groups| {
            let mut list = vec![];
            for (stored, _) in groups {
                for group in log_groups(&flat::read(stored), "") {
                    list.extend_from_slice(&frame_header(group.len()));
                    list.extend_from_slice(&group);
                }
            }
            compress(&list).len()
        },
    },
];

fn decompress(block: &[u8], size: usize) -> Vec<u8> {
    Compression::Lz4.decompress(block, size, size).expect("a block")
}

pub(super) fn compress(raw: &[u8]) -> Vec<u8> {
    Compression::Lz4.compress(raw).expect("a block")
}

fn parse(raw: &[u8]) -> LogGroupView<'_> {
    LogGroupView::parse(raw).expect("a log group")
}

fn add_to_batch(raw: &[u8], builder: &mut BatchBuilder) -> usize {
    builder.log_group(raw).expect("a log group");
    let logs = builder.len();
    black_box(builder.take());
    logs
}

/// A flat encoding of a batch: its columns, concatenated.
mod flat {
    use super::LogBatch;

    pub(super) fn write(batch: &LogBatch) -> Vec<u8> {
        let mut bytes = vec![];
        let mut text = |text: &str| {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&batch.keys.len().to_string());
        batch.keys.iter().for_each(|key| text(key));
        text(&batch.groups[0].topic);
        text(&batch.groups[0].source);
        for column in columns(batch) {
            bytes.extend((column.len() as u32).to_le_bytes());
            bytes.extend(column.iter().flat_map(|number| number.to_le_bytes()));
        }
        bytes.extend(&batch.values);
        bytes
    }

    fn columns(batch: &LogBatch) -> [&Vec<u32>; 6] {
        [
            &batch.times,
            &batch.nanos,
            &batch.log_groups,
            &batch.field_ends,
            &batch.field_keys,
            &batch.value_ends,
        ]
    }

    pub(super) fn read(mut bytes: &[u8]) -> LogBatch {
        fn number(bytes: &mut &[u8]) -> usize {
            let (head, rest) = bytes.split_first_chunk::<4>().expect("a number");
            *bytes = rest;
            u32::from_le_bytes(*head) as usize
        }
        fn text(bytes: &mut &[u8]) -> String {
            let length = number(bytes);
            let (head, rest) = bytes.split_at(length);
            *bytes = rest;
            String::from_utf8(head.to_vec()).expect("text")
        }
        fn column(bytes: &mut &[u8]) -> Vec<u32> {
            let length = number(bytes);
            let (head, rest) = bytes.split_at(length * 4);
            *bytes = rest;
            head.chunks_exact(4)
                .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect()
        }
        let keys: usize = text(&mut bytes).parse().expect("a number");
        let keys = (0..keys).map(|_| text(&mut bytes)).collect();
        let group = logship_batch::batch::LogGroup {
            topic: text(&mut bytes),
            source: text(&mut bytes),
            tags: vec![],
        };
        LogBatch {
            groups: vec![group],
            keys,
            times: column(&mut bytes),
            nanos: column(&mut bytes),
            log_groups: column(&mut bytes),
            field_ends: column(&mut bytes),
            field_keys: column(&mut bytes),
            value_ends: column(&mut bytes),
            values: bytes.to_vec(),
        }
    }
}

pub(super) fn storage_formats(folder: &Path, groups: &[Vec<u8>]) {
    let sent: Vec<(Vec<u8>, usize)> = groups.iter().map(|group| (compress(group), group.len())).collect();
    let raw: usize = groups.iter().map(Vec::len).sum();
    println!(
        "Storage formats: {} log groups of {:.2} MB from clients that compress by LZ4, in SQLite, one thread. \
         MB are those before compression; reads are from the page cache. Medians of {ROUNDS} alternating rounds.\n",
        groups.len(),
        raw as f64 / groups.len() as f64 / 1e6
    );
    println!(
        "| format | stored/raw | validate and store MB/s | read as a batch MB/s | read as a pull's reply MB/s |\n|---|---:|---:|---:|---:|"
    );
    let mut figures: Vec<[Vec<f64>; 3]> = FORMATS.iter().map(|_| Default::default()).collect();
    let mut sizes = vec![0; FORMATS.len()];
    for round in 0..=ROUNDS {
        for (index, format) in FORMATS.iter().enumerate() {
            let path = folder.join("format.db");
            let connection = database(&path);
            let stored = seconds(|| {
                for (block, size) in &sent {
                    let body = (format.store)(block, *size);
                    connection
                        .execute("INSERT INTO g (size, body) VALUES (?1, ?2)", (*size as i64, body))
                        .expect("stored");
                }
            });
            let mut builder = BatchBuilder::default();
            let shipped = seconds(|| {
                read(&connection, |body, size| {
                    black_box((format.ship)(body, size, &mut builder));
                });
            });
            let pulled = seconds(|| {
                let mut reply = vec![];
                read(&connection, |body, size| {
                    reply.push((body.to_vec(), size));
                    if reply.len() == 4 {
                        black_box((format.pull)(&std::mem::take(&mut reply)));
                    }
                });
            });
            sizes[index] = connection
                .query_row("SELECT sum(length(body)) FROM g", [], |row| row.get::<_, i64>(0))
                .expect("a size");
            drop(connection);
            remove(&path);
            if round > 0 {
                for (figure, seconds) in figures[index].iter_mut().zip([stored, shipped, pulled]) {
                    figure.push(raw as f64 / seconds / 1e6);
                }
            }
        }
    }
    for ((format, figures), size) in FORMATS.iter().zip(figures).zip(sizes) {
        let [stored, shipped, pulled] = figures.map(median);
        let ratio = size as f64 / raw as f64;
        println!("| {} | {ratio:.2} | {stored:.0} | {shipped:.0} | {pulled:.0} |", format.name);
    }
    println!();
}

fn database(path: &Path) -> Connection {
    remove(path);
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8192;
             CREATE TABLE g (id INTEGER PRIMARY KEY, size INTEGER, body BLOB)",
        )
        .expect("a table");
    connection
}

fn read(connection: &Connection, mut visit: impl FnMut(&[u8], usize)) {
    let mut statement = connection.prepare_cached("SELECT size, body FROM g").expect("a statement");
    let mut rows = statement.query([]).expect("rows");
    while let Some(row) = rows.next().expect("a row") {
        let size: i64 = row.get(0).expect("a size");
        visit(row.get_ref(1).expect("a body").as_blob().expect("bytes"), size as usize);
    }
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
}

/// Measures the speed of reading shards as batches for stages.
pub(super) fn ship(folder: &Path, groups: &[Vec<u8>]) {
    let data = folder.join("ship");
    let stored = store(&data, groups);
    // Reopened, as after a start of the service.
    let store = Store::open(&data, Options::default()).expect("a store");
    let catalog = store.catalog();
    let shard = catalog.logstore("bench", "ship").and_then(|logstore| logstore.shard(0)).expect("a shard");
    let limits = Limits { groups: usize::MAX >> 1, bytes: 512 << 10, end: u64::MAX };
    let mut reader = ShardReader::default();
    let figures = (0..ROUNDS).map(|_| {
        let elapsed = seconds(|| {
            let mut from = shard.begin();
            while from < shard.end() {
                let slice = reader.read(&store, shard, from, limits).expect("logs");
                black_box(slice.batch);
                from = slice.next;
            }
        });
        stored as f64 / elapsed / 1e6
    });
    println!(
        "Reading a shard from the store as batches for stages (decompressed, parsed, as columns), one thread, {:.0} MB \
         before compression: **{:.0} MB/s**, the median of {ROUNDS} rounds.\n",
        stored as f64 / 1e6,
        median(figures.collect())
    );
}

/// Stores the groups ten times in one shard. Returns the total size in bytes, before compression.
fn store(data: &Path, groups: &[Vec<u8>]) -> usize {
    let store = Store::open(data, Options::default()).expect("a store");
    let put = |group: &Vec<u8>| NewGroup {
        body: compress(group).into(),
        size: group.len() as u32,
        logs: parse(group).log_count(),
        newest: parse(group).newest_time().unwrap_or_default(),
    };
    let groups: Vec<NewGroup> = groups.iter().map(put).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let settings = LogstoreSettings { ttl: 1, settings: serde_json::Value::Null };
        store.create_project("bench", "").await.expect("a project");
        store.create_logstore("bench", "ship", 1, &settings).await.expect("a logstore");
        let catalog = store.catalog();
        let shard =
            catalog.logstore("bench", "ship").and_then(|logstore| logstore.shard(0)).expect("a shard");
        for _ in 0..10 {
            store.put(shard, groups.clone()).await.expect("stored");
        }
    });
    store.close();
    10 * groups.iter().map(|group| group.size as usize).sum::<usize>()
}

//! The cost of checksums and chains, as a share of the CPU time of puts into the store (Linux). Run it with
//! `cargo bench -p logship-bench --bench checksums --profile release`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use logship_logstore::{LogstoreSettings, NewGroup, Options, Store};
use serde_json::json;

const ROUNDS: usize = 5;

/// The digests are repeated, as the CPU time counts in ticks of 10 ms.
const REPEATS: usize = 10;

/// Returns the CPU time of the process: a loaded machine changes it less than the time of the clock.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// Returns the CPU time per group of puts by `writers` writers, and of the digests of the same groups.
async fn measure(bytes: usize, writers: usize, count: usize) -> (Duration, Duration) {
    let directory = tempfile::tempdir_in(".").unwrap();
    let store = Arc::new(Store::open(directory.path(), Options::default()).unwrap());
    store.create_project("p", "").await.unwrap();
    store.create_logstore("p", "l", 1, &LogstoreSettings { ttl: 1, settings: json!({}) }).await.unwrap();
    let shard = Arc::clone(store.catalog().logstore("p", "l").unwrap().shard(0).unwrap());
    let body: Vec<u8> = (0..bytes).map(|index| (index * 31 % 251) as u8).collect();
    let group = NewGroup { body: body.into(), size: 4 * bytes as u32, logs: 1, newest: 7 };
    let start = cpu();
    let put = |_| {
        let (store, shard, group) = (Arc::clone(&store), Arc::clone(&shard), group.clone());
        tokio::spawn(async move {
            for _ in 0..count / writers {
                store.put(&shard, vec![group.clone()]).await.unwrap();
            }
        })
    };
    let puts: Vec<_> = (0..writers).map(put).collect();
    for put in puts {
        put.await.unwrap();
    }
    let puts = cpu() - start;
    let start = cpu();
    for _ in 0..REPEATS * count {
        black_box(blake3::hash(black_box(&group.body)));
        // The checksum, and the head.
        black_box(blake3::hash(black_box(&[1; 64])));
        black_box(blake3::hash(black_box(&[2; 64])));
    }
    (puts / count as u32, (cpu() - start) / (REPEATS * count) as u32)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for (bytes, writers, count) in [(1 << 10, 64, 20_000), (16 << 10, 16, 10_000), (256 << 10, 4, 1000)] {
        let mut shares = vec![];
        for _ in 0..ROUNDS {
            let (puts, digests) = runtime.block_on(measure(bytes, writers, count));
            shares.push((digests.as_secs_f64() / puts.as_secs_f64() * 100.0, puts, digests));
        }
        shares.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (share, puts, digests) = shares[ROUNDS / 2];
        println!("{bytes} bytes, {writers} writers: put {puts:?}, digests {digests:?}, {share:.1} %");
    }
}

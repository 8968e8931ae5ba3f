//! Kills the Logstore service, and fills its disk: acknowledged data and assigned shards are never lost.

#[path = "crash/consumers.rs"]
mod consumers;
#[path = "crash/puts.rs"]
mod puts;
#[path = "crash/server.rs"]
mod server;
#[path = "crash/shards.rs"]
mod shards;
#[path = "crash/small_disk.rs"]
mod small_disk;
mod support;
#[path = "crash/traffic.rs"]
mod traffic;

use std::env;
use std::time::{Duration, Instant};

use fastrand::Rng;
use logship_client::Client;
use reqwest::Method;
use serde_json::json;

use consumers::*;
use puts::*;
use server::*;
use shards::*;
use small_disk::*;
use traffic::*;

const PROJECT: &str = "crash";
const LOGSTORE: &str = "logs";
const SHARDS: u32 = 4;
/// The rounds of a full soak test. `rounds` scales them.
const ROUNDS: f64 = 100.0;
const WRITERS: u32 = 8;

/// The only consumer of this group owns all shards, and saves checkpoints.
const STEADY: &str = "steady";
/// Consumers join this group one by one, so that shards move between them.
const HANDOVER: &str = "handover";
const CONSUMERS: u32 = 3;
/// Longer than any test: no consumer times out.
const TIMEOUT_SECONDS: u32 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_data_survives_kill() {
    let mut random = Rng::with_seed(seed());
    let data = tempfile::tempdir().unwrap();
    let mut server = restart(data.path(), &mut random);
    create_logstore(&server.client).await;
    let mut shards = shards(&server.client).await;
    let (started, mut acknowledged, mut pulled) = (Instant::now(), 0, 0);
    let rounds = rounds();
    for round in 0..rounds {
        let traffic = Traffic::start(&server.client, round, &shards, &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.u64(20..=300))).await;
        server.child.kill();
        let seen = traffic.end().await;
        assert_eq!(seen.puts.rejected, 0);
        acknowledged += logs(&seen.puts.acknowledged);
        pulled += seen.shards.iter().map(|shard| logs(&shard.groups)).sum::<u64>();

        server = restart(data.path(), &mut random);
        let mut new = vec![];
        for (shard, seen) in shards.iter_mut().zip(&seen.shards) {
            new.extend(shard.verify(&server.client, seen, &mut random).await);
        }
        seen.puts.check(new);
        settle(&server.client, &seen.owners, &mut random).await;
        check_integrity(data.path());
    }
    let found = shards.iter().map(|shard| logs(&shard.groups)).sum::<u64>();
    println!(
        "{rounds} rounds in {:.1?}: {acknowledged} logs acknowledged, {found} found, {pulled} pulled meanwhile",
        started.elapsed(),
    );
    assert!(pulled > 0, "some logs were pulled before the service was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_rejects_only_puts() {
    // The first size fails in the write-ahead log, the second in a checkpoint of the database.
    for free_bytes in [8 << 20, 40 << 20] {
        let disk = SmallDisk::new(free_bytes);
        let data = disk.data();
        let server = disk.serve();
        create_logstore(&server.client).await;
        let mut shards = shards(&server.client).await;
        let puts = write(&server.client, 0, u32::MAX).await;
        assert!(puts.rejected > 0 && !puts.acknowledged.is_empty() && puts.unanswered.is_empty());
        let not_ready = server.client.bytes("/readyz").await.unwrap_err().to_string();
        assert!(not_ready.contains("puts fail"), "{not_ready}");
        puts.check(new_groups(&mut shards, &server.client).await);

        disk.free_space(&server);
        let puts = write(&server.client, 1, 50).await;
        assert_eq!((puts.rejected, puts.acknowledged.len() as u32), (0, 50 * WRITERS));
        let started = Instant::now();
        while server.client.bytes("/readyz").await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "the service is ready again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        puts.check(new_groups(&mut shards, &server.client).await);

        drop(server);
        let server = Server::start(&mut serve(&data), &data);
        for shard in &shards {
            assert_eq!(shard.groups, shard.from(&server.client, shard.begin).await);
        }
        check_integrity(&data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_never_assigns_shard_twice() {
    let disk = SmallDisk::new(8 << 20);
    let server = disk.serve();
    create_logstore(&server.client).await;
    create_group(&server.client, HANDOVER).await;
    fill(&server.client).await;
    let owners = Owners::default();
    for _ in 0..2 {
        // The heartbeat may fail. If it succeeds, the assignment holds.
        let _ = owners.ask(&server.client, 0).await;
    }
    disk.free_space(&server);
    drop(server);
    let server = Server::start(&mut serve(&disk.data()), &disk.data());
    owners.ask(&server.client, 1).await.unwrap();
}

/// The number of rounds, scaled by the variable `LOGSHIP_SOAK`: 0.1 by default.
fn rounds() -> u32 {
    let scale = env::var("LOGSHIP_SOAK").map_or(0.1, |scale| scale.parse().expect("a number"));
    (ROUNDS * scale).round().max(1.0) as u32
}

/// The seed of random numbers. Printed, so that a failed test is repeatable: set `LOGSHIP_CRASH_SEED`.
fn seed() -> u64 {
    let given = env::var("LOGSHIP_CRASH_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("LOGSHIP_CRASH_SEED={seed}");
    seed
}

async fn create_logstore(client: &Client) {
    let logstore = json!({ "logstoreName": LOGSTORE, "ttl": 3650, "shardCount": SHARDS });
    for (path, body) in [("/", json!({ "projectName": PROJECT })), ("/logstores", logstore)] {
        client.send_json(Method::POST, path, &[], &body).await.unwrap();
    }
    create_group(client, STEADY).await;
    assert_eq!(heartbeat(client, STEADY, STEADY, vec![]).await.unwrap(), all_shards());
}

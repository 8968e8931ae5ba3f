//! Shipping stays within its memory budget for any number of shards.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::service::Service;

const SHARDS: u64 = 500;
/// The number of requests. Each is a log group of one shard.
const PUTS: u64 = 1_500;
/// The logs per request: some 200 KB.
const LOGS: u64 = 400;

/// The memory budget of shipping, in MiB.
const SHIPPING: u64 = 256;
/// The memory of the rest of the service, in MiB.
const REST: u64 = 100;

#[test]
fn memory_budget_holds_for_500_shards() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("logship.toml");
    let settings = format!(
        "[limits]\nshards = {SHARDS}\n[shipping]\nworkers = 4\nmax-memory-bytes = {}\nlongest-wait-seconds = 1\n
         [destinations.default]\ntype = 'directory'\npath = 'buckets'\n",
        SHIPPING << 20
    );
    fs::write(&config, settings).unwrap();
    fs::create_dir_all(folder.path().join("buckets/lake")).unwrap();
    let service = Service::start(&["--config", config.to_str().unwrap()]);
    service.ask("POST", "/", "", &json!({ "projectName": "pro" })).good();
    let logstore = json!({ "logstoreName": "all", "ttl": 1, "shardCount": SHARDS });
    service.ask("POST", "/logstores", "", &logstore).good();
    for put in 0..PUTS {
        service.send_to("127.0.0.1", "POST", "/ingest/pro/all", "", &[], lines(put).as_bytes()).good();
    }
    let columns = json!([{ "name": "id", "type": "int64" }, { "name": "filler", "type": "string" }]);
    for (name, storage) in [
        ("as-json", json!({ "format": "json" })),
        ("as-parquet", json!({ "format": "parquet", "detail": { "columns": columns } })),
    ] {
        let configuration = json!({
            "ossBucket": "lake", "ossPrefix": name, "bufferSize": 5, "compressType": "snappy", "storage": storage,
        });
        let rule = json!({ "shipperName": name, "targetType": "oss", "targetConfiguration": configuration });
        service.ask("POST", "/logstores/all/shipper", "probe=required", &rule).good();
    }
    let rows = shipped(&service);
    assert_eq!(rows, 2 * PUTS * LOGS);
    let peak = service.peak_memory();
    eprintln!("{SHARDS} shards, two rules: at most {peak} MiB");
    assert!(peak < SHIPPING + REST, "{peak} MiB");
}

fn lines(put: u64) -> String {
    let line = |log: u64| {
        let id = put * LOGS + log;
        format!(r#"{{"id":{id},"filler":"{:0500}"}}"#, id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    (0..LOGS).map(line).collect::<Vec<_>>().join("\n")
}

/// Waits until all logs are shipped. Returns the rows of all tasks.
fn shipped(service: &Service) -> u64 {
    let started = Instant::now();
    loop {
        let mut waiting = 0;
        for rule in ["as-json", "as-parquet"] {
            let shown =
                service.ask("GET", &format!("/logstores/all/shipper/{rule}"), "", &Value::Null).good().json();
            let shards = shown["shards"].as_array().unwrap().clone();
            waiting += shards.iter().map(|shard| shard["waitingGroups"].as_u64().unwrap()).sum::<u64>();
        }
        let running = service.ask("GET", "/tasks", "status=running", &Value::Null).good().json();
        if waiting == 0 && running["total"] == 0 {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "{waiting} groups wait, {} tasks run",
            running["total"]
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let (mut rows, mut offset) = (0, 0);
    loop {
        let query = format!("status=success&size=500&offset={offset}");
        let page = service.ask("GET", "/tasks", &query, &Value::Null).good().json();
        let tasks = page["tasks"].as_array().unwrap();
        if tasks.is_empty() {
            return rows;
        }
        offset += tasks.len();
        rows += tasks.iter().map(|task| task["rows"].as_u64().unwrap()).sum::<u64>();
    }
}

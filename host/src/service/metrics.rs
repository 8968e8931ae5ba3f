//! What the service tells of itself, for Prometheus.

use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::Service;

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Starts to count. Once in a process.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    // Those of what is deleted are told of no more.
    let handle = builder.idle_timeout(MetricKindMask::GAUGE, Some(FORGOTTEN)).install_recorder()?;
    describe_counter!("logship_received_logs_total", "Logs that were put");
    describe_counter!("logship_received_bytes_total", Unit::Bytes, "Bytes that were put, before compression");
    describe_counter!("logship_sent_logs_total", "Logs that were pulled");
    describe_counter!("logship_sent_bytes_total", Unit::Bytes, "Bytes that were pulled, before compression");
    describe_counter!("logship_requests_total", "Requests, by what they asked for and what came of it");
    describe_histogram!("logship_request_seconds", Unit::Seconds, "How long requests took");
    describe_histogram!("logship_commit_seconds", Unit::Seconds, "How long it took to put logs on disk");
    describe_counter!("logship_commits_failed_total", "Commits that stored nothing");
    describe_gauge!("logship_store_bytes", Unit::Bytes, "Size of the store");
    describe_gauge!("logship_shard_groups", "Log groups in a shard");
    describe_gauge!(
        "logship_group_behind_groups",
        "Log groups of a shard that a consumer group has not read"
    );
    describe_gauge!(
        "logship_group_lag_seconds",
        Unit::Seconds,
        "How far a consumer group is behind in a shard"
    );
    describe_counter!("logship_tasks_total", "Shipping tasks that were tried, by what came of it");
    describe_counter!("logship_shipped_logs_total", "Logs that are at their destination");
    describe_counter!("logship_left_out_logs_total", "Logs that the transformers of a rule left out");
    describe_counter!("logship_shipped_bytes_total", Unit::Bytes, "Bytes of objects at their destination");
    describe_gauge!("logship_ship_waiting_groups", "Log groups of a shard that a rule has not shipped");
    describe_gauge!("logship_ship_lag_seconds", Unit::Seconds, "How long the first of them has waited");
    describe_gauge!("logship_rule_held", "1 where a rule can't make tasks; logship rule show says why");
    describe_histogram!(
        "logship_swap_wait_seconds",
        Unit::Seconds,
        "How long making a task waited because a stage had been swapped"
    );
    describe_histogram!(
        "logship_stage_call_seconds",
        Unit::Seconds,
        "How long calls of a stage took, one for each chunk of logs and a few for each object"
    );
    describe_counter!("logship_stage_bytes_total", Unit::Bytes, "Bytes that went into a stage, and came out");
    describe_counter!("logship_stage_failures_total", "Calls of a stage that failed, by why");
    describe_gauge!(
        "logship_stage_memory_bytes",
        Unit::Bytes,
        "Memory that an instance of a stage has had at most"
    );
    describe_counter!("logship_siem_events_total", "Events that a receiver has");
    describe_counter!("logship_siem_bytes_total", Unit::Bytes, "Bytes of these");
    describe_counter!("logship_siem_logs_bytes_total", Unit::Bytes, "Bytes of the logs that these are of");
    describe_counter!("logship_siem_dead_letters_total", "Events that a receiver refused for good");
    describe_counter!(
        "logship_siem_retries_total",
        "Times that a receiver took nothing, and it was sent again"
    );
    describe_gauge!("logship_connections", "Connections of clients");
    Ok(handle)
}

/// How often what was counted is put together: until then each time that was measured takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// A gauge that was not set for so long is of something that is no more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Keeps what was counted small, for ever.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}

pub(crate) fn received(project: &str, logstore: &str, logs: u64, bytes: u64) {
    let labels = [("project", project.to_owned()), ("logstore", logstore.to_owned())];
    counter!("logship_received_logs_total", &labels).increment(logs);
    counter!("logship_received_bytes_total", &labels).increment(bytes);
}

pub(crate) fn sent(project: &str, logstore: &str, logs: u64, bytes: u64) {
    let labels = [("project", project.to_owned()), ("logstore", logstore.to_owned())];
    counter!("logship_sent_logs_total", &labels).increment(logs);
    counter!("logship_sent_bytes_total", &labels).increment(bytes);
}

/// A request was answered. `code` is that of the error, or `OK`.
pub(crate) fn answered(operation: &'static str, code: &str, seconds: f64) {
    counter!("logship_requests_total", "operation" => operation, "code" => code.to_owned()).increment(1);
    histogram!("logship_request_seconds", "operation" => operation).record(seconds);
}

/// The text that Prometheus reads. Blocks on the disk.
pub(crate) fn render(service: &Service) -> String {
    let store = &service.store;
    gauge!("logship_store_bytes").set(store.size() as f64);
    gauge!("logship_connections").set(service.connections.load(Ordering::Relaxed) as f64);
    for logstore in store.catalog().logstores() {
        let labels = |shard: u32| {
            vec![
                ("project", logstore.project.clone()),
                ("logstore", logstore.name.clone()),
                ("shard", shard.to_string()),
            ]
        };
        for shard in &logstore.shards {
            let groups = shard.end().saturating_sub(shard.begin());
            gauge!("logship_shard_groups", &labels(shard.number)).set(groups as f64);
        }
        for rule in logstore.rules.values() {
            // One that is being deleted is told of no more.
            let progress = store.progress(rule).unwrap_or_default();
            for shard in &logstore.shards {
                let mut labels = labels(shard.number);
                labels.push(("rule", rule.name.clone()));
                let at =
                    progress.get(&shard.number).map_or(shard.begin(), |progress| progress.checkpoint.cursor);
                let oldest = store.measure(shard, at, 1).unwrap_or_default().oldest;
                let lag = if oldest == 0 { 0 } else { service.now().saturating_sub(oldest) };
                gauge!("logship_ship_waiting_groups", &labels).set(shard.end().saturating_sub(at) as f64);
                gauge!("logship_ship_lag_seconds", &labels).set(lag as f64);
            }
            let labels = [
                ("project", logstore.project.clone()),
                ("logstore", logstore.name.clone()),
                ("rule", rule.name.clone()),
            ];
            let held = service.why_held(rule.number()).is_some();
            gauge!("logship_rule_held", &labels).set(f64::from(u8::from(held)));
        }
        for group in logstore.groups.keys() {
            // One that is being deleted is told of no more.
            for status in store.group_status(logstore, group).unwrap_or_default() {
                let mut labels = labels(status.checkpoint.shard);
                labels.push(("group", group.clone()));
                gauge!("logship_group_behind_groups", &labels).set(status.behind as f64);
                gauge!("logship_group_lag_seconds", &labels).set(status.lag as f64);
            }
        }
    }
    service.book.registry().engine().export_tallies();
    service.metrics.run_upkeep();
    service.metrics.render()
}

//! Metrics for Prometheus: the recorder, and the counters of requests.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

/// The upper bounds of histogram buckets, in seconds.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Installs the metrics recorder. Only once per process.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    // Drop the gauges of deleted logstores, rules and groups.
    let handle = builder.idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_TIMEOUT)).install_recorder()?;
    describe_logstores();
    describe_delivery();
    Ok(handle)
}

/// Describes the metrics of requests and logstores.
fn describe_logstores() {
    describe_counter!("logship_received_logs_total", "Logs received");
    describe_counter!(
        "logship_received_bytes_total",
        Unit::Bytes,
        "Bytes of received logs, before compression"
    );
    describe_counter!("logship_repeated_puts_total", "Puts that were stored before, by their id");
    describe_counter!("logship_sent_logs_total", "Logs pulled");
    describe_counter!("logship_sent_bytes_total", Unit::Bytes, "Bytes of pulled logs, before compression");
    describe_counter!("logship_requests_total", "Requests, by operation and result code");
    describe_histogram!("logship_request_seconds", Unit::Seconds, "Duration of requests");
    describe_histogram!("logship_commit_seconds", Unit::Seconds, "Duration of commits to disk");
    describe_counter!("logship_commits_failed_total", "Failed commits");
    describe_counter!(
        "logship_damaged_groups_total",
        "Reads refused because a stored log group is damaged or missing"
    );
    describe_gauge!("logship_store_bytes", Unit::Bytes, "Size of the store");
    describe_gauge!("logship_store_generation", "Number of the generation of the store");
    describe_gauge!(
        "logship_store_lost_groups",
        "Acknowledged log groups that were gone when the store's generation began"
    );
    describe_gauge!(
        "logship_clock_unconfirmed",
        "1 if the clock was set far forward: expired logs are kept until it is confirmed"
    );
    describe_gauge!("logship_clock_ahead_seconds", Unit::Seconds, "Unconfirmed step of the clock forward");
    describe_gauge!(
        "logship_retention_kept_seconds",
        Unit::Seconds,
        "Time since the oldest log expired that is kept because a rule has not shipped it"
    );
    describe_gauge!("logship_shard_groups", "Log groups in a shard");
    describe_gauge!(
        "logship_group_behind_groups",
        "Log groups of a shard that a consumer group has not read yet"
    );
    describe_gauge!(
        "logship_group_lag_seconds",
        Unit::Seconds,
        "Age of the oldest log group of a shard that a consumer group has not read yet"
    );
    describe_gauge!("logship_memory_bytes", Unit::Bytes, "Memory of bodies or replies of requests");
    describe_counter!(
        "logship_evicted_requests_total",
        "Requests of slow clients that lost their memory to others"
    );
    describe_counter!("logship_quota_rejections_total", "Requests over a quota of their key");
    describe_gauge!("logship_quota_used", "Used part of a key's quota of the day");
    describe_gauge!("logship_quota_limit", "A key's quota of the day");
    describe_gauge!("logship_connections", "Open client connections");
    describe_counter!(
        "logship_connections_replaced_total",
        "Connections that were closed for others at a limit of connections"
    );
}

/// Describes the metrics of rules, stages and receivers.
fn describe_delivery() {
    describe_counter!("logship_tasks_total", "Attempts of shipping tasks, by result");
    describe_counter!("logship_shipped_logs_total", "Logs delivered to their destination");
    describe_counter!("logship_lost_values_total", "Values of logs that are not in the objects of a rule");
    describe_counter!("logship_left_out_logs_total", "Logs filtered by the transformers of a rule");
    describe_counter!(
        "logship_shipped_bytes_total",
        Unit::Bytes,
        "Bytes of objects delivered to their destination"
    );
    describe_gauge!("logship_ship_waiting_groups", "Log groups of a shard that a rule has not shipped yet");
    describe_gauge!(
        "logship_ship_lag_seconds",
        Unit::Seconds,
        "Age of the oldest log group of a shard that a rule has not shipped yet"
    );
    describe_gauge!("logship_rule_held", "1 if a rule is paused; `logship rule show` has the reason");
    describe_histogram!(
        "logship_swap_wait_seconds",
        Unit::Seconds,
        "Wait before creating a task after a stage was swapped"
    );
    describe_histogram!(
        "logship_stage_call_seconds",
        Unit::Seconds,
        "Duration of stage calls: one per chunk of logs and a few per object"
    );
    describe_counter!("logship_stage_bytes_total", Unit::Bytes, "Input and output bytes of a stage");
    describe_counter!("logship_stage_failures_total", "Failed stage calls, by cause");
    describe_gauge!("logship_stage_memory_bytes", Unit::Bytes, "Peak memory of an instance of a stage");
    describe_counter!("logship_siem_events_total", "Events delivered to a receiver");
    describe_counter!("logship_siem_bytes_total", Unit::Bytes, "Bytes of delivered events");
    describe_counter!("logship_siem_logs_bytes_total", Unit::Bytes, "Bytes of the logs of delivered events");
    describe_counter!("logship_siem_dead_letters_total", "Events that a receiver rejected permanently");
    describe_counter!("logship_siem_warnings_total", "Requests that a receiver accepted with a warning");
    describe_counter!("logship_siem_retries_total", "Retries of deliveries to a receiver");
}

/// The interval of aggregating histograms. Until then, each sample takes memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A gauge is dropped if it was not set for this time.
const GAUGE_TIMEOUT: Duration = Duration::from_secs(600);

/// Aggregates histograms periodically, so that they stay small.
pub(crate) async fn run_upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        handle.run_upkeep();
    }
}

pub(crate) fn record_received(project: &str, logstore: &str, logs: u64, bytes: u64) {
    let labels = [("project", project.to_owned()), ("logstore", logstore.to_owned())];
    counter!("logship_received_logs_total", &labels).increment(logs);
    counter!("logship_received_bytes_total", &labels).increment(bytes);
}

pub(crate) fn record_repeated_put(project: &str, logstore: &str) {
    let labels = [("project", project.to_owned()), ("logstore", logstore.to_owned())];
    counter!("logship_repeated_puts_total", &labels).increment(1);
}

pub(crate) fn record_sent(project: &str, logstore: &str, logs: u64, bytes: u64) {
    let labels = [("project", project.to_owned()), ("logstore", logstore.to_owned())];
    counter!("logship_sent_logs_total", &labels).increment(logs);
    counter!("logship_sent_bytes_total", &labels).increment(bytes);
}

/// Records a finished request. `code` is the error code, or `OK`.
pub(crate) fn record_request(operation: &'static str, code: &str, seconds: f64) {
    counter!("logship_requests_total", "operation" => operation, "code" => code.to_owned()).increment(1);
    histogram!("logship_request_seconds", "operation" => operation).record(seconds);
}

//! Counters of tasks. `logship-server` describes their names.

use std::time::Instant;

use logship_logstore::Task;

use crate::engine::error::TaskError;

fn labels(task: &Task) -> [(&'static str, String); 3] {
    [("project", task.project.clone()), ("logstore", task.logstore.clone()), ("rule", task.rule.clone())]
}

/// Counts a finished attempt.
pub(super) fn count_attempt(task: &Task, result: &Result<(), TaskError>) {
    let status = match result {
        Ok(()) => "success",
        Err(error) if error.is_interrupted() => return,
        Err(_) => "fail",
    };
    let mut with_status = labels(task).to_vec();
    with_status.push(("status", status.to_owned()));
    metrics::counter!("logship_tasks_total", &with_status).increment(1);
}

/// Counts logs that the transformers filtered.
pub(super) fn count_filtered(task: &Task, logs: u64) {
    if logs > 0 {
        metrics::counter!("logship_left_out_logs_total", &labels(task)).increment(logs);
    }
}

/// Counts values of logs that are not in the objects.
pub(super) fn count_lost(task: &Task, values: u64) {
    metrics::counter!("logship_lost_values_total", &labels(task)).increment(values);
}

/// Counts delivered rows and bytes.
pub(super) fn count_shipped(task: &Task, rows: u64, bytes: u64) {
    let labels = labels(task);
    metrics::counter!("logship_shipped_logs_total", &labels).increment(rows);
    metrics::counter!("logship_shipped_bytes_total", &labels).increment(bytes);
}

/// Records how long a task waited for a stage swap that began at `begun`.
pub(super) fn record_swap_wait(begun: Instant) {
    metrics::histogram!("logship_swap_wait_seconds").record(begun.elapsed().as_secs_f64());
}

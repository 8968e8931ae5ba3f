//! Jobs, runs and previews as JSON.

use logship_config::job::Job;
use logship_delivery::rows::jobs::plan::{RunPlan, ShardRange};
use logship_delivery::rows::jobs::preview::{JobPreview, PreviewedLog};
use logship_delivery::rows::jobs::progress::{RunProgress, ShardProgress};
use logship_delivery::rows::jobs::target::{self, Target, stored_job};
use logship_logstore::{JobRun, SyncJob};
use serde_json::{Value, json};

/// Shows a job with its last run.
pub(super) fn job(job: &SyncJob, last: Option<&JobRun>) -> Value {
    let parsed = stored_job(job).ok();
    let script = parsed.as_ref();
    json!({
        "name": job.name,
        "logstore": script.map(|job| job.reader().logstore.clone()),
        "datasource": script.map(|job| job.writer().datasource.clone()),
        "table": script.map(|job| job.writer().table.as_str().to_owned()),
        "partition": script.map(|job| job.writer().partition.as_str().to_owned()),
        "truncate": script.map(|job| job.writer().truncate),
        "schedule": script.and_then(|job| job.schedule.map(|schedule| schedule.to_string())),
        "timeZone": script.map(|job| job.time_zone.to_string()),
        "createTime": job.created,
        "lastModifyTime": job.modified,
        "nextRun": job.next,
        "skippedRuns": job.skipped,
        "problem": job.waits.then_some("the store was restored, copied or damaged, and another life of it may have run this job: decide with `logship store confirm`"),
        "lastRun": last.map(|last| run(last, script)),
    })
}

/// Shows a run.
pub(super) fn run(run: &JobRun, job: Option<&Job>) -> Value {
    let (plan, progress) = state(run);
    run_in_state(run, job, plan.as_ref(), &progress)
}

/// Parses the plan and the progress of a run.
fn state(run: &JobRun) -> (Option<RunPlan>, RunProgress) {
    let plan = run.plan.as_deref().and_then(|plan| RunPlan::parse(plan).ok());
    (plan, RunProgress::parse(run.progress.as_deref()))
}

fn run_in_state(run: &JobRun, job: Option<&Job>, plan: Option<&RunPlan>, progress: &RunProgress) -> Value {
    let target = match plan {
        Some(plan) => Some(Target { window: plan.window, table: plan.table.clone() }),
        None => job.and_then(|job| Target::of_run(job, run).ok()),
    };
    let time = |time: u64| job.map(|job| target::shown(time, job));
    let sum = |of: fn(&ShardProgress) -> u64| progress.shards.values().map(of).sum::<u64>();
    json!({
        "id": run.id,
        "job": run.job_name,
        "state": run.state.as_str(),
        "trigger": run.trigger.as_str(),
        "scheduled": run.scheduled,
        "scheduledTime": time(run.scheduled),
        "parameters": run.parameters,
        "begin": target.as_ref().map(|target| target.window.begin),
        "end": target.as_ref().map(|target| target.window.end),
        "beginDateTime": target.as_ref().and_then(|target| time(target.window.begin)),
        "endDateTime": target.as_ref().and_then(|target| time(target.window.end)),
        "table": target.as_ref().map(|target| target.table.table.clone()),
        "partition": target.as_ref().and_then(|target| target.table.partition.clone()),
        "truncate": target.as_ref().map(|target| target.table.overwrite),
        "session": run.session,
        "rows": progress.rows(),
        "dirtyRows": progress.dirty(),
        "firstDirtyRow": progress.first_dirty(),
        "bytes": sum(|shard| shard.bytes),
        "blocks": progress.shards.values().map(|shard| shard.blocks).sum::<u32>(),
        "logBytes": sum(|shard| shard.log_bytes),
        "totalLogBytes": plan.map(|plan| plan.shards.iter().map(|range| range.bytes).sum::<u64>()),
        "attempts": run.attempts,
        "created": seconds(run.created),
        "started": seconds(run.started),
        "finished": seconds(run.finished),
        "nextAttempt": run.next_attempt.and_then(seconds),
        "code": run.code,
        "message": run.message,
    })
}

/// Shows a run with its shards.
pub(super) fn run_with_shards(run: &JobRun, job: Option<&Job>) -> Value {
    let (plan, progress) = state(run);
    let shard = |range: &ShardRange| {
        let done = progress.shards.get(&range.shard).cloned().unwrap_or_default();
        json!({
            "shard": range.shard,
            "begin": range.begin,
            "end": range.end,
            "rows": done.rows,
            "dirtyRows": done.dirty,
            "blocks": done.blocks,
            "bytes": done.bytes,
            "logBytes": done.log_bytes,
            "totalLogBytes": range.bytes,
            "done": done.is_done,
        })
    };
    let mut value = run_in_state(run, job, plan.as_ref(), &progress);
    value["stage"] = plan.as_ref().map(|plan| plan.stage.clone()).into();
    value["mapping"] = plan.as_ref().map(|plan| json!(plan.mapping)).into();
    value["shards"] = plan.iter().flat_map(|plan| &plan.shards).map(shard).collect();
    value
}

/// Shows a preview.
pub(super) fn preview(job: &Job, plan: &RunPlan, preview: &JobPreview) -> Value {
    let log = |previewed: &PreviewedLog| {
        let PreviewedLog { shard, position: (cursor, index), log, row } = previewed;
        json!({ "shard": shard, "cursor": cursor, "index": index, "log": log, "row": row })
    };
    let dirty = |(position, reason): &(String, String)| json!({ "position": position, "reason": reason });
    json!({
        "beginDateTime": target::shown(plan.window.begin, job),
        "endDateTime": target::shown(plan.window.end, job),
        "table": plan.table.table,
        "partition": plan.table.partition,
        "truncate": plan.table.overwrite,
        "columns": plan.schema.columns,
        "mapping": plan.mapping,
        "shards": plan.shards.len(),
        "logBytes": plan.shards.iter().map(|range| range.bytes).sum::<u64>(),
        "logs": preview.logs.iter().map(log).collect::<Vec<_>>(),
        "rows": preview.rows,
        "dirty": preview.dirty.iter().map(dirty).collect::<Vec<_>>(),
    })
}

/// Returns a time of the store in Unix seconds, or none for 0.
fn seconds(micros: u64) -> Option<f64> {
    (micros > 0).then_some(micros as f64 / 1e6)
}

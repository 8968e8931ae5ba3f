//! The runs of jobs.

use std::sync::Arc;

use logship_config::job::Job;
use logship_delivery::rows::jobs::requests::RunRequest;
use logship_delivery::rows::jobs::target::stored_job;
use logship_logstore::{JobRun, StoreError, SyncJob};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{check, find, invalid, job_error, read, request, run_error, show};
use crate::Service;
use crate::call::Call;
use crate::manage::{Page, body};
use crate::reply::{Reply, store_error};

/// A run, or a backfill.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RunBody {
    parameters: Value,
    scheduled: Option<String>,
    from: Option<String>,
    to: Option<String>,
    allow_duplicates: bool,
}

impl RunBody {
    /// Parses the body of a request, which may be empty.
    fn of(call: &Call) -> Result<Self, ApiError> {
        if call.body.is_empty() { Ok(Self::default()) } else { body(call, ErrorCode::PostBodyInvalid) }
    }
}

/// Lists the runs of a job, newest first.
pub(crate) async fn list(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    let (job, page) = (find(service, project, name).await?, Page::of(call)?);
    let (number, offset, size) = (job.number(), page.offset(), page.size());
    let (total, runs) = read(service, move |store| store.runs(number, offset, size)).await?;
    let parsed = stored_job(&job).ok();
    let runs: Vec<Value> = runs.iter().map(|run| show::run(run, parsed.as_ref())).collect();
    Ok(Reply::json(&json!({ "count": runs.len(), "total": total, "runs": runs })))
}

pub(crate) async fn show_one(
    service: &Arc<Service>,
    project: &str,
    name: &str,
    id: &str,
) -> Result<Reply, ApiError> {
    let job = find(service, project, name).await?;
    let run = find_run(service, &job, id).await?;
    Ok(Reply::json(&show::run_with_shards(&run, stored_job(&job).ok().as_ref())))
}

/// Runs a job: once, or for all scheduled times from `from` to `to`.
pub(crate) async fn run(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    let body = RunBody::of(call)?;
    let (job, parsed) = checked(service, call, project, name).await?;
    let request = request(&parsed, body.parameters, body.scheduled.as_deref())?;
    let request = RunRequest { allow_duplicates: body.allow_duplicates, ..request };
    let runs = match (&body.from, &body.to) {
        (None, None) => service.jobs.run(&job, request).await.map(|run| vec![run]),
        (Some(from), Some(to)) if body.scheduled.is_none() => {
            service.jobs.backfill(&job, (from, to), request).await
        }
        (Some(_), Some(_)) => return Err(invalid("scheduled is set together with from and to: remove it")),
        _ => return Err(invalid("from and to belong together: set both")),
    };
    Ok(Reply::json(&json!({ "runs": runs.map_err(run_error)? })))
}

/// Runs the window of a run again.
pub(crate) async fn rerun(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: &str,
    id: &str,
) -> Result<Reply, ApiError> {
    let body = RunBody::of(call)?;
    let (job, _) = checked(service, call, project, name).await?;
    let run = find_run(service, &job, id).await?;
    if run.state.is_active() {
        return Err(store_error(StoreError::ActiveRun { job: job.name, run: run.id }));
    }
    let again = service.jobs.rerun(&job, &run, body.allow_duplicates).await;
    Ok(Reply::json(&json!({ "runs": [again.map_err(run_error)?] })))
}

pub(crate) async fn stop(
    service: &Arc<Service>,
    project: &str,
    name: &str,
    id: &str,
) -> Result<Reply, ApiError> {
    let job = find(service, project, name).await?;
    service.jobs.stop(&job, parse_id(id)?).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Returns a job that the key may run.
async fn checked(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: &str,
) -> Result<(SyncJob, Job), ApiError> {
    let job = find(service, project, name).await?;
    let parsed = stored_job(&job).map_err(|error| job_error(&error))?;
    check(service, call, project, &parsed).await?;
    Ok((job, parsed))
}

async fn find_run(service: &Arc<Service>, job: &SyncJob, id: &str) -> Result<JobRun, ApiError> {
    let (job, id) = (job.number(), parse_id(id)?);
    read(service, move |store| store.run(job, id)).await
}

fn parse_id(id: &str) -> Result<i64, ApiError> {
    id.parse().map_err(|_| invalid(format!("run {id:?} is not a number")))
}

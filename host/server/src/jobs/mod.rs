//! Jobs: the rows of a time range, written to a table.

mod runs;
mod show;

use std::path::Path;
use std::sync::Arc;

use logship_config::job::{Job, JobError};
use logship_delivery::rows::jobs::RunError;
use logship_delivery::rows::jobs::requests::RunRequest;
use logship_delivery::rows::jobs::target::stored_job;
use logship_logstore::{Store, StoreError, SyncJob};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authorization::check_read;
use crate::call::Call;
use crate::manage::{Page, body};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
pub(crate) use runs::{list as list_runs, rerun, run, show_one as show_run, stop};

/// The number of logs that a preview shows by default.
const PREVIEWED_LOGS: usize = 10;

/// A request to preview a job, or to create its table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JobBody {
    /// The script of a job that is not stored.
    #[serde(default)]
    script: Option<Value>,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    scheduled: Option<String>,
    #[serde(default)]
    logs: Option<usize>,
    /// True to run the statement that creates the table.
    #[serde(default)]
    run: bool,
}

/// Lists the jobs of a project.
pub(crate) async fn list(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let (page, project) = (Page::of(call)?, project.to_owned());
    let found = read(service, move |store| {
        let all = store.jobs(Some(&project))?;
        let total = all.len();
        let last = |job: &SyncJob| store.runs(job.number(), 0, 1).map(|(_, runs)| runs.into_iter().next());
        let jobs = page.slice(all).into_iter().map(|job| last(&job).map(|last| (job, last)));
        Ok((total, jobs.collect::<Result<Vec<_>, _>>()?))
    });
    let (total, jobs) = found.await?;
    let jobs: Vec<Value> = jobs.iter().map(|(job, last)| show::job(job, last.as_ref())).collect();
    Ok(Reply::json(&json!({ "count": jobs.len(), "total": total, "jobs": jobs })))
}

pub(crate) async fn show(service: &Arc<Service>, project: &str, name: &str) -> Result<Reply, ApiError> {
    let job = find(service, project, name).await?;
    let number = job.number();
    let (_, last) = read(service, move |store| store.runs(number, 0, 1)).await?;
    let unread = read(service, Store::unread).await?;
    let mut shown = show::job(&job, last.first());
    shown["unreadSince"] = json!(unread.get(&number).map(|unread| unread.since));
    shown["script"] = job.configuration.clone();
    Ok(Reply::json(&shown))
}

/// Creates a job from its script. The query parameter `name` overrides the script's.
pub(crate) async fn create(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let job = parse(&call.body, call.query.get("name"))?;
    let warnings = check(service, call, project, &job).await?;
    let next = service.jobs.first_scheduled(&job);
    let created = service.store.create_job(project, &job.name, &configuration(&job), next).await;
    created.map_err(store_error)?;
    service.jobs.wake();
    Ok(stored(&job, next, &warnings))
}

/// Replaces the script of a job. Runs that have begun keep their plan.
pub(crate) async fn update(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    let before = find(service, project, name).await?;
    let job = parse(&call.body, Some(name))?;
    let warnings = check(service, call, project, &job).await?;
    // An unchanged schedule goes on where it is.
    let schedule = |job: &Job| (job.schedule, job.time_zone);
    let is_same = stored_job(&before).is_ok_and(|before| schedule(&before) == schedule(&job));
    let next = if is_same { before.next } else { service.jobs.first_scheduled(&job) };
    let updated = service.store.update_job(project, name, &configuration(&job), next).await;
    updated.map_err(store_error)?;
    service.jobs.wake();
    Ok(stored(&job, next, &warnings))
}

pub(crate) async fn delete(service: &Service, project: &str, name: &str) -> Result<Reply, ApiError> {
    service.store.delete_job(project, name).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Previews a stored job, or one that is not stored yet.
pub(crate) async fn preview(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: Option<&str>,
) -> Result<Reply, ApiError> {
    let (job, body) = requested_job(service, call, project, name).await?;
    check(service, call, project, &job).await?;
    let request = request(&job, body.parameters, body.scheduled.as_deref())?;
    let logs = body.logs.unwrap_or(PREVIEWED_LOGS);
    let previewed = service.jobs.preview(project, &job, &request, logs).await;
    let (plan, preview) = previewed.map_err(run_error)?;
    Ok(Reply::json(&show::preview(&job, &plan, &preview)))
}

/// Returns the statement that creates the table of a job, and runs it if the request says so.
pub(crate) async fn table(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: Option<&str>,
) -> Result<Reply, ApiError> {
    let (job, body) = requested_job(service, call, project, name).await?;
    job.check().map_err(|error| job_error(&error))?;
    let request = request(&job, body.parameters, body.scheduled.as_deref())?;
    let statement = service.jobs.create_table(project, &job, &request, body.run).await;
    let statement = statement.map_err(run_error)?;
    Ok(Reply::json(&json!({ "statement": statement, "done": body.run })))
}

/// Returns the job of a request, from its script or from the store, and the body.
async fn requested_job(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    name: Option<&str>,
) -> Result<(Job, JobBody), ApiError> {
    let body: JobBody = body(call, ErrorCode::PostBodyInvalid)?;
    let job = match (&body.script, name) {
        (Some(script), _) => parse(script.to_string().as_bytes(), name)?,
        (None, Some(name)) => {
            let stored = find(service, project, name).await?;
            stored_job(&stored).map_err(|error| job_error(&error))?
        }
        (None, None) => return Err(invalid("script is missing: send the script of the job")),
    };
    Ok((job, body))
}

/// Parses a script. It may have comments.
fn parse(script: &[u8], name: Option<&str>) -> Result<Job, ApiError> {
    let script = std::str::from_utf8(script)
        .map_err(|_| ApiError::new(ErrorCode::PostBodyInvalid, "the script is not UTF-8"))?;
    let mut job = Job::parse(script, Path::new("script")).map_err(|error| job_error(&error))?;
    if let Some(name) = name {
        job.name = name.to_owned();
    }
    Ok(job)
}

fn configuration(job: &Job) -> Value {
    // Jobs always serialize.
    serde_json::to_value(job).unwrap_or_default()
}

/// Checks a job, and that the key may read its Logstore. Returns warnings.
async fn check(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    job: &Job,
) -> Result<Vec<String>, ApiError> {
    let checked = {
        let (service, job, project) = (Arc::clone(service), job.clone(), project.to_owned());
        blocking(move || service.jobs.check(&project, &job).map_err(run_error)).await
    };
    let reader = service.jobs.reader_project(project, job).map_err(run_error)?;
    if let Some(reader) = reader {
        check_read(&call.key, &reader, &job.reader().logstore)?;
    }
    checked
}

/// Replies to a stored job.
fn stored(job: &Job, next: Option<u64>, warnings: &[String]) -> Reply {
    Reply::json(&json!({ "name": job.name, "nextRun": next, "warnings": warnings }))
}

/// Returns the request of a run, with the time that expressions are evaluated at.
fn request(job: &Job, parameters: Value, scheduled: Option<&str>) -> Result<RunRequest, ApiError> {
    if !(parameters.is_null() || parameters.is_object()) {
        return Err(invalid("parameters is no object: use {\"NAME\": \"VALUE\"}"));
    }
    let time = |text: &str| {
        let time = logship_config::job::template::parse_time(text, job.time_zone);
        let time = time.map_err(|problem| invalid(format!("scheduled: {problem}")))?;
        u64::try_from(time.timestamp()).map_err(|_| invalid("scheduled is before 1970"))
    };
    let scheduled = scheduled.map(time).transpose()?;
    Ok(RunRequest { parameters, scheduled, allow_duplicates: false })
}

/// Returns a job of a project.
async fn find(service: &Arc<Service>, project: &str, name: &str) -> Result<SyncJob, ApiError> {
    let (project, name) = (project.to_owned(), name.to_owned());
    read(service, move |store| store.job(&project, &name)).await
}

/// Reads the store on a thread of its own.
async fn read<T: Send + 'static>(
    service: &Arc<Service>,
    read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let service = Arc::clone(service);
    blocking(move || read(&service.store).map_err(store_error)).await
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, message)
}

fn job_error(error: &JobError) -> ApiError {
    ApiError::new(ErrorCode::PostBodyInvalid, error.to_string())
}

fn run_error(error: RunError) -> ApiError {
    match error {
        RunError::Job(error) => job_error(&error),
        RunError::Store(error) => store_error(error),
        error => invalid(error.to_string()),
    }
}

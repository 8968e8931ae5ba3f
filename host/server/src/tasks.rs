//! Shipping tasks: list, retry, and verify against their destination.

use std::collections::BTreeMap;
use std::sync::Arc;

use logship_logstore::{
    Logstore, ManifestEntry, ObjectManifest, Status, Task, TaskCounts, TaskFilter, TaskId,
};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::manage::body;
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
use logship_delivery::engine::{PlanError, PlanSummary};
use logship_sink::error::SinkError;

/// The most tasks that one request of Log Service's API may retry.
const MAX_RETRIES: usize = 10;

/// The most tasks of a page.
const MAX_PAGE: usize = 500;

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, message)
}

/// Lists the tasks of a rule in Log Service's format.
pub(crate) async fn of_shipper(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    rule: &str,
) -> Result<Reply, ApiError> {
    logstore.rule(rule).map_err(store_error)?;
    let mut filter = filter(call, &logstore.project)?;
    filter.logstore = Some(logstore.name.clone());
    filter.rule = Some(rule.to_owned());
    list_page(service, call, filter, show_legacy).await
}

/// Lists the tasks of a project with all details.
pub(crate) async fn list(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let filter = filter(call, project)?;
    list_page(service, call, filter, show_task).await
}

/// Shows a task and its plan. With `verify`, also the stored objects.
pub(crate) async fn show(
    service: &Arc<Service>,
    project: &str,
    id: &str,
    verify: bool,
) -> Result<Reply, ApiError> {
    let id: TaskId = id.parse().map_err(store_error)?;
    let (service, project) = (Arc::clone(service), project.to_owned());
    blocking(move || {
        let task = service.store.task(id).map_err(store_error)?;
        if task.project != project {
            return Err(store_error(logship_logstore::StoreError::NoTask(id.to_string())));
        }
        let mut shown = show_task(&task);
        let content = service.store.plan(task.plan).map_err(store_error)?;
        shown["plan"] = show_plan(&service, &content)?;
        if verify && task.manifest.as_ref().is_none_or(ObjectManifest::has_object) {
            add_stored_objects(&service, &task, &mut shown);
        }
        Ok(Reply::json(&shown))
    })
    .await
}

/// Adds the stored object of each of a task's objects. Also adds the first one to the task, for old clients.
fn add_stored_objects(service: &Service, task: &Task, shown: &mut Value) {
    let found = |object: &str| match service.delivery.find(task, object) {
        Ok(Some(found)) => {
            let mut shown = json!({ "bytes": found.bytes, "sha256": found.sha256 });
            if let Some(heads) = found.heads {
                (shown["headBefore"], shown["head"]) = (heads.before.into(), heads.after.into());
            }
            shown
        }
        Ok(None) => Value::Null,
        Err(error @ PlanError::Sink(SinkError::UnknownStore(_))) => {
            json!({ "unseen": error.to_string() })
        }
        Err(PlanError::Unreadable(reason)) => json!({ "unread": reason }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    shown["found"] = Value::Null;
    for (index, object) in task.objects().iter().enumerate() {
        shown["objects"][index]["found"] = found(&object.object);
    }
    match shown["objects"].get(0) {
        Some(first) => shown["found"] = first["found"].clone(),
        // A task without a manifest: its key may not be known yet.
        None if !task.object.is_empty() => shown["found"] = found(&task.object),
        None => {}
    }
}

/// Shows the plan of a task.
fn show_plan(service: &Service, content: &str) -> Result<Value, ApiError> {
    let summary = service.delivery.summarize(content).map_err(|error| {
        let error = match error {
            PlanError::Record(error) => error.to_string(),
            other => other.to_string(),
        };
        ApiError::new(ErrorCode::InternalServerError, format!("the plan can't be read: {error}"))
    })?;
    let PlanSummary { project, logstore, stages, digest, rule, configuration } = summary;
    let mut shown = json!({
        "project": project,
        "logstore": logstore,
        "stages": stages,
        "shipperName": rule,
        "targetConfiguration": configuration,
    });
    if let Some(digest) = digest {
        shown["digest"] = digest.into();
    }
    Ok(shown)
}

/// Retries tasks of a rule, in Log Service's format.
pub(crate) async fn retry_of_shipper(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    rule: &str,
) -> Result<Reply, ApiError> {
    logstore.rule(rule).map_err(store_error)?;
    let ids: Vec<String> = body(call, ErrorCode::PostBodyInvalid)?;
    if ids.len() > MAX_RETRIES {
        return Err(invalid(format!("Each time allows {MAX_RETRIES} task retries only")));
    }
    let filter = TaskFilter {
        project: Some(logstore.project.clone()),
        logstore: Some(logstore.name.clone()),
        rule: Some(rule.to_owned()),
        ..TaskFilter::default()
    };
    // Ignore the IDs of tasks that did not fail or no longer exist.
    let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
    service.store.retry_tasks(filter, Some(ids)).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(Reply::empty())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// The tasks; by default, all failed tasks.
    ids: Option<Vec<String>>,
}

/// Retries tasks of a project: those with the IDs in the body, or all that match the query.
pub(crate) async fn retry(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let RetryBody { ids } = body(call, ErrorCode::PostBodyInvalid)?;
    let ids = match ids {
        None => None,
        Some(ids) => {
            let ids = ids.iter().map(|id| id.parse().map_err(store_error));
            Some(ids.collect::<Result<Vec<TaskId>, _>>()?)
        }
    };
    let count = service.store.retry_tasks(filter(call, project)?, ids).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(Reply::json(&json!({ "count": count })))
}

fn filter(call: &Call, project: &str) -> Result<TaskFilter, ApiError> {
    let text = |name: &str| call.query.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let status = match text("status") {
        None => None,
        Some(status) => Some(
            status.parse::<Status>().map_err(|()| invalid("status only contains success/running/fail"))?,
        ),
    };
    let (from, to) = (call.number("from")?, call.number("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(invalid("start time must be earlier than end time"));
    }
    Ok(TaskFilter {
        project: Some(project.to_owned()),
        logstore: text("logstore"),
        rule: text("shipper"),
        shard: call.number("shard")?,
        status,
        from,
        to,
    })
}

async fn list_page(
    service: &Arc<Service>,
    call: &Call,
    filter: TaskFilter,
    show: fn(&Task) -> Value,
) -> Result<Reply, ApiError> {
    let offset = call.number("offset")?.unwrap_or(0);
    let size = call.number::<i64>("size")?.unwrap_or(100);
    let size = usize::try_from(size).unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let service = Arc::clone(service);
    blocking(move || {
        let (tasks, counts) = service.store.tasks(&filter, offset, size).map_err(store_error)?;
        let TaskCounts { running, success, failed } = counts;
        let total = match filter.status {
            None => running + success + failed,
            Some(Status::Running) => running,
            Some(Status::Success) => success,
            Some(Status::Failed) => failed,
        };
        let tasks: Vec<Value> = tasks.iter().map(show).collect();
        Ok(Reply::json(&json!({
            "count": tasks.len(),
            "total": total,
            "statistics": { "running": running, "success": success, "fail": failed },
            "tasks": tasks,
        })))
    })
    .await
}

/// Shows a task in Log Service's format.
fn show_legacy(task: &Task) -> Value {
    json!({
        "id": task.id.to_string(),
        "taskStatus": task.status.as_str(),
        "taskMessage": task.message,
        "taskCode": task.code,
        "taskCreateTime": task.id.created / 1_000_000_000,
        "taskLastDataReceiveTime": task.received,
        "taskFinishTime": task.finished / 1_000_000,
        "taskDataLines": task.manifest.as_ref().map_or(0, |manifest| manifest.rows),
    })
}

/// Shows an object of a task.
fn show_object(object: &ManifestEntry) -> Value {
    json!({
        "object": object.object,
        "rows": object.rows,
        "rawBytes": object.raw_bytes,
        "storedBytes": object.stored_bytes,
        "sha256": object.sha256,
    })
}

/// Shows all details of a task. Times are Unix seconds with fractions.
fn show_task(task: &Task) -> Value {
    let seconds = |micros: u64| (micros > 0).then(|| micros as f64 / 1e6);
    let mut shown = show_legacy(task);
    let manifest = task.manifest.as_ref();
    let more = json!({
        "project": task.project,
        "logstore": task.logstore,
        "shipper": task.rule,
        "shard": task.shard,
        "begin": task.begin.to_string(),
        "end": task.end.to_string(),
        "object": task.object,
        "objects": task.objects().iter().map(show_object).collect::<Vec<_>>(),
        "attempts": task.attempts,
        "started": seconds(task.started),
        "finished": seconds(task.finished),
        "nextTry": task.next_attempt.and_then(seconds),
        "rows": manifest.map(|manifest| manifest.rows),
        "rawBytes": manifest.map(|manifest| manifest.raw_bytes),
        "storedBytes": manifest.map(|manifest| manifest.stored_bytes),
        "sha256": manifest.map(|manifest| &manifest.sha256),
        "headBefore": task.heads.map(|heads| heads.before.to_string()),
        "head": task.heads.map(|heads| heads.after.to_string()),
        "lostValues": task.lost.as_ref().map_or(0, |lost| lost.total),
        "lostByColumn": task.lost.as_ref().map(|lost| &lost.columns).unwrap_or(&BTreeMap::new()),
    });
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    shown
}

//! Shipping tasks: listed, tried again, and compared with what is at their destination.

use std::sync::Arc;

use logship_logstore::{Logstore, Seal, SealedObject, Status, Task, TaskCounts, TaskFilter, TaskId};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::manage::body;
use super::reply::{Reply, refuse};
use super::shippers::rule_now;
use super::{Service, blocking};
use crate::destination::DestinationError;
use crate::shipping::{PlanError, PlanRecord};
use crate::siem::rules::SiemRecord;
use crate::target;

/// Tasks that one request of Log Service's API tries again.
const RETRIES: usize = 10;

/// Tasks of a page at most.
const PAGE: usize = 500;

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, message)
}

/// The tasks of a rule, as Log Service's clients list them.
pub(crate) async fn of_shipper(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    rule: &str,
) -> Result<Reply, ApiError> {
    logstore.rule(rule).map_err(refuse)?;
    let mut filter = filter(call, &logstore.project)?;
    filter.logstore = Some(logstore.name.clone());
    filter.rule = Some(rule.to_owned());
    listed(service, call, filter, legacy).await
}

/// The tasks of a project, with all that is known of them.
pub(crate) async fn list(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let filter = filter(call, project)?;
    listed(service, call, filter, whole).await
}

/// A task and its plan; with `verify`, what is at its destination too.
pub(crate) async fn show(
    service: &Arc<Service>,
    project: &str,
    id: &str,
    verify: bool,
) -> Result<Reply, ApiError> {
    let id: TaskId = id.parse().map_err(refuse)?;
    let (service, project) = (Arc::clone(service), project.to_owned());
    blocking(move || {
        let task = service.store.task(id).map_err(refuse)?;
        if task.project != project {
            return Err(refuse(logship_logstore::StoreError::NoTask(id.to_string())));
        }
        let mut shown = whole(&task);
        let content = service.store.plan(task.plan).map_err(refuse)?;
        shown["plan"] = show_plan(&content)?;
        if verify && task.seal.as_ref().is_none_or(Seal::has_object) {
            show_found(&service, &task, &mut shown);
        }
        Ok(Reply::json(&shown))
    })
    .await
}

/// Adds what is at the destination of a task: of each object, and beside them of the first, for who knows of one only.
fn show_found(service: &Service, task: &Task, shown: &mut Value) {
    let catalog = service.store.catalog();
    let logstore = catalog.logstore(&task.project, &task.logstore).ok();
    let rule = rule_now(logstore.and_then(|logstore| logstore.rules.get(&task.rule)));
    let found = |object: &str| match service.shipper.find(task, object, rule.as_ref()) {
        Ok(Some(found)) => json!({ "bytes": found.bytes, "sha256": found.sha256 }),
        Ok(None) => Value::Null,
        Err(error @ PlanError::Destination(DestinationError::Unseen(_))) => {
            json!({ "unseen": error.to_string() })
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    shown["found"] = Value::Null;
    for (index, object) in task.objects().iter().enumerate() {
        shown["objects"][index]["found"] = found(&object.object);
    }
    match shown["objects"].get(0) {
        Some(first) => shown["found"] = first["found"].clone(),
        // One that is not sealed; its key may not be known yet.
        None if !task.object.is_empty() => shown["found"] = found(&task.object),
        None => {}
    }
}

/// What a task is made by.
fn show_plan(content: &str) -> Result<Value, ApiError> {
    if let Ok(SiemRecord { project, logstore, siem, stages, digest }) = serde_json::from_str(content) {
        return Ok(json!({
            "project": project,
            "logstore": logstore,
            "stages": stages,
            "digest": digest,
            "shipperName": siem.name,
            "targetConfiguration": siem.configuration(),
        }));
    }
    let plan: PlanRecord = serde_json::from_str(content).map_err(|error| {
        ApiError::new(ErrorCode::InternalServerError, format!("its plan can't be read: {error}"))
    })?;
    Ok(json!({
        "project": plan.project,
        "logstore": plan.logstore,
        "stages": plan.stages,
        "shipperName": plan.rule.name,
        "targetConfiguration": target::hide_secrets(&target::configuration(&plan.rule)),
    }))
}

/// Lets tasks of a rule be tried again, as Log Service's clients do.
pub(crate) async fn retry_of_shipper(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    rule: &str,
) -> Result<Reply, ApiError> {
    logstore.rule(rule).map_err(refuse)?;
    let ids: Vec<String> = body(call, ErrorCode::PostBodyInvalid)?;
    if ids.len() > RETRIES {
        return Err(invalid(format!("Each time allows {RETRIES} task retries only")));
    }
    let filter = TaskFilter {
        project: Some(logstore.project.clone()),
        logstore: Some(logstore.name.clone()),
        rule: Some(rule.to_owned()),
        ..TaskFilter::default()
    };
    // One that did not fail, or is no more, needs no retry.
    let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
    service.store.retry_tasks(filter, Some(ids)).await.map_err(refuse)?;
    service.shipper.hurry();
    Ok(Reply::empty())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// These; without it all that failed.
    ids: Option<Vec<String>>,
}

/// Lets tasks of a project be tried again: those of the ids in the body, or all that the query means.
pub(crate) async fn retry(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let RetryBody { ids } = body(call, ErrorCode::PostBodyInvalid)?;
    let ids = match ids {
        None => None,
        Some(ids) => {
            let ids = ids.iter().map(|id| id.parse().map_err(refuse));
            Some(ids.collect::<Result<Vec<TaskId>, _>>()?)
        }
    };
    let count = service.store.retry_tasks(filter(call, project)?, ids).await.map_err(refuse)?;
    service.shipper.hurry();
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

async fn listed(
    service: &Arc<Service>,
    call: &Call,
    filter: TaskFilter,
    show: fn(&Task) -> Value,
) -> Result<Reply, ApiError> {
    let offset = call.number("offset")?.unwrap_or(0);
    let size = call.number::<i64>("size")?.unwrap_or(100);
    let size = usize::try_from(size).unwrap_or(PAGE).min(PAGE);
    let service = Arc::clone(service);
    blocking(move || {
        let (tasks, counts) = service.store.tasks(&filter, offset, size).map_err(refuse)?;
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

fn legacy(task: &Task) -> Value {
    json!({
        "id": task.id.to_string(),
        "taskStatus": task.status.as_str(),
        "taskMessage": task.message,
        "taskCode": task.code,
        "taskCreateTime": task.id.created / 1_000_000_000,
        "taskLastDataReceiveTime": task.received,
        "taskFinishTime": task.finished / 1_000_000,
        "taskDataLines": task.seal.as_ref().map_or(0, |seal| seal.rows),
    })
}

/// An object of a task.
fn object(object: &SealedObject) -> Value {
    json!({
        "object": object.object,
        "rows": object.rows,
        "rawBytes": object.raw_bytes,
        "storedBytes": object.stored_bytes,
        "sha256": object.sha256,
    })
}

/// All that is known of a task. Times are Unix seconds, with parts of them.
fn whole(task: &Task) -> Value {
    let seconds = |micros: u64| (micros > 0).then(|| micros as f64 / 1e6);
    let mut shown = legacy(task);
    let seal = task.seal.as_ref();
    let more = json!({
        "project": task.project,
        "logstore": task.logstore,
        "shipper": task.rule,
        "shard": task.shard,
        "begin": task.begin.to_string(),
        "end": task.end.to_string(),
        "object": task.object,
        "objects": task.objects().iter().map(object).collect::<Vec<_>>(),
        "attempts": task.attempts,
        "started": seconds(task.started),
        "finished": seconds(task.finished),
        "nextTry": task.next_try.and_then(seconds),
        "rows": seal.map(|seal| seal.rows),
        "rawBytes": seal.map(|seal| seal.raw_bytes),
        "storedBytes": seal.map(|seal| seal.stored_bytes),
        "sha256": seal.map(|seal| &seal.sha256),
    });
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    shown
}

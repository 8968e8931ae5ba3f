//! Deletes and restores projects and logstores.

use logship_logstore::{Catalog, Logstore};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::header::CONFIRM_HEADER;
use serde_json::{Value, json};

use crate::Service;
use crate::authorization::sees_project;
use crate::call::Call;
use crate::keys::Access;
use crate::manage::is_name;
use crate::operation::Operation;
use crate::reply::{Reply, store_error};

/// Returns true if a deletion is confirmed: by its header, or because the settings require none.
///
/// # Errors
/// Fails if the header has another name.
fn is_confirmed(service: &Service, call: &Call, kind: &str, name: &str) -> Result<bool, ApiError> {
    let Some(confirmed) = call.headers.get(CONFIRM_HEADER) else {
        return Ok(!service.config.deletion.confirm);
    };
    if confirmed.as_bytes() == name.as_bytes() {
        return Ok(true);
    }
    let message =
        format!("{CONFIRM_HEADER} has another name than the {kind} to delete, {name}: nothing was deleted");
    Err(ApiError::new(ErrorCode::DeletionNotConfirmed, message))
}

pub(crate) async fn delete_project(service: &Service, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let confirmed = is_confirmed(service, call, "project", project)?;
    service.store.retire_project(project, confirmed).await.map_err(store_error)?;
    Ok(Reply::empty())
}

pub(crate) async fn restore_project(service: &Service, project: &str) -> Result<Reply, ApiError> {
    service.store.restore_project(project).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(Reply::empty())
}

/// Lists the deleted projects that the key may restore.
pub(crate) fn list_projects(service: &Service, catalog: &Catalog, call: &Call) -> Reply {
    let projects = catalog.deleted_projects().iter();
    let visible = projects.filter(|project| {
        sees_project(&call.key, Operation::ListDeletedProjects, &project.name, &[Access::Admin])
    });
    let shown: Vec<Value> = visible
        .map(|project| json!({ "projectName": project.name, "deleteTime": project.deleted, "restoreUntil": until(service, project.deleted) }))
        .collect();
    Reply::json(&json!({ "count": shown.len(), "projects": shown }))
}

pub(crate) async fn delete_logstore(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
) -> Result<Reply, ApiError> {
    let Logstore { project, name, .. } = logstore;
    let confirmed = is_confirmed(service, call, "logstore", name)?;
    service.store.retire_logstore(project, name, confirmed).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Restores a logstore, under the name in the query parameter `as` if there is one.
pub(crate) async fn restore_logstore(
    service: &Service,
    call: &Call,
    project: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    let new_name = call.query.get("as").filter(|name| !name.is_empty()).unwrap_or(name);
    if !is_name(new_name, "-_") {
        let message = format!("logstore name {new_name} is invalid");
        return Err(ApiError::new(ErrorCode::LogStoreInfoInvalid, message));
    }
    service.store.restore_logstore(project, name, new_name).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(Reply::empty())
}

/// Lists the deleted logstores of a project.
pub(crate) fn list_logstores(service: &Service, catalog: &Catalog, project: &str) -> Reply {
    let deleted = catalog.deleted_logstores().iter();
    let shown: Vec<Value> = deleted
        .filter(|deleted| deleted.project == project && !deleted.with_project)
        .map(|deleted| json!({ "logstoreName": deleted.name, "deleteTime": deleted.deleted, "restoreUntil": until(service, deleted.deleted) }))
        .collect();
    Reply::json(&json!({ "count": shown.len(), "logstores": shown }))
}

fn until(service: &Service, deleted: u64) -> u64 {
    deleted + service.config.deletion.undo_seconds()
}

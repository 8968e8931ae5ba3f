//! Dead letters of rows: lists them, and puts their logs back into their tables.

use std::sync::Arc;

use logship_delivery::rows::resend::{ResendError, Resent};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::json;

use crate::call::Call;
use crate::manage::{Page, body};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};

/// The object of dead letters to resend.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResendBody {
    key: String,
}

/// Lists the keys of the objects of dead letters of a project.
pub(crate) async fn list(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let (page, project, service) = (Page::of(call)?, project.to_owned(), Arc::clone(service));
    let keys = blocking(move || service.resender.keys(&project).map_err(api_error)).await?;
    let total = keys.len();
    let keys = page.slice(keys);
    Ok(Reply::json(&json!({ "count": keys.len(), "total": total, "keys": keys })))
}

/// Writes the rows of an object of dead letters.
pub(crate) async fn resend(service: &Arc<Service>, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let ResendBody { key } = body(call, ErrorCode::PostBodyInvalid)?;
    let (project, service) = (project.to_owned(), Arc::clone(service));
    let resent = blocking(move || service.resender.resend(&project, &key).map_err(api_error)).await?;
    let Resent { written, filtered, superseded, dirty, reason } = resent;
    Ok(Reply::json(&json!({
        "written": written, "filtered": filtered, "superseded": superseded, "dirty": dirty, "reason": reason,
    })))
}

fn api_error(error: ResendError) -> ApiError {
    match error {
        ResendError::Store(error) => store_error(error),
        error => ApiError::new(ErrorCode::ParameterInvalid, error.to_string()),
    }
}

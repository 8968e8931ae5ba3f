//! Deletions that ask for a confirmation and can be undone.

use chrono::DateTime;
use logship_client::{Client, ClientError};
use logship_sls::header::CONFIRM_HEADER;
use reqwest::Method;
use serde_json::Value;

use crate::table;

/// Deletes what is at a path. The service rejects the deletion of logs without the right name in `confirm`.
pub(super) async fn delete(client: &Client, path: &str, confirm: Option<String>) -> Result<(), ClientError> {
    let headers = confirm.map(|name| (CONFIRM_HEADER, name)).into_iter().collect();
    client.send_json_with(Method::DELETE, path, &[], headers, &Value::Null).await.map(drop)
}

/// Returns how to undo a deletion.
pub(super) fn hint(kind: &str, name: &str) -> String {
    format!("`logship {kind} restore {name}` undoes it")
}

/// Renders deleted objects.
pub(super) fn table(deleted: &Value, name: &str, kind: &str) -> String {
    let time = |value: &Value| {
        let time = value.as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        time.map(|time| time.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
    };
    let row = |each: &Value| {
        let name = each[name].as_str().unwrap_or_default().to_owned();
        vec![name, time(&each["deleteTime"]), time(&each["restoreUntil"])]
    };
    let rows = deleted.as_array().into_iter().flatten().map(row).collect();
    table::render(&[kind, "deleted (UTC)", "restorable until"], rows)
}

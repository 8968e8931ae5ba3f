//! Projects, logstores and shards.

use std::sync::Arc;

use logship_logstore::{
    AUDIT_PROJECT, Catalog, FOREVER, Logstore, LogstoreSettings, Project, Resharding, Shard,
};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Service;
use crate::authorization::sees_project;
use crate::call::{Call, check_access};
use crate::keys::Access;
use crate::operation::Operation;
use crate::reply::{Reply, store_error};

/// The default number of shards of a logstore.
const DEFAULT_SHARDS: u32 = 2;

/// Parses the body as JSON.
pub(crate) fn body<T: DeserializeOwned>(call: &Call, code: ErrorCode) -> Result<T, ApiError> {
    serde_json::from_slice(&call.body)
        .map_err(|error| ApiError::new(code, format!("the body is invalid: {error}")))
}

/// The requested page of a list. The SDKs send a `size` of -1 for the whole list.
pub(crate) struct Page {
    offset: usize,
    size: usize,
}

impl Page {
    const MAX_SIZE: usize = 500;

    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let offset = call.number("offset")?.unwrap_or(0);
        let size = call.number::<i64>("size")?.unwrap_or(Self::MAX_SIZE as i64);
        let size = usize::try_from(size).unwrap_or(Self::MAX_SIZE).min(Self::MAX_SIZE);
        Ok(Self { offset, size })
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn slice<T>(&self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.offset).take(self.size).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectBody {
    project_name: Option<String>,
    #[serde(default)]
    description: String,
}

pub(crate) async fn create_project(service: &Service, call: &Call) -> Result<Reply, ApiError> {
    let body: ProjectBody = body(call, ErrorCode::PostBodyInvalid)?;
    let name = body.project_name.or_else(|| call.project.clone()).unwrap_or_default();
    if call.key.policy.is_none() {
        check_access(&call.key, &name, Access::Admin)?;
    }
    if !is_name(&name, "-") {
        let message = format!(
            "project name {name} is invalid: use 3 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
        );
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    service.store.create_project(&name, &body.description).await.map_err(store_error)?;
    Ok(Reply::empty())
}

pub(crate) fn list_projects(catalog: &Catalog, call: &Call) -> Result<Reply, ApiError> {
    let filter = call.query.get("projectName").unwrap_or_default();
    let visible = catalog.projects().filter(|project| {
        project.name.contains(filter)
            && project.name != AUDIT_PROJECT
            && sees_project(&call.key, Operation::ListProjects, &project.name, &[Access::Read, Access::Write])
    });
    let all: Vec<Value> = visible.map(|project| project_json(project)).collect();
    let (total, projects) = (all.len(), Page::of(call)?.slice(all));
    Ok(Reply::json(&json!({ "count": projects.len(), "total": total, "projects": projects })))
}

pub(crate) fn show_project(catalog: &Catalog, project: &str) -> Result<Reply, ApiError> {
    catalog.project(project).map(|project| Reply::json(&project_json(project))).map_err(store_error)
}

fn project_json(project: &Project) -> Value {
    json!({
        "projectName": project.name,
        "status": "Normal",
        "owner": "",
        "description": project.description,
        "region": "local",
        "createTime": project.created.to_string(),
        "lastModifyTime": project.modified.to_string(),
        "resourceGroupId": "",
        "dataRedundancyType": "LRS",
    })
}

pub(crate) async fn update_project(service: &Service, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let body: ProjectBody = body(call, ErrorCode::PostBodyInvalid)?;
    service.store.update_project(project, &body.description).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// The settings of a logstore: those that logship uses, and the rest, which is only returned to clients.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogstoreBody {
    logstore_name: Option<String>,
    ttl: Option<u32>,
    shard_count: Option<u32>,
    max_split_shard: Option<u32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl LogstoreBody {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let body: Self = body(call, ErrorCode::LogStoreInfoInvalid)?;
        let invalid = |message: String| Err(ApiError::new(ErrorCode::LogStoreInfoInvalid, message));
        if body.max_split_shard.is_some_and(|shards| !(1..=256).contains(&shards)) {
            return invalid("maxSplitShard must be within range [1, 256]".into());
        }
        match body.ttl {
            Some(ttl) if !(1..=FOREVER).contains(&ttl) => {
                invalid(format!("ttl must be within range [1, {FOREVER}] days; {FOREVER} means forever"))
            }
            _ => Ok(body),
        }
    }

    fn settings(self, before: &Value, ttl: u32) -> LogstoreSettings {
        let mut settings = before.as_object().cloned().unwrap_or_default();
        settings.extend(self.rest);
        settings.extend(self.max_split_shard.map(|shards| ("maxSplitShard".into(), shards.into())));
        LogstoreSettings { ttl: self.ttl.unwrap_or(ttl), settings: settings.into() }
    }
}

pub(crate) async fn create_logstore(
    service: &Service,
    call: &Call,
    project: &str,
) -> Result<Reply, ApiError> {
    let body = LogstoreBody::read(call)?;
    let invalid = |message: String| Err(ApiError::new(ErrorCode::LogStoreInfoInvalid, message));
    let name = body.logstore_name.clone().unwrap_or_default();
    if !is_name(&name, "-_") {
        return invalid(format!(
            "logstore name {name} is invalid: use 3 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends"
        ));
    }
    let max = service.config.limits.shards;
    let shards = body.shard_count.unwrap_or(DEFAULT_SHARDS);
    if !(1..=max).contains(&shards) {
        return invalid(format!("shardCount must be within range [1, {max}]"));
    }
    let settings = body.settings(&Value::Null, 30);
    service.store.create_logstore(project, &name, shards, &settings).await.map_err(store_error)?;
    Ok(Reply::empty())
}

pub(crate) async fn update_logstore(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
) -> Result<Reply, ApiError> {
    let settings = LogstoreBody::read(call)?.settings(&logstore.settings, logstore.ttl);
    let Logstore { project, name, .. } = logstore;
    service.store.update_logstore(project, name, &settings).await.map_err(store_error)?;
    Ok(Reply::empty())
}

pub(crate) fn show_logstore(logstore: &Logstore) -> Reply {
    let mut shown = json!({
        "enable_tracking": false,
        "autoSplit": false,
        "maxSplitShard": 64,
        "appendMeta": false,
        "telemetryType": "",
        "mode": "standard",
    });
    if let (Some(shown), Some(settings)) = (shown.as_object_mut(), logstore.settings.as_object()) {
        shown.extend(settings.clone());
    }
    shown["logstoreName"] = logstore.name.clone().into();
    shown["ttl"] = logstore.ttl.into();
    shown["shardCount"] = logstore.writable().count().into();
    if let Some(reason) = &logstore.hold {
        shown["legalHold"] = reason.as_str().into();
    }
    shown["createTime"] = logstore.created.into();
    shown["lastModifyTime"] = logstore.modified.into();
    Reply::json(&shown)
}

pub(crate) fn list_logstores(catalog: &Catalog, call: &Call, project: &str) -> Result<Reply, ApiError> {
    let project = catalog.project(project).map_err(store_error)?;
    let filter = call.query.get("logstoreName").unwrap_or_default();
    let all: Vec<&String> = project.logstores.keys().filter(|name| name.contains(filter)).collect();
    let (total, logstores) = (all.len(), Page::of(call)?.slice(all));
    Ok(Reply::json(&json!({ "count": logstores.len(), "total": total, "logstores": logstores })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    reason: String,
}

/// Places a legal hold on a logstore.
pub(crate) async fn hold_logstore(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
) -> Result<Reply, ApiError> {
    let HoldBody { reason } = body(call, ErrorCode::PostBodyInvalid)?;
    if reason.trim().is_empty() {
        let message = "reason is empty: say who needs the logs, and why";
        return Err(ApiError::new(ErrorCode::PostBodyInvalid, message));
    }
    let Logstore { project, name, .. } = logstore;
    service.store.hold_logstore(project, name, &reason).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Releases the legal hold of a logstore.
pub(crate) async fn release_logstore(service: &Service, logstore: &Logstore) -> Result<Reply, ApiError> {
    service.store.release_logstore(&logstore.project, &logstore.name).await.map_err(store_error)?;
    Ok(Reply::empty())
}

fn show_shard(shard: &Shard) -> Value {
    json!({
        "shardID": shard.number,
        "status": if shard.writable { "readwrite" } else { "readonly" },
        "inclusiveBeginKey": shard.keys.begin.to_string(),
        "exclusiveEndKey": shard.keys.end.to_string(),
        "createTime": shard.created,
        // An extension of logship: cursors are not consecutive where a store was restored.
        "logGroups": shard.groups_between(shard.begin(), shard.end()),
    })
}

pub(crate) fn list_shards(logstore: &Logstore) -> Reply {
    Reply::json(&logstore.shards.iter().map(|shard| show_shard(shard)).collect())
}

/// Finds a shard by its number.
pub(crate) fn find_shard<'a>(logstore: &'a Logstore, number: &str) -> Result<&'a Arc<Shard>, ApiError> {
    let number = number.parse().map_err(|_| {
        ApiError::new(ErrorCode::ParameterInvalid, format!("shard {number:?} is not a number"))
    })?;
    logstore.shard(number).map_err(store_error)
}

/// Splits or merges a shard. Returns the affected shards.
pub(crate) async fn reshard(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
    shard: &str,
) -> Result<Reply, ApiError> {
    let Logstore { project, name, .. } = logstore;
    let shard = find_shard(logstore, shard)?.number;
    let resharding = match call.required("action")? {
        "split" => {
            let key = call.query.get("key").filter(|key| !key.is_empty());
            Resharding::Split { at: key.map(str::parse).transpose()? }
        }
        "merge" => Resharding::Merge,
        other => {
            let message = format!("action={other} is unknown: use split or merge");
            return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
        }
    };
    let numbers = service.store.reshard(project, name, shard, resharding).await.map_err(store_error)?;
    let catalog = service.store.catalog();
    let logstore = catalog.logstore(project, name).map_err(store_error)?;
    let shown =
        numbers.iter().filter_map(|&number| logstore.shard(number).ok()).map(|shard| show_shard(shard));
    Ok(Reply::json(&shown.collect()))
}

/// Returns true if the name has 3 to 63 characters: lowercase letters and digits, and within also those of `extra`.
pub(crate) fn is_name(name: &str, extra: &str) -> bool {
    let is_alphanumeric = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|letter| is_alphanumeric(letter) || extra.contains(letter))
        && name.starts_with(is_alphanumeric)
        && name.ends_with(is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn checks_names() {
        for name in ["abc", "a-b", "a--0", &"x".repeat(63)] {
            assert!(is_name(name, "-"), "{name}");
        }
        for name in ["", "ab", "-ab", "ab-", "a_b", "Abc", "a.b", "äbc", &"x".repeat(64)] {
            assert!(!is_name(name, "-"), "{name}");
        }
        assert!(is_name("a_b", "-_"));
    }
}

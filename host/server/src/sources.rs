//! Data sources: the connections that jobs and rules of a project name.

use std::sync::Arc;

use logship_config::data_source::{self, Connection, DataSource};
use logship_config::error::SourceError;
use logship_config::maxcompute_rule::ODPS;
use logship_config::table_store_rule::OTS;
use logship_delivery::rows::source_check::{self, Check, Outcome, Owner, Target};
use logship_delivery::rows::sources;
use logship_logstore::{Project, StoredSource};
use logship_sls::error::{ApiError, ErrorCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::manage::{Page, body};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};

/// The targets of rules that name data sources.
const TARGETS: [&str; 2] = [ODPS, OTS];

/// The members of a connection that are addresses. With another one, a masked secret is not restored: whoever may not
/// read the secret could send it elsewhere.
const ADDRESSES: [&str; 7] =
    ["type", "endpoint", "tunnel-endpoint", "sts-endpoint", "instance", "proxy", "ca"];

/// Lists the data sources of a project, and those of the settings that it may use.
pub(crate) fn list(service: &Service, call: &Call, project: &Arc<Project>) -> Result<Reply, ApiError> {
    let of_settings: Vec<&DataSource> = service.sources.of_settings(&project.name).collect();
    let is_overridden = |name: &str| of_settings.iter().any(|source| source.name == name);
    let own = project
        .sources
        .values()
        .filter(|stored| !is_overridden(&stored.name))
        .map(|stored| show_stored(stored));
    let mut all: Vec<Value> = of_settings.iter().map(|source| show_of_settings(source)).chain(own).collect();
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let (total, sources) = (all.len(), Page::of(call)?.slice(all));
    Ok(Reply::json(&json!({ "count": sources.len(), "total": total, "sources": sources })))
}

pub(crate) fn show(service: &Service, project: &Project, name: &str) -> Result<Reply, ApiError> {
    if let Some(source) = of_settings(service, project, name) {
        return Ok(Reply::json(&show_of_settings(source)));
    }
    Ok(Reply::json(&show_stored(project.source(name).map_err(store_error)?)))
}

pub(crate) async fn create(service: &Service, call: &Call, project: &Project) -> Result<Reply, ApiError> {
    let source = parse(body(call, ErrorCode::PostBodyInvalid)?)?;
    check(service, project, &source)?;
    service.store.create_source(&project.name, &source.name, content(&source)).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Updates a data source. Masked secrets keep their value.
pub(crate) async fn update(
    service: &Service,
    call: &Call,
    project: &Project,
    name: &str,
) -> Result<Reply, ApiError> {
    reject_of_settings(service, project, name)?;
    let stored = project.source(name).map_err(store_error)?;
    let mut sent: Value = body(call, ErrorCode::PostBodyInvalid)?;
    match sent.get("name").and_then(Value::as_str) {
        Some(other) if other != name => {
            return Err(invalid(&format!("name is {other:?}: a data source can't be renamed")));
        }
        _ => {}
    }
    let secrets = data_source::secrets();
    if secrets.first_masked(&sent).is_some() {
        if let Some(address) =
            ADDRESSES.iter().find(|address| sent.get(*address) != stored.content.get(*address))
        {
            return Err(invalid(&format!(
                "{address} changes, so the secrets must be sent again, not masked"
            )));
        }
        secrets.restore(&mut sent, &stored.content);
    }
    if let Some(sent) = sent.as_object_mut() {
        sent.insert("name".into(), name.into());
    }
    let source = parse(sent)?;
    check(service, project, &source)?;
    service.store.update_source(&project.name, name, content(&source)).await.map_err(store_error)?;
    // Rules may have waited for it.
    service.delivery.wake();
    Ok(Reply::empty())
}

pub(crate) async fn delete(
    service: &Arc<Service>,
    project: &Arc<Project>,
    name: &str,
) -> Result<Reply, ApiError> {
    reject_of_settings(service, project, name)?;
    project.source(name).map_err(store_error)?;
    let found = match rule_of(project, name) {
        Some(rule) => Some(rule),
        None => job_of(service, project, name).await?,
    };
    if let Some(user) = found {
        let message = format!(
            "data source {name} is in use by {user}: delete it first, or name another data source there"
        );
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    service.store.delete_source(&project.name, name).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Connects to the data source in the body, which is not stored.
pub(crate) async fn test_new(service: &Service, call: &Call, project: &Project) -> Result<Reply, ApiError> {
    let mut sent: Value = body(call, ErrorCode::PostBodyInvalid)?;
    if let Some(sent) = sent.as_object_mut() {
        sent.entry("name").or_insert_with(|| "new".into());
    }
    let source = parse(sent)?;
    check_connection(service, project, &source)?;
    test(service, call, project, &source, Owner::Project).await
}

/// Connects to a known data source.
pub(crate) async fn test_known(
    service: &Service,
    call: &Call,
    project: &Project,
    name: &str,
) -> Result<Reply, ApiError> {
    if let Some(source) = of_settings(service, project, name) {
        return test(service, call, project, source, Owner::Operator).await;
    }
    let stored = project.source(name).map_err(store_error)?;
    let unknown = || invalid(&format!("data source {name} is of a type that this version does not know"));
    let source = sources::restore(stored).ok_or_else(unknown)?;
    check_connection(service, project, &source)?;
    test(service, call, project, &source, Owner::Project).await
}

async fn test(
    service: &Service,
    call: &Call,
    project: &Project,
    source: &DataSource,
    owner: Owner,
) -> Result<Reply, ApiError> {
    let parameter = |name: &str| call.query.get(name).filter(|value| !value.is_empty());
    let (logstore, table) = (parameter("logstore"), parameter("table"));
    let target = Target { logstore, table, partition: parameter("partition") };
    let checks = if source.connection.is_remote() {
        let busy = |_| {
            ApiError::new(ErrorCode::ServerBusy, "other checks of data sources are running: try again soon")
        };
        let _permit = service.source_check_permits.try_acquire().map_err(busy)?;
        source_check::check_source(source, owner, target).await
    } else {
        vec![check_local(service, project, source, logstore)]
    };
    let is_fine = checks.iter().all(Check::is_fine);
    let shown: Vec<Value> = checks.iter().map(show_check).collect();
    Ok(Reply::json(&json!({ "ok": is_fine, "checks": shown })))
}

/// Checks that a project and a Logstore of this service exist.
fn check_local(service: &Service, project: &Project, source: &DataSource, logstore: Option<&str>) -> Check {
    let name = match &source.connection {
        Connection::LogHub(config) if !config.project.is_empty() => &config.project,
        _ => &project.name,
    };
    let catalog = service.store.catalog();
    let found = match logstore {
        Some(logstore) => catalog.logstore(name, logstore).map(drop),
        None => catalog.project(name).map(drop),
    };
    Check {
        attempt: format!(
            "find {name}{} in this service",
            logstore.map(|name| format!("/{name}")).unwrap_or_default()
        ),
        permission: "",
        required: true,
        outcome: found.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Passed),
    }
}

fn parse(value: Value) -> Result<DataSource, ApiError> {
    DataSource::parse(value).map_err(|error| source_error(&error))
}

/// Checks a data source of a project.
fn check(service: &Service, project: &Project, source: &DataSource) -> Result<(), ApiError> {
    reject_of_settings(service, project, &source.name)?;
    check_connection(service, project, source)
}

fn check_connection(service: &Service, project: &Project, source: &DataSource) -> Result<(), ApiError> {
    source.check().map_err(|error| source_error(&error))?;
    source.connection.check_own().map_err(|error| source_error(&error))?;
    if !service.sources.may_use(source) {
        return Err(invalid(
            "endpoint is not allowed: this service connects only to data sources of its settings (allow-own-destinations)",
        ));
    }
    match &source.connection {
        Connection::LogHub(config)
            if config.is_local() && !["", &project.name].contains(&config.project.as_str()) =>
        {
            Err(invalid(&format!(
                "project is {:?}: without an endpoint it is the project of the data source, {}",
                config.project, project.name
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the data source of the settings of this name, if the project may use it.
fn of_settings<'a>(service: &'a Service, project: &'a Project, name: &str) -> Option<&'a DataSource> {
    service.sources.of_settings(&project.name).find(|source| source.name == name)
}

fn reject_of_settings(service: &Service, project: &Project, name: &str) -> Result<(), ApiError> {
    match of_settings(service, project, name) {
        Some(_) => {
            Err(invalid(&format!("data source {name} is one of the service's settings: choose another name")))
        }
        None => Ok(()),
    }
}

/// Returns the first job that names a data source.
async fn job_of(service: &Arc<Service>, project: &Project, name: &str) -> Result<Option<String>, ApiError> {
    let (service, project, name) = (Arc::clone(service), project.name.clone(), name.to_owned());
    blocking(move || {
        let jobs = service.store.jobs(Some(&project)).map_err(store_error)?;
        let found = jobs.iter().find(|job| names(&job.configuration, &name));
        Ok(found.map(|job| format!("job {}", job.name)))
    })
    .await
}

/// Returns the first rule that names a data source.
fn rule_of(project: &Project, name: &str) -> Option<String> {
    let logstores = project.logstores.values();
    let mut rules = logstores.flat_map(|logstore| logstore.rules.values().map(move |rule| (logstore, rule)));
    let found =
        rules.find(|(_, rule)| TARGETS.contains(&rule.target.as_str()) && names(&rule.configuration, name));
    found.map(|(logstore, rule)| format!("rule {} of Logstore {}", rule.name, logstore.name))
}

/// Returns true if a configuration has a member `source` or `datasource` of this value.
fn names(configuration: &Value, name: &str) -> bool {
    match configuration {
        Value::Object(members) => {
            let is_named = |member: &str| members.get(member).is_some_and(|source| source == name);
            is_named("source") || is_named("datasource") || members.values().any(|value| names(value, name))
        }
        Value::Array(values) => values.iter().any(|value| names(value, name)),
        _ => false,
    }
}

/// Returns what the store keeps of a data source.
fn content(source: &DataSource) -> Value {
    let mut content = source.to_json();
    content.as_object_mut().map(|members| members.remove("name"));
    content
}

fn show_stored(stored: &StoredSource) -> Value {
    let mut shown = stored.content.clone();
    data_source::secrets().mask(&mut shown);
    shown["name"] = stored.name.as_str().into();
    shown["origin"] = "project".into();
    shown["createTime"] = stored.created.into();
    shown["lastModifyTime"] = stored.modified.into();
    shown
}

/// Shows a data source of the settings. Its connection is the operator's.
fn show_of_settings(source: &DataSource) -> Value {
    let DataSource { name, description, connection } = source;
    json!({ "name": name, "description": description, "type": connection.kind(), "origin": "settings" })
}

fn show_check(check: &Check) -> Value {
    let (result, message) = match &check.outcome {
        Outcome::Passed => ("passed", ""),
        Outcome::Denied(message) => ("denied", message.as_str()),
        Outcome::Failed(message) => ("failed", message.as_str()),
        Outcome::Skipped => ("skipped", ""),
    };
    json!({
        "attempt": check.attempt,
        "permission": check.permission,
        "required": check.required,
        "result": result,
        "message": message,
    })
}

fn source_error(error: &SourceError) -> ApiError {
    invalid(&error.to_string())
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::PostBodyInvalid, message)
}

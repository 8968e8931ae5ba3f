//! The stage catalog. Requests need a key for all projects, because rules of all projects share the names.

use std::sync::Arc;

use logship_logstore::{StageAlias, StageEvent, StageVersion};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::manage::body;
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
use logship_registry::Registry;
use logship_registry::catalog::{BUILT_IN, CatalogError, RuleCheck, StageUpdate};

/// The most events that are shown of a name.
const MAX_EVENTS: usize = 100;

/// The longest source of a component, in bytes.
const MAX_SOURCE_BYTES: usize = 500;

pub(crate) async fn list(service: &Arc<Service>) -> Result<Reply, ApiError> {
    let service = Arc::clone(service);
    blocking(move || {
        let (catalog, checks) = (service.store.catalog(), service.stage_catalog.rule_checks());
        let mut names: Vec<&str> = Registry::built_in().collect();
        names.extend(catalog.stages().aliases.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        let show = |name: &str| show_stage(&service, name, catalog.stages().aliases.get(name), &checks);
        let stages = names.into_iter().map(show).collect::<Result<Vec<Value>, ApiError>>()?;
        let rejected = service.folder_watcher.rejected_files().into_iter();
        let broken: Vec<Value> =
            rejected.map(|rejected| json!({ "file": rejected.file, "problem": rejected.problem })).collect();
        Ok(Reply::json(&json!({ "stages": stages, "broken": broken })))
    })
    .await
}

pub(crate) async fn show(service: &Arc<Service>, name: &str) -> Result<Reply, ApiError> {
    let (service, name) = (Arc::clone(service), name.to_owned());
    blocking(move || {
        let catalog = service.store.catalog();
        let known = catalog.stages().aliases.get(&name);
        if known.is_none() && Registry::built_in_digest(&name).is_none() {
            return Err(catalog_error(CatalogError::Unknown(name)));
        }
        let checks = service.stage_catalog.rule_checks();
        let mut shown = show_stage(&service, &name, known, &checks)?;
        let versions = known.into_iter().flat_map(|known| &known.versions);
        shown["all"] = versions.map(show_version).collect();
        let events = service.store.stage_events(&name, MAX_EVENTS).map_err(store_error)?;
        shown["events"] = events.iter().map(show_event).collect();
        shown["rules"] = using(&name, &checks).map(show_rule).collect();
        shown["use"] = show_use(&service, &name);
        Ok(Reply::json(&shown))
    })
    .await
}

/// Shows a name with its current version.
fn show_stage(
    service: &Service,
    name: &str,
    known: Option<&StageAlias>,
    checks: &[RuleCheck],
) -> Result<Value, ApiError> {
    let invalid = |error: logship_runtime::stage::StageError| {
        ApiError::new(ErrorCode::ParameterInvalid, error.to_string())
    };
    let found = service.stage_catalog.registry().stage(None, name).map_err(invalid);
    let (kind, version, digest) = match (&found, known) {
        (Ok(stage), _) => {
            let identity = stage.identity();
            (stage.kind().to_string(), identity.version().to_owned(), Some(identity.digest().to_owned()))
        }
        // Show the name even if its component is damaged or missing.
        (Err(_), Some(known)) => (known.kind.clone(), String::new(), known.digest().map(str::to_owned)),
        (Err(error), None) => return Err(error.clone()),
    };
    let current = known.and_then(|known| known.version(known.digest()?));
    Ok(json!({
        "name": name,
        "kind": kind,
        "version": current.map_or(version, |current| current.version.clone()),
        "digest": digest,
        "builtIn": current.is_none(),
        "source": current.map(|current| &current.source),
        "pinned": known.is_some_and(|known| known.pinned),
        "versions": known.map_or(0, |known| known.versions.len()),
        "rules": using(name, checks).map(|check| check.rule_ref.to_string()).collect::<Vec<_>>(),
        "problem": found.err().map(|error| error.message),
    }))
}

/// Shows the metrics of a name's current component since the service started.
fn show_use(service: &Service, name: &str) -> Value {
    let registry = service.stage_catalog.registry();
    let Ok(stage) = registry.stage(None, name) else { return Value::Null };
    let metrics = registry.engine().stage_metrics_snapshot(stage.identity().digest(), stage.kind());
    let Some(metrics) = metrics else { return Value::Null };
    let failures = metrics.failures().map(|(cause, count)| (cause.as_str().to_owned(), count.into()));
    json!({
        "calls": metrics.calls,
        "seconds": metrics.seconds,
        "bytesIn": metrics.bytes_in,
        "bytesOut": metrics.bytes_out,
        "memory": metrics.memory,
        "failures": Value::Object(failures.collect()),
    })
}

/// The rules that use a name.
fn using<'a>(name: &'a str, checks: &'a [RuleCheck]) -> impl Iterator<Item = &'a RuleCheck> {
    checks.iter().filter(move |check| check.names.contains(name))
}

fn show_rule(check: &RuleCheck) -> Value {
    json!({
        "shipperName": check.rule_ref.rule.name,
        "project": check.rule_ref.project,
        "logstore": check.rule_ref.logstore,
        "problem": check.problem,
    })
}

fn show_version(version: &StageVersion) -> Value {
    json!({
        "version": version.version,
        "digest": version.digest,
        "bytes": version.size,
        "source": version.source,
        "by": version.by,
        "added": seconds(version.added),
    })
}

fn show_event(event: &StageEvent) -> Value {
    json!({
        "action": event.action,
        "version": if event.digest.is_none() { BUILT_IN } else { &event.version },
        "digest": event.digest,
        "at": seconds(event.at),
        "by": event.by,
    })
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Adds the component in the body to the catalog.
pub(crate) async fn add(service: &Arc<Service>, call: &Call) -> Result<Reply, ApiError> {
    let name = call.query.get("name").filter(|name| !name.is_empty()).map(str::to_owned);
    let source = call.query.get("source").unwrap_or_default().to_owned();
    if source.len() > MAX_SOURCE_BYTES || source.contains(char::is_control) {
        let message = format!("source must be text of at most {MAX_SOURCE_BYTES} bytes");
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    let swap = match call.query.get("swap") {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::new(ErrorCode::ParameterInvalid, "swap must be true or false")),
    };
    let (service, bytes, by) = (Arc::clone(service), call.body.clone(), by(call));
    blocking(move || {
        let update =
            service.stage_catalog.add(name.as_deref(), &bytes, &source, &by, swap).map_err(catalog_error)?;
        Ok(Reply::json(&show_update(&update)))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    /// The stage that the name will point to.
    to: Option<String>,
}

/// Swaps, rolls back, pins or unpins a name.
pub(crate) async fn change(service: &Arc<Service>, call: &Call, name: &str) -> Result<Reply, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::ParameterInvalid, message);
    let action = call.required("action")?.to_owned();
    let to = match call.body.is_empty() {
        true => None,
        false => body::<ChangeBody>(call, ErrorCode::PostBodyInvalid)?.to,
    };
    let (service, name, by) = (Arc::clone(service), name.to_owned(), by(call));
    blocking(move || {
        let catalog = &service.stage_catalog;
        let update = match (action.as_str(), to) {
            ("swap", Some(to)) => catalog.swap(&name, &to, false, &by),
            ("pin", Some(to)) => catalog.swap(&name, &to, true, &by),
            ("rollback", None) => catalog.rollback(&name, &by),
            ("pin", None) => catalog.pin(&name, true, &by),
            ("unpin", None) => catalog.pin(&name, false, &by),
            ("swap", None) => {
                return Err(invalid("the body must name the new stage: {\"to\": …}".into()));
            }
            ("rollback" | "unpin", Some(_)) => {
                return Err(invalid(format!("action={action} takes no body")));
            }
            _ => {
                return Err(invalid(format!("action={action} is unknown: use swap, rollback, pin or unpin")));
            }
        };
        Ok(Reply::json(&show_update(&update.map_err(catalog_error)?)))
    })
    .await
}

pub(crate) async fn remove(service: &Arc<Service>, call: &Call, name: &str) -> Result<Reply, ApiError> {
    let version = call.query.get("version").filter(|version| !version.is_empty()).map(str::to_owned);
    let (service, name, by) = (Arc::clone(service), name.to_owned(), by(call));
    blocking(move || {
        service.stage_catalog.remove(&name, version.as_deref(), &by).map_err(catalog_error)?;
        service.delivery.collect_garbage();
        Ok(Reply::empty())
    })
    .await
}

fn show_update(update: &StageUpdate) -> Value {
    json!({
        "name": update.name,
        "version": update.version,
        "added": update.added,
        "rules": update.rules,
    })
}

fn by(call: &Call) -> String {
    format!("key {}", call.key.id)
}

fn catalog_error(error: CatalogError) -> ApiError {
    match error {
        CatalogError::Store(error) => store_error(error),
        error => ApiError::new(ErrorCode::ParameterInvalid, error.to_string()),
    }
}

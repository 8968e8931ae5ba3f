//! Stages: which there are, and what their names stand for. For who manages every project: rules of all of them use
//! the same names.

use std::sync::Arc;

use logship_logstore::{StageEvent, StageName, StageVersion};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::manage::body;
use super::reply::{Reply, refuse};
use super::{Service, blocking};
use crate::registry::Registry;
use crate::registry::book::{BUILT_IN, BookError, Changed, Trial};

/// Things done that are shown of a name.
const SHOWN: usize = 100;

/// Bytes of what is said of where a component is from.
const LONGEST_SOURCE: usize = 500;

/// Whether it is a digest, which `GET /stages/DIGEST` of a project fetches, and no name: these are shorter.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(crate) async fn list(service: &Arc<Service>) -> Result<Reply, ApiError> {
    let service = Arc::clone(service);
    blocking(move || {
        let (catalog, trials) = (service.store.catalog(), service.book.trials());
        let mut names: Vec<&str> = Registry::built_in().collect();
        names.extend(catalog.stages().names.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        let shown = |name: &str| whole(&service, name, catalog.stages().names.get(name), &trials);
        let stages = names.into_iter().map(shown).collect::<Result<Vec<Value>, ApiError>>()?;
        let broken = service.folder.broken().into_iter();
        let broken: Vec<Value> =
            broken.map(|broken| json!({ "file": broken.file, "problem": broken.problem })).collect();
        Ok(Reply::json(&json!({ "stages": stages, "broken": broken })))
    })
    .await
}

pub(crate) async fn show(service: &Arc<Service>, name: &str) -> Result<Reply, ApiError> {
    let (service, name) = (Arc::clone(service), name.to_owned());
    blocking(move || {
        let catalog = service.store.catalog();
        let known = catalog.stages().names.get(&name);
        if known.is_none() && Registry::built_in_digest(&name).is_none() {
            return Err(refused(BookError::Unknown(name)));
        }
        let trials = service.book.trials();
        let mut shown = whole(&service, &name, known, &trials)?;
        let versions = known.into_iter().flat_map(|known| &known.versions);
        shown["all"] = versions.map(show_version).collect();
        let events = service.store.stage_events(&name, SHOWN).map_err(refuse)?;
        shown["events"] = events.iter().map(show_event).collect();
        shown["rules"] = using(&name, &trials).map(show_user).collect();
        shown["use"] = show_use(&service, &name);
        Ok(Reply::json(&shown))
    })
    .await
}

/// What is known of a name.
fn whole(
    service: &Service,
    name: &str,
    known: Option<&StageName>,
    trials: &[Trial],
) -> Result<Value, ApiError> {
    let invalid =
        |error: crate::stage::StageError| ApiError::new(ErrorCode::ParameterInvalid, error.to_string());
    let found = service.book.registry().stage(None, name).map_err(invalid);
    let (kind, version, digest) = match (&found, known) {
        (Ok(stage), _) => {
            let identity = stage.identity();
            (stage.kind().to_string(), identity.version().to_owned(), Some(identity.digest().to_owned()))
        }
        // Its component is damaged, or gone: it is shown all the same.
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
        "rules": using(name, trials).map(|trial| trial.user.to_string()).collect::<Vec<_>>(),
        "problem": found.err().map(|error| error.message),
    }))
}

/// What the component that a name stands for did since the service began.
fn show_use(service: &Service, name: &str) -> Value {
    let registry = service.book.registry();
    let Ok(stage) = registry.stage(None, name) else { return Value::Null };
    let tallied = registry.engine().tallied(stage.identity().digest(), stage.kind());
    let Some(tallied) = tallied else { return Value::Null };
    let failures = tallied.failures().map(|(cause, count)| (cause.as_str().to_owned(), count.into()));
    json!({
        "calls": tallied.calls,
        "seconds": tallied.seconds,
        "bytesIn": tallied.bytes_in,
        "bytesOut": tallied.bytes_out,
        "memory": tallied.memory,
        "failures": Value::Object(failures.collect()),
    })
}

/// The rules that use a name.
fn using<'a>(name: &'a str, trials: &'a [Trial]) -> impl Iterator<Item = &'a Trial> {
    trials.iter().filter(move |trial| trial.names.contains(name))
}

fn show_user(trial: &Trial) -> Value {
    json!({
        "shipperName": trial.user.rule.name,
        "project": trial.user.project,
        "logstore": trial.user.logstore,
        "problem": trial.problem,
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

/// Adds the component in the body.
pub(crate) async fn add(service: &Arc<Service>, call: &Call) -> Result<Reply, ApiError> {
    let name = call.query.get("name").filter(|name| !name.is_empty()).map(str::to_owned);
    let source = call.query.get("source").unwrap_or_default().to_owned();
    if source.len() > LONGEST_SOURCE || source.contains(char::is_control) {
        let message = format!("source= is no text of {LONGEST_SOURCE} bytes at most");
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    let swap = match call.query.get("swap") {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::new(ErrorCode::ParameterInvalid, "swap= is true or false")),
    };
    let (service, bytes, by) = (Arc::clone(service), call.body.clone(), by(call));
    blocking(move || {
        let changed = service.book.add(name.as_deref(), &bytes, &source, &by, swap).map_err(refused)?;
        Ok(Reply::json(&show_change(&changed)))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    /// What the name is to stand for.
    to: Option<String>,
}

/// Changes what a name stands for, or whether that can be changed.
pub(crate) async fn change(service: &Arc<Service>, call: &Call, name: &str) -> Result<Reply, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::ParameterInvalid, message);
    let action = call.required("action")?.to_owned();
    let to = match call.body.is_empty() {
        true => None,
        false => body::<ChangeBody>(call, ErrorCode::PostBodyInvalid)?.to,
    };
    let (service, name, by) = (Arc::clone(service), name.to_owned(), by(call));
    blocking(move || {
        let book = &service.book;
        let changed = match (action.as_str(), to) {
            ("swap", Some(to)) => book.swap(&name, &to, false, &by),
            ("pin", Some(to)) => book.swap(&name, &to, true, &by),
            ("rollback", None) => book.rollback(&name, &by),
            ("pin", None) => book.pin(&name, true, &by),
            ("unpin", None) => book.pin(&name, false, &by),
            ("swap", None) => {
                return Err(invalid("the body has to say what it is to stand for: {\"to\": …}".into()));
            }
            ("rollback" | "unpin", Some(_)) => {
                return Err(invalid(format!("action={action} takes no body")));
            }
            _ => return Err(invalid(format!("action={action} is none of swap, rollback, pin and unpin"))),
        };
        Ok(Reply::json(&show_change(&changed.map_err(refused)?)))
    })
    .await
}

pub(crate) async fn remove(service: &Arc<Service>, call: &Call, name: &str) -> Result<Reply, ApiError> {
    let version = call.query.get("version").filter(|version| !version.is_empty()).map(str::to_owned);
    let (service, name, by) = (Arc::clone(service), name.to_owned(), by(call));
    blocking(move || {
        service.book.remove(&name, version.as_deref(), &by).map_err(refused)?;
        service.shipper.tidy_stages();
        Ok(Reply::empty())
    })
    .await
}

fn show_change(changed: &Changed) -> Value {
    json!({
        "name": changed.name,
        "version": changed.version,
        "added": changed.added,
        "rules": changed.users,
    })
}

fn by(call: &Call) -> String {
    format!("key {}", call.key.id)
}

fn refused(error: BookError) -> ApiError {
    match error {
        BookError::Store(error) => refuse(error),
        error => ApiError::new(ErrorCode::ParameterInvalid, error.to_string()),
    }
}

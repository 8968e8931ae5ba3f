//! Previews: the effect of another stage on a rule's output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logship_logstore::Logstore;
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::manage::body;
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
use logship_delivery::preview::{
    Candidate, Difference, MAX_TASKS, Made, Outcome, PreviewError, PreviewLimits, TaskComparison, TaskPreview,
};
use logship_runtime::stage::Stage;
use logship_runtime::wasi::WasiAllowlist;

/// The default number of tasks of a preview.
const DEFAULT_TASKS: usize = 20;

/// The default and largest time limit of a preview, in seconds. Clients wait 120 seconds for a reply.
const DEFAULT_SECONDS: u64 = 60;
const MAX_SECONDS: u64 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    /// The name of a stage.
    stage: String,
}

/// Previews a stage in a rule: the component in the body, or a stage by name. Only one preview runs at a time.
pub(crate) async fn run(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Arc<Logstore>,
    rule: &str,
) -> Result<Reply, ApiError> {
    let rule = logstore.rule(rule).map_err(store_error)?.clone();
    let last = within(call.number("last")?.unwrap_or(DEFAULT_TASKS), 1..=MAX_TASKS, "last", "tasks")?;
    let seconds =
        within(call.number("seconds")?.unwrap_or(DEFAULT_SECONDS), 1..=MAX_SECONDS, "seconds", "seconds")?;
    let transform = call.number("transform")?;
    let allows_wasi = match call.query.get("allowWasi") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("allowWasi must be true or false")),
    };
    let name = match call.header("content-type") {
        Some("application/json") => Some(body::<PreviewBody>(call, ErrorCode::PostBodyInvalid)?.stage),
        _ if call.body.is_empty() => {
            return Err(invalid("the body must be a component, or name one: {\"stage\": …}"));
        }
        _ => None,
    };
    let busy =
        |_| ApiError::new(ErrorCode::ServerBusy, "another preview is running: try again when it is done");
    let permit = Arc::clone(&service.preview_permit).try_acquire_owned().map_err(busy)?;
    let (service, logstore, component) = (Arc::clone(service), Arc::clone(logstore), call.body.clone());
    blocking(move || {
        let _permit = permit;
        let registry = service.stage_catalog.registry();
        let stage = match &name {
            Some(name) => registry.stage(None, name),
            None if allows_wasi => {
                registry.clone().with_wasi_allowlist(WasiAllowlist::All).compile("the component", &component)
            }
            None => registry.compile("the component", &component),
        };
        let stage = stage.map_err(|error| invalid(error.to_string()))?;
        let candidate = Candidate { stage, transform };
        let limits = PreviewLimits { last, until: Instant::now() + Duration::from_secs(seconds) };
        let previews = service.delivery.preview(&logstore, &rule, &candidate, limits);
        Ok(Reply::json(&show(&candidate.stage, &previews.map_err(preview_error)?)))
    })
    .await
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, message)
}

fn within<T>(value: T, range: std::ops::RangeInclusive<T>, name: &str, unit: &str) -> Result<T, ApiError>
where
    T: PartialOrd + std::fmt::Display,
{
    match range.contains(&value) {
        true => Ok(value),
        false => {
            let (min, max) = (range.start(), range.end());
            Err(invalid(format!("{name}={value} is out of range: use {min} to {max} {unit}")))
        }
    }
}

fn preview_error(error: PreviewError) -> ApiError {
    match error {
        PreviewError::Store(error) => store_error(error),
        PreviewError::Spool { .. } => ApiError::new(ErrorCode::InternalServerError, error.to_string()),
        error => invalid(error.to_string()),
    }
}

fn show(stage: &Stage, previews: &[TaskPreview]) -> Value {
    let identity = stage.identity();
    json!({
        "stage": {
            "name": identity.name(),
            "version": identity.version(),
            "digest": identity.digest(),
            "kind": stage.kind().to_string(),
        },
        "tasks": previews.iter().map(show_task).collect::<Vec<_>>(),
    })
}

fn show_task(preview: &TaskPreview) -> Value {
    let shown = json!({
        "id": preview.task.to_string(),
        "shard": preview.shard,
        "verdict": preview.verdict().as_str(),
    });
    let more = match &preview.result {
        Err(reason) => json!({ "problem": reason.to_string() }),
        Ok(TaskComparison { old, new, difference, reproduced }) => json!({
            "old": show_outcome(old),
            "new": show_outcome(new),
            "difference": difference.as_ref().map(show_difference),
            "reproduced": reproduced,
        }),
    };
    let fields = |value: Value| if let Value::Object(fields) = value { fields } else { Default::default() };
    Value::from_iter(fields(shown).into_iter().chain(fields(more)))
}

fn show_outcome(outcome: &Result<Outcome, String>) -> Value {
    let Outcome { object, made, seconds } = match outcome {
        Ok(outcome) => outcome,
        Err(problem) => return json!({ "problem": problem }),
    };
    let made = made.as_ref().map(|made| {
        let Made { logs, rows, filtered, rejected, raw_bytes, stored_bytes, sha256 } = made;
        json!({
            "logs": logs,
            "rows": rows,
            "leftOut": filtered,
            "refused": rejected,
            "rawBytes": raw_bytes,
            "storedBytes": stored_bytes,
            "sha256": sha256,
        })
    });
    json!({ "object": object, "made": made, "seconds": seconds })
}

fn show_difference(difference: &Difference) -> Value {
    let Difference { line, old, new } = difference;
    json!({ "line": line, "old": old, "new": new })
}

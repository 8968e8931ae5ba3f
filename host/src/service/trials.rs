//! Trials: what would change if a stage took the place of another in a rule.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logship_logstore::Logstore;
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::manage::body;
use super::reply::{Reply, refuse};
use super::{Service, blocking};
use crate::siem::rule::SIEM;
use crate::stage::Stage;
use crate::trial::{Candidate, Compared, Difference, Extent, MOST_TASKS, Made, Outcome, TrialError, Tried};
use crate::wasi::Allowance;

/// Tasks of a trial, where it is not said.
const TASKS: usize = 20;

/// Seconds of a trial: where it is not said, and at most. A client waits 120 for an answer.
const SECONDS: u64 = 60;
const MOST_SECONDS: u64 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialBody {
    /// The name of a stage.
    stage: String,
}

/// Tries a stage in a rule: the component in the body, or one by its name. One trial at a time.
pub(crate) async fn run(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Arc<Logstore>,
    rule: &str,
) -> Result<Reply, ApiError> {
    let rule = logstore.rule(rule).map_err(refuse)?.clone();
    let last = within(call.number("last")?.unwrap_or(TASKS), 1..=MOST_TASKS, "last", "tasks")?;
    let seconds = within(call.number("seconds")?.unwrap_or(SECONDS), 1..=MOST_SECONDS, "seconds", "seconds")?;
    let transform = call.number("transform")?;
    let allows_wasi = match call.query.get("allowWasi") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("allowWasi= is true or false")),
    };
    let name = match call.header("content-type") {
        Some("application/json") => Some(body::<TrialBody>(call, ErrorCode::PostBodyInvalid)?.stage),
        _ if call.body.is_empty() => {
            return Err(invalid("the body has to be a component, or say the name of one: {\"stage\": …}"));
        }
        _ => None,
    };
    let busy =
        |_| ApiError::new(ErrorCode::ServerBusy, "another trial is running: come again when it is done");
    let permit = Arc::clone(&service.trials).try_acquire_owned().map_err(busy)?;
    let (service, logstore, component) = (Arc::clone(service), Arc::clone(logstore), call.body.clone());
    blocking(move || {
        let _permit = permit;
        let registry = service.book.registry();
        let stage = match &name {
            Some(name) => registry.stage(None, name),
            None if allows_wasi => {
                registry.clone().allowing(Allowance::Everybody).examine("the component", &component)
            }
            None => registry.examine("the component", &component),
        };
        let stage = stage.map_err(|error| invalid(error.to_string()))?;
        let candidate = Candidate { stage, transform };
        let extent = Extent { last, until: Instant::now() + Duration::from_secs(seconds) };
        let tried = match rule.target == SIEM {
            true => service.siem.try_stage(&logstore, &rule, &candidate, extent),
            false => service.shipper.try_stage(&logstore, &rule, &candidate, extent),
        };
        Ok(Reply::json(&show(&candidate.stage, &tried.map_err(refused)?)))
    })
    .await
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, message)
}

fn within<T>(value: T, range: std::ops::RangeInclusive<T>, name: &str, of: &str) -> Result<T, ApiError>
where
    T: PartialOrd + std::fmt::Display,
{
    match range.contains(&value) {
        true => Ok(value),
        false => {
            let (least, most) = (range.start(), range.end());
            Err(invalid(format!("{name}={value} is not from {least} to {most} {of}")))
        }
    }
}

fn refused(error: TrialError) -> ApiError {
    match error {
        TrialError::Store(error) => refuse(error),
        TrialError::Spool { .. } => ApiError::new(ErrorCode::InternalServerError, error.to_string()),
        error => invalid(error.to_string()),
    }
}

fn show(stage: &Stage, tried: &[Tried]) -> Value {
    let identity = stage.identity();
    json!({
        "stage": {
            "name": identity.name(),
            "version": identity.version(),
            "digest": identity.digest(),
            "kind": stage.kind().to_string(),
        },
        "tasks": tried.iter().map(show_task).collect::<Vec<_>>(),
    })
}

fn show_task(tried: &Tried) -> Value {
    let shown = json!({
        "id": tried.task.to_string(),
        "shard": tried.shard,
        "verdict": tried.verdict().as_str(),
    });
    let more = match &tried.result {
        Err(untried) => json!({ "problem": untried.to_string() }),
        Ok(Compared { old, new, difference, reproduced }) => json!({
            "old": show_outcome(old),
            "new": show_outcome(new),
            "difference": difference.as_ref().map(show_difference),
            "reproduced": reproduced,
        }),
    };
    let members =
        |value: Value| if let Value::Object(members) = value { members } else { Default::default() };
    Value::from_iter(members(shown).into_iter().chain(members(more)))
}

fn show_outcome(outcome: &Result<Outcome, String>) -> Value {
    let Outcome { object, made, seconds } = match outcome {
        Ok(outcome) => outcome,
        Err(problem) => return json!({ "problem": problem }),
    };
    let made = made.as_ref().map(|made| {
        let Made { logs, rows, left_out, refused, raw_bytes, stored_bytes, sha256 } = made;
        json!({
            "logs": logs,
            "rows": rows,
            "leftOut": left_out,
            "refused": refused,
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

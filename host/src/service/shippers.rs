//! Shipping rules: made, changed and shown as Log Service's clients do.

use std::sync::Arc;

use logship_logstore::{Logstore, RuleSettings, RuleStart, ShippingRule, StoreError};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::manage::{Page, body};
use super::reply::{Reply, refuse};
use super::{Service, blocking};
use crate::pipeline::PipelineError;
use crate::rule::{Rule, RuleError, Start};
use crate::shipping::PlanError;
use crate::siem::rule::{SIEM, SiemRule};
use crate::siem::rules::RulesError;
use crate::target;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShipperBody {
    #[serde(default)]
    shipper_name: String,
    target_type: String,
    target_configuration: Value,
}

pub(crate) fn list(logstore: &Logstore, call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<&String> = logstore.rules.keys().collect();
    let (total, names) = (all.len(), Page::of(call)?.cut(all));
    Ok(Reply::json(&json!({ "count": names.len(), "total": total, "shipper": names })))
}

pub(crate) async fn create(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
) -> Result<Reply, ApiError> {
    let body: ShipperBody = body(call, ErrorCode::PostBodyInvalid)?;
    let name = body.shipper_name.clone();
    if logstore.rules.contains_key(&name) {
        return Err(refuse(StoreError::RuleExists(name)));
    }
    let checked = check(service, call, logstore, &name, &body).await?;
    let from = match checked.from {
        Start::Now => RuleStart::Now,
        Start::Begin => RuleStart::Begin,
    };
    let settings = RuleSettings { target: body.target_type, configuration: body.target_configuration };
    service.store.create_rule(logstore, &name, settings, from).await.map_err(refuse)?;
    service.shipper.hurry();
    Ok(reply(checked.warning))
}

pub(crate) async fn update(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    name: &str,
) -> Result<Reply, ApiError> {
    let before = logstore.rule(name).map_err(refuse)?;
    let mut body: ShipperBody = body(call, ErrorCode::PostBodyInvalid)?;
    target::keep_secrets(&mut body.target_configuration, &before.configuration);
    // What is wrong with it must not keep a rule from being switched off.
    let warning = if is_switch(&before.configuration, &body.target_configuration) {
        None
    } else {
        check(service, call, logstore, name, &body).await?.warning
    };
    let settings = RuleSettings { target: body.target_type, configuration: body.target_configuration };
    service.store.update_rule(logstore, name, settings).await.map_err(refuse)?;
    service.shipper.hurry();
    Ok(reply(warning))
}

/// Whether nothing differs but whether it is enabled.
fn is_switch(before: &Value, after: &Value) -> bool {
    let without = |configuration: &Value| {
        let mut configuration = configuration.clone();
        if let Some(members) = configuration.as_object_mut() {
            members.remove("enable");
        }
        configuration
    };
    without(before) == without(after)
}

pub(crate) async fn show(service: &Arc<Service>, logstore: &Logstore, name: &str) -> Result<Reply, ApiError> {
    let rule = logstore.rule(name).map_err(refuse)?.clone();
    let shards: Vec<_> = logstore.shards.clone();
    let service = Arc::clone(service);
    blocking(move || {
        let progress = service.store.progress(&rule).map_err(refuse)?;
        let shards: Vec<Value> = shards
            .iter()
            .map(|shard| {
                let checkpoint = progress.get(&shard.number).map(|progress| progress.checkpoint);
                let next = progress.get(&shard.number).map(|progress| progress.next);
                let shown = checkpoint.map_or_else(|| shard.begin().to_string(), |place| place.to_string());
                let behind = shard.end().saturating_sub(next.map_or(shard.begin(), |next| next.cursor));
                json!({ "shardID": shard.number, "checkpoint": shown, "waitingGroups": behind })
            })
            .collect();
        Ok(Reply::json(&json!({
            "shipperName": rule.name,
            "targetType": rule.target,
            "targetConfiguration": target::hide_secrets(&rule.configuration),
            "createTime": rule.created,
            "lastModifyTime": rule.modified,
            "problem": service.why_held(rule.number()),
            "shards": shards,
        })))
    })
    .await
}

/// The component of a digest: who replays a task needs what made it.
pub(crate) async fn stage(service: &Arc<Service>, digest: &str) -> Result<Reply, ApiError> {
    let (service, digest) = (Arc::clone(service), digest.to_owned());
    blocking(move || {
        let bytes = service.shipper.registry().bytes(&digest);
        let bytes = bytes.map_err(|error| ApiError::new(ErrorCode::ParameterInvalid, error.to_string()))?;
        Ok(Reply { content_type: Some("application/wasm"), body: bytes.into(), ..Reply::default() })
    })
    .await
}

/// What a check found.
struct Checked {
    /// Where a new rule begins.
    from: Start,
    /// What keeps it from shipping now.
    warning: Option<Warning>,
}

struct Warning {
    code: &'static str,
    message: String,
}

/// Checks a rule, and tries its destination. A destination that does not take objects is told of, and refused with
/// `probe=required` only: clients of Log Service make rules before buckets and roles are what they have to be.
async fn check(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    name: &str,
    body: &ShipperBody,
) -> Result<Checked, ApiError> {
    let (service, project) = (Arc::clone(service), logstore.project.clone());
    let (logstore, name) = (logstore.name.clone(), name.to_owned());
    let (kind, configuration) = (body.target_type.clone(), body.target_configuration.clone());
    let probe = call.query.get("probe").map(str::to_owned);
    let is_required = probe.as_deref() == Some("required");
    blocking(move || {
        // A component that was put there just now can be named at once.
        service.folder.look(true);
        if kind == SIEM {
            let rule = SiemRule::of(&name, &configuration).map_err(|error| wrong(&error))?;
            service.siem.check(&rule).map_err(|error| match error {
                RulesError::Rule(error) => wrong(&error),
                other => ApiError::new(ErrorCode::PostBodyInvalid, other.to_string()),
            })?;
            return Ok(Checked { from: rule.from, warning: None });
        }
        if kind != target::OSS {
            Rule { name, ..Rule::default() }.check().map_err(|error| wrong(&error))?;
            let message = PlanError::Target(kind).to_string();
            return Ok(Checked {
                from: Start::Begin,
                warning: Some(Warning { code: "Unsupported", message }),
            });
        }
        let rule = target::rule(&name, &configuration).map_err(|error| wrong(&error))?;
        service.shipper.check(&project, &logstore, &rule).map_err(|error| match &error {
            PlanError::Pipeline(PipelineError::Rule(error)) => wrong(error),
            // The stage has its own names for what clients set.
            PlanError::Pipeline(PipelineError::Stage(error)) => {
                let member =
                    if error.to_string().contains("partition-format") { "pathFormat" } else { "storage" };
                ApiError::new(ErrorCode::PostBodyInvalid, format!("{member}: {error}"))
            }
            PlanError::Pipeline(PipelineError::Transform(error)) => {
                ApiError::new(ErrorCode::PostBodyInvalid, format!("logship.{error}"))
            }
            other => ApiError::new(ErrorCode::ParameterInvalid, other.to_string()),
        })?;
        if probe.as_deref() == Some("none") {
            return Ok(Checked { from: rule.from, warning: None });
        }
        let Err(error) = service.shipper.probe(&rule) else {
            return Ok(Checked { from: rule.from, warning: None });
        };
        let code = match &error {
            PlanError::Destination(error) => error.code(),
            _ => "InternalServerError",
        };
        let message = format!("the destination takes no objects: {code}: {error}");
        if is_required {
            return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
        }
        tracing::warn!(rule = rule.name, message);
        Ok(Checked { from: rule.from, warning: Some(Warning { code, message }) })
    })
    .await
}

fn reply(warning: Option<Warning>) -> Reply {
    match warning {
        None => Reply::empty(),
        Some(Warning { code, message }) => {
            Reply::json(&json!({ "warning": { "code": code, "message": message } }))
        }
    }
}

/// What is wrong with a rule, by the names that clients know.
fn wrong(error: &RuleError) -> ApiError {
    let message = match error {
        RuleError::Field { field: "name", problem } => format!("invalid shipper name format: {problem}"),
        RuleError::Field { field, problem } => format!("{}: {problem}", target::member(field)),
        RuleError::File { problem, .. } => problem.clone(),
    };
    ApiError::new(ErrorCode::PostBodyInvalid, message)
}

/// The rule of a task as it is now, if there still is one.
pub(crate) fn rule_now(rule: Option<&ShippingRule>) -> Option<Rule> {
    let rule = rule?;
    target::rule(&rule.name, &rule.configuration).ok()
}

//! Shipping rules, in the API of Log Service (shippers).

use std::sync::Arc;

use logship_logstore::{Logstore, RuleSettings, RuleStart, StoreError};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::manage::{Page, body};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
use logship_config::maxcompute_rule::{MaxComputeRule, ODPS};
use logship_config::rule::{Rule, RuleError, Start};
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_config::table_store_rule::{OTS, TableStoreRule};
use logship_config::{rule_secrets, shipper_config};
use logship_delivery::engine::PlanError;
use logship_delivery::engine::work::RuleSpec;
use logship_delivery::pipeline::PipelineError;

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
    let (total, names) = (all.len(), Page::of(call)?.slice(all));
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
        return Err(store_error(StoreError::RuleExists(name)));
    }
    let checked = check(service, call, logstore, &name, &body).await?;
    let from = match checked.from {
        Start::Now => RuleStart::Now,
        Start::Begin => RuleStart::Begin,
    };
    let settings = RuleSettings { target: body.target_type, configuration: body.target_configuration };
    service.store.create_rule(logstore, &name, settings, from).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(reply(checked.warning))
}

pub(crate) async fn update(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    name: &str,
) -> Result<Reply, ApiError> {
    let before = logstore.rule(name).map_err(store_error)?;
    let mut body: ShipperBody = body(call, ErrorCode::PostBodyInvalid)?;
    rule_secrets::restore(&mut body.target_configuration, &before.configuration);
    // An invalid rule can still be disabled.
    let warning = if only_enable_differs(&before.configuration, &body.target_configuration) {
        None
    } else {
        check(service, call, logstore, name, &body).await?.warning
    };
    let settings = RuleSettings { target: body.target_type, configuration: body.target_configuration };
    service.store.update_rule(logstore, name, settings).await.map_err(store_error)?;
    service.delivery.wake();
    Ok(reply(warning))
}

pub(crate) async fn delete(service: &Service, logstore: &Logstore, name: &str) -> Result<Reply, ApiError> {
    service.store.delete_rule(logstore, name).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Returns true if the configurations differ at most in `enable`.
fn only_enable_differs(before: &Value, after: &Value) -> bool {
    let without = |configuration: &Value| {
        let mut configuration = configuration.clone();
        if let Some(fields) = configuration.as_object_mut() {
            fields.remove("enable");
        }
        configuration
    };
    without(before) == without(after)
}

pub(crate) async fn show(service: &Arc<Service>, logstore: &Logstore, name: &str) -> Result<Reply, ApiError> {
    let rule = logstore.rule(name).map_err(store_error)?.clone();
    let shards: Vec<_> = logstore.shards.clone();
    let service = Arc::clone(service);
    blocking(move || {
        let progress = service.store.progress(&rule).map_err(store_error)?;
        let shards: Vec<Value> = shards
            .iter()
            .map(|shard| {
                let checkpoint = progress.get(&shard.number).map(|progress| progress.checkpoint);
                let next = progress.get(&shard.number).map(|progress| progress.next);
                let shown = checkpoint.map_or_else(|| shard.begin().to_string(), |place| place.to_string());
                let next = next.map_or(shard.begin(), |next| next.cursor);
                let behind = shard.groups_between(next, shard.end());
                json!({ "shardID": shard.number, "checkpoint": shown, "waitingGroups": behind })
            })
            .collect();
        Ok(Reply::json(&json!({
            "shipperName": rule.name,
            "targetType": rule.target,
            "targetConfiguration": rule_secrets::mask(&rule.configuration),
            "createTime": rule.created,
            "lastModifyTime": rule.modified,
            "problem": service.pause_reason(rule.number()),
            "shards": shards,
        })))
    })
    .await
}

/// Returns the component with a digest. A replay of a task needs the original component.
pub(crate) async fn stage(service: &Arc<Service>, digest: &str) -> Result<Reply, ApiError> {
    let (service, digest) = (Arc::clone(service), digest.to_owned());
    blocking(move || {
        let bytes = service.delivery.registry().bytes(&digest);
        let bytes = bytes.map_err(|error| ApiError::new(ErrorCode::ParameterInvalid, error.to_string()))?;
        Ok(Reply { content_type: Some("application/wasm"), body: bytes.into(), ..Reply::default() })
    })
    .await
}

/// The result of a check.
struct Checked {
    /// The start position of a new rule.
    from: Start,
    /// The reason why the rule can't ship now.
    warning: Option<Warning>,
}

struct Warning {
    code: &'static str,
    message: String,
}

/// Checks a rule and probes its destination. A failing probe is a warning, and an error only with `probe=required`:
/// clients of Log Service create rules before their buckets and roles are ready.
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
    blocking(move || {
        // The rule may use a component that was just copied to the folder.
        service.folder_watcher.scan(true);
        let spec =
            RuleSpec { project: &project, logstore: &logstore, name: &name, configuration: &configuration };
        let start = match kind.as_str() {
            shipper_config::OSS => shipper_config::to_rule(&name, &configuration).map(|rule| rule.from),
            SIEM => SiemRule::of(&name, &configuration).map(|rule| rule.from),
            OTS => TableStoreRule::of(&name, &configuration).map(|rule| rule.from),
            ODPS => MaxComputeRule::of(&name, &configuration).map(|rule| rule.from),
            _ => return check_unsupported(name, kind),
        };
        let from = start.map_err(|error| rule_error(&error))?;
        service.delivery.check(&kind, spec).map_err(|error| plan_error(&kind, &error))?;
        let warning = probe_destination(&service, &kind, spec, probe.as_deref())?;
        Ok(Checked { from, warning })
    })
    .await
}

/// Probes the destination of a rule. Returns a warning if it fails, and an error only if the probe is required.
fn probe_destination(
    service: &Service,
    kind: &str,
    rule: RuleSpec<'_>,
    probe: Option<&str>,
) -> Result<Option<Warning>, ApiError> {
    if probe == Some("none") {
        return Ok(None);
    }
    let Err(error) = service.delivery.probe(kind, rule) else { return Ok(None) };
    let code = error.code();
    let what = if kind == shipper_config::OSS { "objects" } else { "rows" };
    let message = format!("the destination rejects {what}: {code}: {error}");
    if probe == Some("required") {
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    tracing::warn!(rule = rule.name, message);
    Ok(Some(Warning { code, message }))
}

/// Converts a problem of a rule's stages or destination.
fn plan_error(kind: &str, error: &PlanError) -> ApiError {
    let (code, message) = match error {
        PlanError::Pipeline(PipelineError::Rule(error)) => return rule_error(error),
        other if kind != shipper_config::OSS => (ErrorCode::PostBodyInvalid, other.to_string()),
        // The stage's settings have other names than the clients'.
        PlanError::Pipeline(PipelineError::Stage(error)) => {
            let field = if error.to_string().contains("partition-format") { "pathFormat" } else { "storage" };
            (ErrorCode::PostBodyInvalid, format!("{field}: {error}"))
        }
        PlanError::Pipeline(PipelineError::Transform(error)) => {
            (ErrorCode::PostBodyInvalid, format!("logship.{error}"))
        }
        other => (ErrorCode::ParameterInvalid, other.to_string()),
    };
    ApiError::new(code, message)
}

/// Checks the name of a rule whose kind of target is not supported. It is stored and never ships.
fn check_unsupported(name: String, kind: String) -> Result<Checked, ApiError> {
    Rule { name, ..Rule::default() }.check().map_err(|error| rule_error(&error))?;
    let message = PlanError::Target(kind).to_string();
    Ok(Checked { from: Start::Begin, warning: Some(Warning { code: "Unsupported", message }) })
}

fn reply(warning: Option<Warning>) -> Reply {
    match warning {
        None => Reply::empty(),
        Some(Warning { code, message }) => {
            Reply::json(&json!({ "warning": { "code": code, "message": message } }))
        }
    }
}

/// Converts a rule's error, with the field names of Log Service.
fn rule_error(error: &RuleError) -> ApiError {
    let message = match error {
        RuleError::Field { field: "name", problem } => format!("invalid shipper name format: {problem}"),
        RuleError::Field { field, problem } => format!("{}: {problem}", shipper_config::wire_name(field)),
        RuleError::File { problem, .. } => problem.clone(),
    };
    ApiError::new(ErrorCode::PostBodyInvalid, message)
}

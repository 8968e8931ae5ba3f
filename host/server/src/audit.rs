//! The audit log: what it says about requests. The store writes the record of a change in the change's transaction.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderName};
use hyper::{HeaderMap, Method, Request, Uri};
use logship_logstore::{AUDIT_PROJECT, AuditRecord, AuditScope, AuditTarget, StoreError};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;
use serde_json::Value;

use crate::Service;
use crate::call::{self, Call};
use crate::credentials::claimed_key;
use crate::operation::{Operation, UNKNOWN};

/// The members of bodies that name the object to create.
const NAMES: [&str; 4] = ["shipperName", "consumerGroup", "logstoreName", "projectName"];

/// The parts of a request that the audit log names if its sender can't be authenticated.
#[derive(Debug)]
pub(crate) struct Claim {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Claim {
    /// Copies the parts. The copies share the request's memory.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let header = |name: HeaderName| Some((name.clone(), request.headers().get(name)?.clone()));
        let headers = [AUTHORIZATION, HOST].into_iter().filter_map(header).collect();
        Self { method: request.method().clone(), uri: request.uri().clone(), headers }
    }

    /// Returns the record of the request. The key is only a claim.
    pub(crate) fn record(&self, peer: IpAddr, domain: Option<&str>) -> AuditRecord {
        let Self { method, uri, headers } = self;
        let query = Query::parse(uri.query().unwrap_or_default()).unwrap_or_default();
        let (project, segments) = call::address(uri, headers, domain);
        let operation = Operation::parse(method, project.as_deref(), &segments, &query);
        AuditRecord {
            operation: operation.map_or(UNKNOWN, |operation| operation.name()).to_owned(),
            who: claimed_key(headers),
            address: peer.to_string(),
            project: project.clone().unwrap_or_default(),
            detail: format!("{method} {}", uri.path()),
            ..AuditRecord::default()
        }
    }
}

/// Returns the record of an operation, without its outcome.
pub(crate) fn record(call: &Call, operation: Operation<'_>) -> AuditRecord {
    let parameter = |name| operation.parameter(name).unwrap_or_default();
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let named = || NAMES.iter().find_map(|name| body[name].as_str()).unwrap_or_default();
    let (project, logstore) = (parameter("project"), parameter("logstore"));
    let (target, object) = match operation {
        Operation::CreateProject => (AuditTarget::Project, named()),
        Operation::UpdateProject { project }
        | Operation::DeleteProject { project }
        | Operation::RestoreProject { project } => (AuditTarget::Project, project),
        Operation::CreateLogstore { .. } => (AuditTarget::Logstore, named()),
        Operation::UpdateLogstore { logstore, .. }
        | Operation::DeleteLogstore { logstore, .. }
        | Operation::RestoreLogstore { logstore, .. }
        | Operation::Reshard { logstore, .. } => (AuditTarget::Logstore, logstore),
        Operation::CreateShipper { .. } => (AuditTarget::Rule, named()),
        Operation::UpdateShipper { rule, .. } | Operation::DeleteShipper { rule, .. } => {
            (AuditTarget::Rule, rule)
        }
        Operation::CreateGroup { .. } => (AuditTarget::Group, named()),
        Operation::UpdateGroup { group, .. } | Operation::DeleteGroup { group, .. } => {
            (AuditTarget::Group, group)
        }
        Operation::SaveCheckpoint { group, .. } => {
            let shard = body["shard"].as_u64().and_then(|shard| shard.try_into().ok()).unwrap_or(u32::MAX);
            (AuditTarget::Checkpoint { shard }, group)
        }
        Operation::CreateSource { .. } | Operation::TestNewSource { .. } => {
            (AuditTarget::Source, body["name"].as_str().unwrap_or_default())
        }
        Operation::UpdateSource { source, .. }
        | Operation::DeleteSource { source, .. }
        | Operation::TestSource { source, .. } => (AuditTarget::Source, source),
        Operation::AddStage => (AuditTarget::Stage, call.query.get("name").unwrap_or_default()),
        Operation::CreateJob { .. } => {
            (AuditTarget::Job, call.query.get("name").or_else(|| body["name"].as_str()).unwrap_or_default())
        }
        Operation::UpdateJob { name, .. } | Operation::DeleteJob { name, .. } => (AuditTarget::Job, name),
        Operation::RunJob { name, .. }
        | Operation::RerunJob { name, .. }
        | Operation::StopRun { name, .. }
        | Operation::CreateTable { name, .. } => (AuditTarget::Other, name),
        Operation::ChangeStage { name } | Operation::RemoveStage { name } => (AuditTarget::Stage, name),
        _ => (AuditTarget::Other, operation.parameter("rule").unwrap_or_default()),
    };
    let is_name_of =
        |kind: &AuditTarget, name: &str| if target == *kind { object.to_owned() } else { name.to_owned() };
    AuditRecord {
        operation: operation.name().to_owned(),
        who: call.key.id.clone(),
        address: call.peer.to_string(),
        project: is_name_of(&AuditTarget::Project, project),
        logstore: is_name_of(&AuditTarget::Logstore, logstore),
        object: object.to_owned(),
        detail: detail(call, operation, &body),
        target,
        ..AuditRecord::default()
    }
}

/// Returns the parameters of an operation that say what it did. Bodies of other operations may have secrets.
fn detail(call: &Call, operation: Operation<'_>, body: &Value) -> String {
    let mut detail = vec![];
    if let Some(shard) = operation.parameter("shard") {
        detail.push(format!("shard={shard}"));
    }
    if let Some(run) = operation
        .parameter("id")
        .filter(|_| matches!(operation, Operation::RerunJob { .. } | Operation::StopRun { .. }))
    {
        detail.push(format!("run={run}"));
    }
    detail.extend(call.query.pairs().iter().map(|(name, value)| format!("{name}={value}")));
    if matches!(operation, Operation::RetryTasks { .. } | Operation::RetryRuleTasks { .. }) {
        detail.push(format!("tasks={body}"));
    }
    detail.join(" ")
}

/// Fails if an operation would write to the audit log, or change or delete it.
pub(crate) fn protect(operation: Operation<'_>) -> Result<(), ApiError> {
    use Operation::*;
    let is_forbidden = matches!(
        operation,
        Put { .. }
            | Ingest { .. }
            | UpdateProject { .. }
            | DeleteProject { .. }
            | CreateLogstore { .. }
            | UpdateLogstore { .. }
            | DeleteLogstore { .. }
            | RestoreLogstore { .. }
            | RestoreProject { .. }
            | Reshard { .. }
    );
    if operation.project() != Some(AUDIT_PROJECT) || !is_forbidden {
        return Ok(());
    }
    let message =
        format!("project {AUDIT_PROJECT} is the audit log: it can be read and shipped, and not be changed");
    Err(ApiError::new(ErrorCode::AuditLogProtected, message))
}

/// Returns true if the attempt of an operation that failed is recorded: a change, or anything without permission.
pub(crate) fn is_recorded_failure(operation: Option<Operation<'_>>, error: &ApiError) -> bool {
    is_denied(error) || operation.is_some_and(|operation| operation.is_change())
}

/// Returns true if a request lacks a valid key or a permission. A used quota is neither.
fn is_denied(error: &ApiError) -> bool {
    use ErrorCode::{ReadQuotaExceed, WriteQuotaExceed};
    matches!(error.status(), 401 | 403) && !matches!(error.code, ReadQuotaExceed | WriteQuotaExceed)
}

/// The sender of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A request that could not be authenticated.
    Stranger,
    /// A request with a valid key.
    KeyHolder,
}

/// Records a failed attempt, within limits.
pub(crate) async fn record_failure(
    service: &Service,
    mut record: AuditRecord,
    sender: Sender,
    error: &ApiError,
) {
    let AuditRecord { address, operation, project, logstore, object, who, .. } = &record;
    let kind = match sender {
        Sender::Stranger => format!("{address} {operation} {}", error.code),
        Sender::KeyHolder => {
            format!("{who} {address} {operation} {} {project} {logstore} {object}", error.code)
        }
    };
    if !service.refusals.admit(kind, sender == Sender::KeyHolder, service.now()) {
        return;
    }
    record.outcome = error.code.as_str().to_owned();
    if is_denied(error) {
        // Other messages may quote a configuration.
        record.message = error.message.clone();
    }
    if let Err(error) = service.store.audit(&record).await {
        tracing::warn!(%error, "can't record a failed attempt in the audit log");
    }
}

/// Records the number of failed attempts that were not recorded one by one, when their minute has ended.
pub(crate) async fn summarize_failures(service: &Arc<Service>) {
    let Some(count) = service.refusals.take_summary(service.now()) else { return };
    let record = AuditRecord {
        operation: "failed attempts".into(),
        outcome: "Summary".into(),
        who: "service".into(),
        detail: format!("{count} more within a minute"),
        ..AuditRecord::default()
    };
    if let Err(error) = service.store.audit(&record).await {
        tracing::warn!(%error, "can't record a summary in the audit log");
    }
}

/// Creates the audit log, and records the start of the service.
pub(crate) async fn record_start(service: &Service) {
    if let Err(error) = try_record_start(service).await {
        tracing::error!(%error, "can't record the start of the service in the audit log");
    }
}

async fn try_record_start(service: &Service) -> Result<(), StoreError> {
    const STATE: &str = "settings";
    let Service { store, config, .. } = service;
    store.create_audit_log().await?;
    // The settings' secrets are not shown.
    let after = format!("settings {}", store.audit_digest(&format!("{config:?}"))?);
    let record = AuditRecord {
        operation: "start service".into(),
        outcome: "OK".into(),
        who: "service".into(),
        address: "local".into(),
        detail: format!(
            "version={} listen={} generation={}",
            env!("CARGO_PKG_VERSION"),
            config.listen,
            store.generation().number
        ),
        before: store.audit_state(STATE)?.unwrap_or_default(),
        after: after.clone(),
        ..AuditRecord::default()
    };
    store.audit_with_state(vec![record], STATE, &after).await
}

/// Runs a change within the scope of its record. Returns true in the second place if the record was written.
pub(crate) async fn within<T>(record: AuditRecord, change: impl Future<Output = T>) -> (T, bool) {
    let scope = AuditScope::new(record);
    let result = Arc::clone(&scope).run(change).await;
    (result, scope.is_recorded())
}

//! Answers requests: finds the operation of each, checks its permission, and calls its handler.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};
use logship_listener::{Activity, Connection};
use logship_logstore::{Logstore, Project, StoreError};
use logship_sls::error::{ApiError, ErrorCode};

use crate::call::{Call, Head};
use crate::operation::{Operation, UNKNOWN};
use crate::quotas::Direction;
use crate::reply::{Reply, ReplyBody, response, store_error};
use crate::service::{CountGuard, Service};
use crate::{
    audit, authorization, dead_letters, deletion, groups, ingest, jobs, manage, metrics, monitor, previews,
    pull, put, shippers, sources, stages, store, tasks,
};

/// Answers a request.
pub(crate) async fn answer(
    service: Arc<Service>,
    request: Request<Incoming>,
    connection: &Arc<Connection>,
) -> Response<ReplyBody> {
    let (begun, peer) = (Instant::now(), connection.peer());
    let request_id = request_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut operation = UNKNOWN;
    let active = CountGuard::begin(&service.active);
    let dispatched =
        AssertUnwindSafe(dispatch(&service, request, connection, &mut operation)).catch_unwind().await;
    // The log has the panic itself. The client gets an answer instead of a closed connection.
    let result = dispatched.unwrap_or_else(|_| {
        Err(ApiError::new(ErrorCode::InternalServerError, "the request panicked, which is a bug of logship"))
    });
    drop(active);
    connection.set_activity(Activity::Idle);
    let (code, seconds) =
        (result.as_ref().map_or_else(|error| error.code.as_str(), |_| "OK"), begun.elapsed());
    metrics::record_request(operation, code, seconds.as_secs_f64());
    match &result {
        Ok(_) => tracing::debug!(%peer, %method, path, operation, ?seconds, request_id),
        Err(error) if error.status() >= 500 => {
            tracing::error!(%peer, %method, path, operation, %error, request_id);
        }
        Err(error) => tracing::info!(%peer, %method, path, operation, %error, request_id),
    }
    // Close the connection of an unauthenticated client.
    let is_authenticated = !matches!(&result, Err(error) if error.status() == 401);
    response(result, &request_id, is_authenticated && *service.ready.borrow())
}

/// A random request ID of 24 hexadecimal digits, as Log Service's.
fn request_id() -> String {
    format!("{:024X}", fastrand::u128(..1 << 96))
}

/// Authenticates a request and performs its operation. Sets `name` when the operation is known.
async fn dispatch(
    service: &Arc<Service>,
    request: Request<Incoming>,
    connection: &Arc<Connection>,
    name: &mut &'static str,
) -> Result<Reply, ApiError> {
    if let Some(operation) = Operation::without_key(request.uri().path(), service.config.open_metrics) {
        *name = operation.name();
        return monitor::answer(service, operation).await;
    }
    let claim = audit::Claim::of(&request);
    let (parts, body) = request.into_parts();
    let head = match Head::authenticate(service, parts, connection) {
        Ok(head) => head,
        Err(error) => return refuse(service, &claim, connection, error).await,
    };
    let (project, path) = (head.project.clone(), Arc::clone(&head.path));
    let operation = Operation::parse(head.method(), project.as_deref(), &path, &head.query)?;
    *name = operation.name();
    if let Err(error) = check_allowed(service, &head, operation) {
        let call = head.into_call(Bytes::new(), connection);
        if audit::is_recorded_failure(Some(operation), &error) {
            let record = audit::record(&call, operation);
            audit::record_failure(service, record, audit::Sender::KeyHolder, &error).await;
        }
        return Err(error);
    }
    let call = match head.receive(service, body, operation.project(), connection).await {
        Ok(call) => call,
        Err(error) => return refuse(service, &claim, connection, error).await,
    };
    connection.set_activity(Activity::Working);
    audited(service, &call, operation).await
}

/// Rejects a request that was not received, and records it if its sender is not authenticated.
async fn refuse(
    service: &Service,
    claim: &audit::Claim,
    connection: &Connection,
    error: ApiError,
) -> Result<Reply, ApiError> {
    if audit::is_recorded_failure(None, &error) {
        let record = claim.record(connection.peer(), service.config.domain.as_deref());
        audit::record_failure(service, record, audit::Sender::Stranger, &error).await;
    }
    Err(error)
}

/// Fails unless the key may perform the operation now. The body is received only afterwards.
fn check_allowed(service: &Service, head: &Head, operation: Operation<'_>) -> Result<(), ApiError> {
    authorization::check_head(&head.key, operation, &head.query)?;
    audit::protect(operation)?;
    if matches!(operation, Operation::Put { .. } | Operation::Ingest { .. }) {
        service.quotas.check(&head.key, Direction::Write, (service.store_clock)())?;
    }
    Ok(())
}

/// Performs an operation, and records it in the audit log if it is a change.
async fn audited(service: &Arc<Service>, call: &Call, operation: Operation<'_>) -> Result<Reply, ApiError> {
    let (result, is_recorded) = if let Err(error) = authorization::check_created(call, operation) {
        (Err(error), false)
    } else if operation.is_change() {
        audit::within(audit::record(call, operation), perform(service, call, operation)).await
    } else {
        (perform(service, call, operation).await, false)
    };
    if let Err(error) = &result
        && !is_recorded
        && audit::is_recorded_failure(Some(operation), error)
    {
        let record = audit::record(call, operation);
        audit::record_failure(service, record, audit::Sender::KeyHolder, error).await;
    }
    result
}

/// Calls the handler of an operation.
async fn perform(service: &Arc<Service>, call: &Call, operation: Operation<'_>) -> Result<Reply, ApiError> {
    use Operation::*;
    let catalog = service.store.catalog();
    let existing = operation.project().filter(|_| !matches!(operation, RestoreProject { .. }));
    let project = existing.map(|name| catalog.project(name).map_err(store_error)).transpose()?;
    let get = |logstore: &str| find_logstore(project, logstore);
    let get_project = || project.ok_or_else(|| store_error(StoreError::NoProject(String::new())));
    match operation {
        Health | Ready | ShowMetrics => monitor::answer(service, operation).await,
        ShowStore => store::show(service).await,
        BackUpStore => store::back_up(service, call),
        ConfirmStore => store::confirm(service, call).await,
        ListStages => stages::list(service).await,
        AddStage => stages::add(service, call).await,
        ShowStage { name } => stages::show(service, name).await,
        ChangeStage { name } => stages::change(service, call, name).await,
        RemoveStage { name } => stages::remove(service, call, name).await,
        FetchStage { digest, .. } => shippers::stage(service, digest).await,
        ListProjects => manage::list_projects(&catalog, call),
        CreateProject => manage::create_project(service, call).await,
        ShowProject { project } => manage::show_project(&catalog, project),
        UpdateProject { project } => manage::update_project(service, call, project).await,
        DeleteProject { project } => deletion::delete_project(service, call, project).await,
        RestoreProject { project } => deletion::restore_project(service, project).await,
        ListDeletedLogstores { project } => Ok(deletion::list_logstores(service, &catalog, project)),
        ListDeletedProjects => Ok(deletion::list_projects(service, &catalog, call)),
        ListLogstores { project } => manage::list_logstores(&catalog, call, project),
        CreateLogstore { project } => manage::create_logstore(service, call, project).await,
        ShowLogstore { logstore, .. } => Ok(manage::show_logstore(get(logstore)?)),
        UpdateLogstore { logstore, .. } => manage::update_logstore(service, call, get(logstore)?).await,
        DeleteLogstore { logstore, .. } => deletion::delete_logstore(service, call, get(logstore)?).await,
        RestoreLogstore { project, logstore } => {
            deletion::restore_logstore(service, call, project, logstore).await
        }
        HoldLogstore { logstore, .. } => manage::hold_logstore(service, call, get(logstore)?).await,
        ReleaseLogstore { logstore, .. } => manage::release_logstore(service, get(logstore)?).await,
        Ingest { logstore, .. } => ingest::ingest(service, call, get(logstore)?).await,
        Put { logstore, .. } => put::put(service, call, get(logstore)?).await,
        Pull { logstore, shard, .. } => pull::pull(service, call, get(logstore)?, shard).await,
        ListShards { logstore, .. } => Ok(manage::list_shards(get(logstore)?)),
        Reshard { logstore, shard, .. } => manage::reshard(service, call, get(logstore)?, shard).await,
        Cursor { logstore, shard, .. } => pull::cursor(service, call, get(logstore)?, shard).await,
        CursorTime { logstore, shard, .. } => pull::cursor_time(service, call, get(logstore)?, shard).await,
        ListGroups { logstore, .. } => Ok(groups::list(get(logstore)?)),
        CreateGroup { logstore, .. } => groups::create(service, call, get(logstore)?).await,
        UpdateGroup { logstore, group, .. } => groups::update(service, call, get(logstore)?, group).await,
        DeleteGroup { logstore, group, .. } => groups::delete(service, call, get(logstore)?, group).await,
        GroupStatus { logstore, group, .. } => groups::status(service, get(logstore)?, group).await,
        Checkpoints { logstore, group, .. } => {
            groups::checkpoints(service, call, get(logstore)?, group).await
        }
        Heartbeat { logstore, group, .. } => groups::heartbeat(service, call, get(logstore)?, group).await,
        SaveCheckpoint { logstore, group, .. } => {
            groups::save_checkpoint(service, call, get(logstore)?, group).await
        }
        ListShippers { logstore, .. } => shippers::list(get(logstore)?, call),
        CreateShipper { logstore, .. } => shippers::create(service, call, get(logstore)?).await,
        ShowShipper { logstore, rule, .. } => shippers::show(service, get(logstore)?, rule).await,
        UpdateShipper { logstore, rule, .. } => shippers::update(service, call, get(logstore)?, rule).await,
        DeleteShipper { logstore, rule, .. } => shippers::delete(service, get(logstore)?, rule).await,
        PreviewStage { logstore, rule, .. } => previews::run(service, call, get(logstore)?, rule).await,
        ListSources { .. } => sources::list(service, call, get_project()?),
        TestNewSource { .. } => sources::test_new(service, call, get_project()?).await,
        CreateSource { .. } => sources::create(service, call, get_project()?).await,
        ShowSource { source, .. } => sources::show(service, get_project()?, source),
        UpdateSource { source, .. } => sources::update(service, call, get_project()?, source).await,
        DeleteSource { source, .. } => sources::delete(service, get_project()?, source).await,
        TestSource { source, .. } => sources::test_known(service, call, get_project()?, source).await,
        ListRuleTasks { logstore, rule, .. } => tasks::of_shipper(service, call, get(logstore)?, rule).await,
        RetryRuleTasks { logstore, rule, .. } => {
            tasks::retry_of_shipper(service, call, get(logstore)?, rule).await
        }
        ListTasks { project } => tasks::list(service, call, project).await,
        RetryTasks { project } => tasks::retry(service, call, project).await,
        VerifyTask { project, id } => tasks::show(service, project, id, true).await,
        ShowTask { project, id } => tasks::show(service, project, id, false).await,
        PreviewNewJob { project } => jobs::preview(service, call, project, None).await,
        ShowNewTable { project } => jobs::table(service, call, project, None).await,
        ListJobs { project } => jobs::list(service, call, project).await,
        CreateJob { project } => jobs::create(service, call, project).await,
        ShowJob { project, name } => jobs::show(service, project, name).await,
        UpdateJob { project, name } => jobs::update(service, call, project, name).await,
        DeleteJob { project, name } => jobs::delete(service, project, name).await,
        PreviewJob { project, name } => jobs::preview(service, call, project, Some(name)).await,
        CreateTable { project, name } => jobs::table(service, call, project, Some(name)).await,
        ListRuns { project, name } => jobs::list_runs(service, call, project, name).await,
        RunJob { project, name } => jobs::run(service, call, project, name).await,
        ShowRun { project, name, id } => jobs::show_run(service, project, name, id).await,
        RerunJob { project, name, id } => jobs::rerun(service, call, project, name, id).await,
        StopRun { project, name, id } => jobs::stop(service, project, name, id).await,
        ListDeadLetters { project } => dead_letters::list(service, call, project).await,
        ResendDeadLetters { project } => dead_letters::resend(service, call, project).await,
        UnknownRead { logstore, shard, .. } => pull::reject_type(call, get(logstore)?, shard),
        UnknownGroupChange { logstore, .. } => get(logstore).and_then(|_| groups::reject_type(call)),
    }
}

fn find_logstore<'a>(project: Option<&'a Arc<Project>>, name: &str) -> Result<&'a Arc<Logstore>, ApiError> {
    let found = project.and_then(|project| project.logstores.get(name));
    found.ok_or_else(|| store_error(StoreError::NoLogstore(name.into())))
}

//! Decides whether a key may perform an operation: by its grants, or by its policy if it has one.

use logship_config::policy::{Decision, Policy};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;
use serde_json::Value;

use crate::call::{Call, check_access};
use crate::keys::{ALL_PROJECTS, Access, Key};
use crate::operation::{Operation, Permission};

/// The beginning of a resource's name. The service has no regions and accounts.
const RESOURCE: &str = "acs:log:*:*:";

/// Fails unless the key may perform the operation, as far as it is known before its body.
pub(crate) fn check_head(key: &Key, operation: Operation<'_>, query: &Query) -> Result<(), ApiError> {
    let Some(policy) = &key.policy else { return check_grants(key, operation) };
    let actions = actions(operation, query);
    // The handler of a list leaves out what the policy does not allow, and the name of a new object is in the body.
    if operation.creates() || operation.permission() == Permission::AnyKey {
        return match policy.may_allow(&actions) {
            true => Ok(()),
            false => Err(refusal(key, &actions, &operation.resources(None), Decision::NotAllowed)),
        };
    }
    if let (Operation::RestoreLogstore { project, .. }, Some(name)) = (operation, query.get("as")) {
        let renamed = Operation::RestoreLogstore { project, logstore: name };
        check_policy(key, policy, &actions, &renamed.resources(None))?;
    }
    check_policy(key, policy, &actions, &operation.resources(None))
}

/// Fails unless the key may create the object that the request names.
pub(crate) fn check_created(call: &Call, operation: Operation<'_>) -> Result<(), ApiError> {
    let Some(policy) = call.key.policy.as_ref().filter(|_| operation.creates()) else { return Ok(()) };
    let actions = actions(operation, &call.query);
    let check = |name: Option<&str>| check_policy(&call.key, policy, &actions, &operation.resources(name));
    let names = created_names(call, operation)?;
    match names.is_empty() {
        true => check(None),
        false => names.iter().try_for_each(|name| check(Some(name))),
    }
}

/// Fails unless the key may read a Logstore. With grants, it needs read access to the project.
pub(crate) fn check_read(key: &Key, project: &str, logstore: &str) -> Result<(), ApiError> {
    let Some(policy) = &key.policy else { return check_access(key, project, Access::Read) };
    let pull = Operation::Pull { project, logstore, shard: "*" };
    check_policy(key, policy, pull.endpoint().actions, &pull.resources(None))
}

/// Returns true if the key may see a project in the list of an operation. With grants, it needs `access` to it.
pub(crate) fn sees_project(key: &Key, operation: Operation<'_>, project: &str, access: &[Access]) -> bool {
    match &key.policy {
        Some(policy) => {
            let paths = operation.resources(Some(project));
            policy.decide(operation.endpoint().actions, &paths) == Decision::Allowed
        }
        None => access.iter().any(|&access| key.allows(project, access)),
    }
}

/// Fails unless a grant of the key has the permission that the operation needs.
fn check_grants(key: &Key, operation: Operation<'_>) -> Result<(), ApiError> {
    match operation.permission() {
        Permission::NoKey | Permission::AnyKey | Permission::NewProject => Ok(()),
        Permission::Project(access) => check_access(key, operation.project().unwrap_or_default(), access),
        Permission::AllProjects(access) => check_access(key, ALL_PROJECTS, access),
    }
}

fn check_policy(key: &Key, policy: &Policy, actions: &[&str], paths: &[String]) -> Result<(), ApiError> {
    match policy.decide(actions, paths) {
        Decision::Allowed => Ok(()),
        decision => Err(refusal(key, actions, paths, decision)),
    }
}

fn refusal(key: &Key, actions: &[&str], paths: &[String], decision: Decision) -> ApiError {
    let reason = match decision {
        Decision::Denied(statement) => format!("statement {statement} denies"),
        _ => "no statement allows".to_owned(),
    };
    let (action, path) = (actions.first().copied().unwrap_or("it"), paths.last().map_or("", String::as_str));
    let message = format!("denied by the policy of key {}: {reason} {action} on {RESOURCE}{path}", key.id);
    ApiError::new(ErrorCode::Unauthorized, message)
}

/// Returns the actions of a request. Splitting and merging a shard is one operation, but two actions.
fn actions(operation: Operation<'_>, query: &Query) -> Vec<&'static str> {
    let all = operation.endpoint().actions;
    let only = match (operation, query.get("action")) {
        (Operation::Reshard { .. }, Some("split")) => Some("log:SplitShard"),
        (Operation::Reshard { .. }, Some("merge")) => Some("log:MergeShard"),
        _ => None,
    };
    only.map_or_else(|| all.to_vec(), |only| vec![only])
}

/// Returns the names of the object that a request creates, as handlers read them: from the body or the query. All must
/// be allowed.
fn created_names(call: &Call, operation: Operation<'_>) -> Result<Vec<String>, ApiError> {
    let member = match operation {
        Operation::CreateProject => "projectName",
        Operation::CreateLogstore { .. } => "logstoreName",
        Operation::CreateShipper { .. } => "shipperName",
        Operation::CreateGroup { .. } => "consumerGroup",
        _ => "name",
    };
    let is_json = !call.body.is_empty() && operation != Operation::AddStage;
    let body: Value = match is_json {
        // A handler may read other forms, whose names would not be found here.
        true => serde_json::from_slice(&call.body).map_err(|error| {
            let problem = format!("a key with a policy must send a body of JSON, without comments: {error}");
            ApiError::new(ErrorCode::PostBodyInvalid, problem)
        })?,
        false => Value::Null,
    };
    let of_body = body[member].as_str();
    let is_project = matches!(operation, Operation::CreateProject);
    let of_host = call.project.as_deref().filter(|_| is_project && of_body.is_none());
    let names = [of_body, call.query.get("name"), of_host].into_iter().flatten();
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

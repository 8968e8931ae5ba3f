//! Checks of the Logstores of a project.

use logship_client::{Client, ClientError};
use logship_config::log_hub::LogHubConfig;
use logship_sls::error::ErrorCode;
use serde_json::Value;

use super::{Check, Checks, Outcome, Owner};
use crate::rows::sources::log_hub_client;

/// The largest reply of a check, in bytes.
const MAX_REPLY_BYTES: usize = 32 << 20;

const GET_PROJECT: &str = "log:GetProject";
const LIST_LOGSTORES: &str = "log:ListLogStores";
const GET_LOGSTORE: &str = "log:GetLogStore";
const LIST_SHARDS: &str = "log:ListShards";
const READ: &str = "log:GetCursorOrData";

/// Tries what a job does before it reads its window.
pub(super) async fn check(config: &LogHubConfig, owner: Owner, logstore: Option<&str>) -> Vec<Check> {
    let mut checks = Checks::new(owner);
    match log_hub_client(config) {
        Ok(client) => {
            let client = client.with_max_reply(MAX_REPLY_BYTES);
            check_reader(&mut checks, &client, &config.project, logstore).await;
        }
        Err(problem) => checks.add("connect", "", true, Outcome::Failed(problem)),
    }
    checks.list
}

async fn check_reader(checks: &mut Checks, client: &Client, project: &str, logstore: Option<&str>) {
    let get = async |path: String| client.get::<Value>(&path, &[]).await;
    let attempt = format!("read the attributes of project {project}");
    checks.try_(&attempt, GET_PROJECT, false, get("/".into()), explain).await;
    let logstore = match logstore {
        Some(name) => Some(name.to_owned()),
        None => {
            // Without a name, the list is the only way to find a Logstore to read.
            let attempt = "list the Logstores";
            let listed = checks.try_(attempt, LIST_LOGSTORES, true, get("/logstores".into()), explain).await;
            listed.and_then(|list| Some(list["logstores"].get(0)?.as_str()?.to_owned()))
        }
    };
    let Some(name) = logstore.filter(|name| is_name(name)) else {
        checks.add("list the shards of a Logstore", LIST_SHARDS, true, Outcome::Skipped);
        return skip_reads(checks);
    };
    let path = format!("/logstores/{name}");
    let attempt = format!("read the attributes of {name}");
    checks.try_(&attempt, GET_LOGSTORE, false, get(path.clone()), explain).await;
    let attempt = format!("list the shards of {name}");
    let shards = checks.try_(&attempt, LIST_SHARDS, true, get(format!("{path}/shards")), explain).await;
    let first = shards.and_then(|list| list.get(0)?["shardID"].as_u64());
    let Some(shard) = first.and_then(|shard| u32::try_from(shard).ok()) else { return skip_reads(checks) };
    let attempt = format!("get a cursor of {name}");
    let cursor = checks.try_(&attempt, READ, true, client.cursor(&name, shard, "begin"), explain).await;
    let attempt = format!("pull logs of {name}");
    match cursor {
        Some(cursor) => {
            let pull = client.pull_groups(&name, shard, cursor, 1);
            checks.try_(&attempt, READ, true, pull, explain).await;
        }
        None => checks.add(&attempt, READ, true, Outcome::Skipped),
    }
}

fn skip_reads(checks: &mut Checks) {
    checks.add("get a cursor", READ, true, Outcome::Skipped);
    checks.add("pull logs", READ, true, Outcome::Skipped);
}

fn explain(owner: Owner, error: &ClientError) -> Outcome {
    let ClientError::Rejected(rejected) = error else {
        let problem = "the endpoint is unreachable, or does not answer as Log Service: the service's log has its answer";
        return Outcome::Failed(owner.shown(error, problem));
    };
    let code = rejected.code.as_str();
    let message = owner.shown(&format!("{code}: {}", rejected.message), known_problem(&rejected.code));
    if matches!(rejected.status(), 401 | 403) { Outcome::Denied(message) } else { Outcome::Failed(message) }
}

/// Returns a description of an error without any text of the server.
fn known_problem(code: &ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "Unauthorized: the key is unknown, has expired, or lacks the permission",
        ErrorCode::SignatureNotMatch => "SignatureNotMatch: the secret of the key is wrong",
        ErrorCode::RequestTimeTooSkewed | ErrorCode::RequestTimeExpired => {
            "RequestTimeTooSkewed: the clocks of both services differ by more than 15 minutes"
        }
        ErrorCode::ProjectNotExist => "ProjectNotExist: the endpoint has no such project",
        ErrorCode::LogStoreNotExist => "LogStoreNotExist: the project has no such Logstore",
        ErrorCode::InvalidSignatureMethod => "InvalidSignatureMethod: set the region, to sign with version 4",
        ErrorCode::ServerBusy => "ServerBusy: the endpoint is overloaded",
        _ => "the endpoint rejects the request: the service's log has its answer",
    }
}

/// Returns true if a text can be the name of a Logstore, and so a part of a path.
fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !name.is_empty() && name.chars().all(is_letter) && !name.starts_with('.')
}

//! Checks of data sources: connects to them, and says which permission is missing.

mod maxcompute;

use std::fmt::Display;
use std::time::Duration;

use logship_client::{Client, ClientError, Endpoint};
use logship_config::data_source::{Connection, DataSource};
use logship_config::log_hub::LogHubConfig;
use logship_sls::error::ErrorCode;
use serde_json::Value;

/// The time limit of one check.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The largest reply of a check, in bytes.
const MAX_REPLY_BYTES: usize = 32 << 20;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The attempt, such as `list shards of access`.
    pub attempt: String,
    /// The permission that it needs, in the words of the other service.
    pub permission: &'static str,
    /// True if jobs and rules can't work without it.
    pub required: bool,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Passed,
    /// The key lacks the permission.
    Denied(String),
    /// It failed for another reason.
    Failed(String),
    /// It was not tried, because it depends on one that did not succeed.
    Skipped,
}

impl Check {
    /// Returns true if jobs and rules can work, as far as this check tells.
    pub fn is_fine(&self) -> bool {
        !self.required || self.outcome == Outcome::Passed
    }
}

/// The owner of a connection's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The operator of the service, who may see the answers of servers.
    Operator,
    /// A project's admin, who could name any server within the operator's network: its answers stay in the log.
    Project,
}

/// What to try.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// The Logstore to read. Default: the first one.
    pub logstore: Option<&'a str>,
    /// The table to write to. Nothing is written to it.
    pub table: Option<&'a str>,
    /// The partition of the table, such as `pt=20261201`.
    pub partition: Option<&'a str>,
}

/// Connects to a data source outside of this service.
pub async fn check_source(source: &DataSource, owner: Owner, target: Target<'_>) -> Vec<Check> {
    match &source.connection {
        Connection::LogHub(config) => check_log_hub(config, owner, target.logstore).await,
        Connection::MaxCompute(config) => maxcompute::check(config, owner, target).await,
        Connection::TableStore(_) => vec![],
    }
}

async fn check_log_hub(config: &LogHubConfig, owner: Owner, logstore: Option<&str>) -> Vec<Check> {
    let client = match client(config) {
        Ok(client) => Tester { client, owner, checks: vec![] },
        Err(problem) => {
            let outcome = Outcome::Failed(problem);
            return vec![Check { attempt: "connect".into(), permission: "", required: true, outcome }];
        }
    };
    client.run(&config.project, logstore).await
}

fn client(config: &LogHubConfig) -> Result<Client, String> {
    let endpoint = Endpoint {
        url: config.endpoint.parse().map_err(|_| "the endpoint is not a URL".to_owned())?,
        key_id: config.access_key_id.clone(),
        secret: config.access_key_secret.expose().to_owned(),
        token: config.security_token.as_ref().map(|token| token.expose().to_owned()),
        region: config.region.clone(),
    };
    let client = Client::new(endpoint, &config.project).map_err(|error| error.to_string())?;
    Ok(client.with_max_reply(MAX_REPLY_BYTES))
}

/// Tries the requests of a reader, one after the other.
struct Tester {
    client: Client,
    owner: Owner,
    checks: Vec<Check>,
}

impl Tester {
    async fn run(mut self, project: &str, logstore: Option<&str>) -> Vec<Check> {
        let client = self.client.clone();
        let get = async |path: String, query: &[(&str, &str)]| client.get::<Value>(&path, query).await;
        self.try_(
            format!("read the attributes of project {project}"),
            "log:GetProject",
            false,
            get("/".into(), &[]),
        )
        .await;
        let logstore = match logstore {
            Some(name) => Some(name.to_owned()),
            None => {
                let list = get("/logstores".into(), &[("size", "500")]);
                // Without a name, the list is the only way to find a Logstore to read.
                let listed = self.try_("list the Logstores".into(), "log:ListLogStores", true, list).await;
                listed.and_then(|list| Some(list["logstores"].get(0)?.as_str()?.to_owned()))
            }
        };
        let Some(name) = logstore.filter(|name| is_name(name)) else {
            self.skip("list the shards of a Logstore", "log:ListShards");
            self.skip("get a cursor", "log:GetCursorOrData");
            self.skip("pull logs", "log:GetCursorOrData");
            return self.checks;
        };
        let path = format!("/logstores/{name}");
        self.try_(format!("read the attributes of {name}"), "log:GetLogStore", false, get(path.clone(), &[]))
            .await;
        let list = get(format!("{path}/shards"), &[]);
        let shards = self.try_(format!("list the shards of {name}"), "log:ListShards", true, list).await;
        let first = shards.and_then(|list| list.get(0)?["shardID"].as_u64());
        let Some(shard) = first.and_then(|shard| u32::try_from(shard).ok()) else {
            self.skip("get a cursor", "log:GetCursorOrData");
            self.skip("pull logs", "log:GetCursorOrData");
            return self.checks;
        };
        let cursor = client.cursor(&name, shard, "begin");
        let cursor = self.try_(format!("get a cursor of {name}"), "log:GetCursorOrData", true, cursor).await;
        match cursor {
            Some(cursor) => {
                let pull = client.pull_groups(&name, shard, cursor, 1);
                self.try_(format!("pull logs of {name}"), "log:GetCursorOrData", true, pull).await;
            }
            None => self.skip("pull logs", "log:GetCursorOrData"),
        }
        self.checks
    }

    /// Tries a request. Returns its reply, if it succeeds.
    async fn try_<T>(
        &mut self,
        attempt: String,
        permission: &'static str,
        required: bool,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Option<T> {
        let (reply, outcome) = match tokio::time::timeout(TIMEOUT, request).await {
            Ok(Ok(reply)) => (Some(reply), Outcome::Passed),
            Ok(Err(error)) => (None, self.outcome(&error)),
            Err(_) => (None, Outcome::Failed(format!("no answer within {} seconds", TIMEOUT.as_secs()))),
        };
        self.checks.push(Check { attempt, permission, required, outcome });
        reply
    }

    fn skip(&mut self, attempt: &str, permission: &'static str) {
        let outcome = Outcome::Skipped;
        self.checks.push(Check { attempt: attempt.into(), permission, required: true, outcome });
    }

    fn outcome(&self, error: &ClientError) -> Outcome {
        match error {
            ClientError::Rejected(rejected) => {
                let code = rejected.code.as_str();
                let message = self.shown(&format!("{code}: {}", rejected.message), known_problem(&rejected.code));
                match rejected.status() {
                    401 | 403 => Outcome::Denied(message),
                    _ if code == "Unauthorized" => Outcome::Denied(message),
                    _ => Outcome::Failed(message),
                }
            }
            other => Outcome::Failed(self.shown(
                other,
                "the endpoint is unreachable, or does not answer as Log Service: the service's log has its answer",
            )),
        }
    }

    fn shown(&self, answer: &dyn Display, problem: &str) -> String {
        self.owner.shown(answer, problem)
    }
}

impl Owner {
    /// Returns the answer of a server, or only the kind of problem.
    fn shown(self, answer: &dyn Display, problem: &str) -> String {
        match self {
            Self::Operator => answer.to_string(),
            Self::Project => {
                tracing::info!(%answer, "the check of a project's data source failed");
                problem.to_owned()
            }
        }
    }
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

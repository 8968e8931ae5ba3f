//! Checks of data sources: connects to them, and says which permission is missing.

mod log_hub;
mod maxcompute;
mod table_store;

use std::fmt::Display;
use std::time::Duration;

use logship_config::data_source::{Connection, DataSource};

/// The time limit of one check.
const TIMEOUT: Duration = Duration::from_secs(15);

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

/// The checks so far.
struct Checks {
    owner: Owner,
    list: Vec<Check>,
}

impl Checks {
    fn new(owner: Owner) -> Self {
        Self { owner, list: vec![] }
    }

    fn add(&mut self, attempt: &str, permission: &'static str, required: bool, outcome: Outcome) {
        self.list.push(Check { attempt: attempt.to_owned(), permission, required, outcome });
    }

    /// Tries a request. Returns its reply, if it succeeds.
    async fn try_<T, E>(
        &mut self,
        attempt: &str,
        permission: &'static str,
        required: bool,
        request: impl Future<Output = Result<T, E>>,
        explain: impl Fn(Owner, &E) -> Outcome,
    ) -> Option<T> {
        let (reply, outcome) = match tokio::time::timeout(TIMEOUT, request).await {
            Ok(Ok(reply)) => (Some(reply), Outcome::Passed),
            Ok(Err(error)) => (None, explain(self.owner, &error)),
            Err(_) => (None, Outcome::Failed(format!("no answer within {} seconds", TIMEOUT.as_secs()))),
        };
        self.add(attempt, permission, required, outcome);
        reply
    }
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
        Connection::LogHub(config) => log_hub::check(config, owner, target.logstore).await,
        Connection::MaxCompute(config) => maxcompute::check(config, owner, target).await,
        Connection::TableStore(config) => table_store::check(config, owner, target).await,
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

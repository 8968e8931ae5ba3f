//! `logship job run`, `rerun` and `backfill`.

use clap::Args;
use logship_client::Client;
use logship_server::keys::Access;
use reqwest::Method;
use serde_json::{Value, json};

use super::follow::follow;
use super::{Parameters, path};
use crate::commands::Failure;
use crate::commands::connect::Connect;
use crate::print::outln;

/// The options of all commands that make runs.
#[derive(Debug, Args)]
struct Runs {
    /// Does not wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// Appends rows that a run of the job has appended, or may have appended, before.
    #[arg(long)]
    allow_duplicates: bool,
    #[command(flatten)]
    connect: Connect,
}

/// The options of `job run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The job.
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    /// The time at which expressions are evaluated: yyyyMMddHHmmss or yyyyMMdd in the time zone of the job [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    runs: Runs,
}

/// The options of `job rerun`.
#[derive(Debug, Args)]
pub(super) struct Rerun {
    /// The job.
    name: String,
    /// The run.
    run: i64,
    #[command(flatten)]
    runs: Runs,
}

/// The options of `job backfill`.
#[derive(Debug, Args)]
pub(super) struct Backfill {
    /// The job. It must have a schedule.
    name: String,
    /// The first scheduled time: yyyyMMddHHmmss or yyyyMMdd in the time zone of the job.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The end of the scheduled times, exclusive.
    #[arg(long, value_name = "TIME")]
    to: String,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    runs: Runs,
}

impl Run {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut body = json!({ "parameters": self.parameters.to_json() });
        if let Some(at) = self.at {
            body["scheduled"] = at.into();
        }
        let path = format!("{}/runs", path(&self.name)?);
        self.runs.start(&self.name, &path, &[], body).await
    }
}

impl Rerun {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("{}/runs/{}", path(&self.name)?, self.run);
        self.runs.start(&self.name, &path, &[("type", "rerun")], json!({})).await
    }
}

impl Backfill {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let body = json!({ "from": self.from, "to": self.to, "parameters": self.parameters.to_json() });
        let path = format!("{}/runs", path(&self.name)?);
        self.runs.start(&self.name, &path, &[], body).await
    }
}

impl Runs {
    /// Starts runs, and waits for their end.
    async fn start(
        self,
        job: &str,
        path: &str,
        query: &[(&str, &str)],
        mut body: Value,
    ) -> Result<(), Failure> {
        body["allowDuplicates"] = self.allow_duplicates.into();
        let client: Client = self.connect.client(Access::Admin)?;
        let reply = client.send_json(Method::POST, path, query, &body).await?;
        let runs: Vec<i64> =
            reply["runs"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        if self.no_wait {
            let runs: Vec<String> = runs.iter().map(i64::to_string).collect();
            outln!("{} of {job} will run: follow with `logship job runs {job}`", numbered(&runs));
            return Ok(());
        }
        let mut failed = 0;
        for run in &runs {
            if let Err(error) = follow(&client, job, *run).await {
                if runs.len() == 1 {
                    return Err(error);
                }
                outln!("{error}");
                failed += 1;
            }
        }
        match failed {
            0 => Ok(()),
            failed => Err(format!("{failed} of {} runs failed", runs.len()).into()),
        }
    }
}

fn numbered(runs: &[String]) -> String {
    match runs {
        [run] => format!("run {run}"),
        [first, .., last] => format!("{} runs, {first} to {last},", runs.len()),
        [] => "no run".into(),
    }
}

//! `logship job`: creates, previews, runs and shows synchronization jobs.

mod create;
mod follow;
mod new;
mod preview;
mod run;
mod show;
mod table;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use logship_config::job::Job;
use logship_server::keys::Access;
use reqwest::Method;
use serde_json::{Map, Value};

use super::Failure;
use super::connect::{self, Connect};
use super::stage::Report;
use crate::print::outln;

/// Creates, runs and shows jobs: they write the logs of a time range as rows to a table of MaxCompute.
#[derive(Debug, Args)]
pub(super) struct JobCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a job from its script.
    Create(Box<create::Create>),
    /// Asks for everything that a job needs, and creates it.
    New(new::New),
    /// Lists the jobs of a project.
    List {
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a job, or one of its runs with its shards.
    Show {
        /// The job.
        name: String,
        /// The run.
        run: Option<i64>,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a job. Its rows stay.
    Delete {
        /// The job.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows logs, their rows, and the rows that would be dirty. Writes nothing.
    Preview(preview::Preview),
    /// Runs a job once, and waits for its end.
    Run(run::Run),
    /// Lists the runs of a job, newest first.
    Runs {
        /// The job.
        name: String,
        /// The largest number of runs.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Runs the window of a run again. A run that was committed makes the same rows again.
    Rerun(run::Rerun),
    /// Stops a run. Nothing of it is visible.
    Stop {
        /// The job.
        name: String,
        /// The run.
        run: i64,
        #[command(flatten)]
        connect: Connect,
    },
    /// Runs a job for each of its scheduled times in a range.
    Backfill(run::Backfill),
}

/// Values of parameters.
#[derive(Debug, Args)]
struct Parameters {
    /// The value of a parameter: startTime=20261201000000, or an expression such as 'startTime=$[yyyymmdd-1]'.
    /// Repeatable.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`: use NAME=VALUE"))?;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))
    };
    if !is_name(name) {
        return Err(format!("{name:?} is no name: use letters, digits, `_` and `.`"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl Parameters {
    fn to_json(&self) -> Value {
        let values = self.parameters.iter().map(|(name, value)| (name.clone(), value.clone().into()));
        Value::Object(values.collect::<Map<_, _>>())
    }
}

/// Reads a script.
fn read_script(file: &Path) -> Result<Job, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Job::parse(&text, file)?)
}

/// The file of a script.
#[derive(Debug, Args)]
struct ScriptFile {
    /// The script of a job: JSON, with comments allowed, or TOML.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

impl JobCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(self.command.run())
    }
}

impl Command {
    async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::New(new) => new.run().await,
            Self::List { report, connect } => show::list(&connect.client(Access::Read)?, report).await,
            Self::Show { name, run: None, report, connect } => {
                show::job(&connect.client(Access::Read)?, &name, report).await
            }
            Self::Show { name, run: Some(run), report, connect } => {
                show::run(&connect.client(Access::Read)?, &name, run, report).await
            }
            Self::Delete { name, connect } => {
                let client = connect.client(Access::Admin)?;
                client.send_json(Method::DELETE, &path(&name)?, &[], &Value::Null).await?;
                outln!("deleted {name}; its rows stay");
                Ok(())
            }
            Self::Preview(preview) => preview.run().await,
            Self::Run(run) => run.run().await,
            Self::Runs { name, limit, report, connect } => {
                show::runs(&connect.client(Access::Read)?, &name, limit, report).await
            }
            Self::Rerun(rerun) => rerun.run().await,
            Self::Stop { name, run, connect } => {
                let client = connect.client(Access::Admin)?;
                let path = format!("{}/runs/{run}", path(&name)?);
                client.send_json(Method::POST, &path, &[("type", "stop")], &serde_json::json!({})).await?;
                outln!("stopped run {run} of {name}: nothing of it is visible");
                Ok(())
            }
            Self::Backfill(backfill) => backfill.run().await,
        }
    }
}

/// Returns the path of a job. The name is checked, as it becomes a part of the path.
fn path(name: &str) -> Result<String, Failure> {
    logship_config::job::check_name(name)?;
    Ok(format!("/jobs/{name}"))
}

//! `logship job create`.

use clap::{Args, ValueEnum};
use logship_batch::time_zone::TimeZone;
use logship_client::{Client, ClientError};
use logship_config::job::Job;
use logship_config::job::schedule::{Schedule, ScheduleStart, TimeOfDay};
use logship_config::job::template::Template;
use logship_server::keys::Access;
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::Value;

use super::table::CreateTable;
use super::{Parameters, ScriptFile, path, read_script};
use crate::commands::Failure;
use crate::commands::connect::Connect;
use crate::print::{errln, outln};

/// The options of `job create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    script: ScriptFile,
    /// The name of the job. Default: the script's, or the name of its file.
    #[arg(long)]
    name: Option<String>,
    /// Replaces a job of the same name. Runs that have begun keep their plan.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    schedule: ScheduleOptions,
    #[command(flatten)]
    table: CreateTable,
    #[command(flatten)]
    connect: Connect,
}

/// The schedule of a job.
#[derive(Debug, Args)]
#[command(next_help_heading = "Schedule")]
pub(super) struct ScheduleOptions {
    /// Runs the job at this interval: 5, 6, 10, 12, 15, 20, 30 or 60 minutes, or 120, 180, 240, 360, 480, 720 or 1440.
    #[arg(long, value_name = "MINUTES")]
    every: Option<u64>,
    /// The time of the first run of a day [default: 00:00]
    #[arg(long, value_name = "HH:MM", requires = "every")]
    from: Option<TimeOfDay>,
    /// The time of the last run of a day [default: 23:59]
    #[arg(long, value_name = "HH:MM", requires = "every")]
    until: Option<TimeOfDay>,
    /// The first day [default: now]
    #[arg(long, value_enum, requires = "every")]
    start: Option<Start>,
    /// The largest number of missed runs that are caught up after the service was down [default: 288]
    #[arg(long, value_name = "RUNS", requires = "every")]
    catch_up: Option<u64>,
    /// The time zone of times and expressions: an IANA name, or an offset such as +08:00 [default: the script's, or UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<TimeZone>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Start {
    /// At once.
    Now,
    /// On the next day.
    NextDay,
}

impl ScheduleOptions {
    /// Sets the schedule and the time zone of a job.
    pub(super) fn apply_to(&self, job: &mut Job) {
        if let Some(zone) = self.time_zone {
            job.time_zone = zone;
        }
        let Some(every) = self.every else { return };
        let mut schedule = Schedule::every(every);
        schedule.from = self.from.unwrap_or(schedule.from);
        schedule.until = self.until.unwrap_or(schedule.until);
        schedule.catch_up = self.catch_up.unwrap_or(schedule.catch_up);
        schedule.start = match self.start {
            Some(Start::NextDay) => ScheduleStart::NextDay,
            Some(Start::Now) | None => ScheduleStart::Now,
        };
        job.schedule = Some(schedule);
    }
}

impl Create {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut job = read_script(&self.script.file)?;
        if let Some(name) = self.name {
            job.name = name;
        }
        for (name, value) in &self.parameters.parameters {
            let value =
                Template::parse_value(value).map_err(|problem| format!("--param {name}: {problem}"))?;
            job.parameters.insert(name.clone(), value);
        }
        self.schedule.apply_to(&mut job);
        job.check()?;
        let client = self.connect.client(Access::Admin)?;
        self.table.run(&client, &job).await?;
        create(&client, &job, self.replace).await
    }
}

/// Creates a job, or replaces it.
pub(super) async fn create(client: &Client, job: &Job, replaces: bool) -> Result<(), Failure> {
    let script = serde_json::to_value(job)?;
    let path = path(&job.name)?;
    let exists = replaces
        && match client.get::<Value>(&path, &[]).await {
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::JobNotExist => false,
            found => found.map(|_| true)?,
        };
    let (reply, verb) = match exists {
        true => (client.send_json(Method::PUT, &path, &[], &script).await?, "replaced"),
        false => {
            let query = [("name", job.name.as_str())];
            (client.send_json(Method::POST, "/jobs", &query, &script).await?, "created")
        }
    };
    for warning in reply["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        errln!("warning: {warning}");
    }
    outln!("{verb} {}: {}", job.name, described(job));
    match (
        &job.schedule,
        reply["nextRun"].as_i64().and_then(|next| chrono::DateTime::from_timestamp(next, 0)),
    ) {
        (Some(schedule), Some(next)) => {
            let next = job.time_zone.local(next).format("%Y-%m-%d %H:%M");
            outln!("runs {schedule}, first at {next} ({})", job.time_zone);
        }
        _ => outln!("run it with `logship job run {}`", job.name),
    }
    Ok(())
}

fn described(job: &Job) -> String {
    let (reader, writer) = (job.reader(), job.writer());
    let place = match writer.partition.as_str() {
        "" => String::new(),
        partition => format!(", partition {partition}"),
    };
    format!("{} to table {}{place} of {}", reader.logstore, writer.table, writer.datasource)
}

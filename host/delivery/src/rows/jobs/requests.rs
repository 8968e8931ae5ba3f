//! What clients ask for: new jobs, runs, backfills, reruns, stops, previews and tables.

use std::sync::Arc;

use logship_config::job::template::{Template, parse_time};
use logship_config::job::{Job, JobError};
use logship_logstore::{JobRun, NewRun, RunState, RunTrigger, StoreError, SyncJob};
use serde_json::Value;

use super::blocks::blocking;
use super::ddl;
use super::duplicates::check_duplicates;
use super::error::RunError;
use super::plan::RunPlan;
use super::preview::{self, JobPreview};
use super::runner::{Jobs, LONGEST_WAIT};
use super::schedule;
use super::target::{Target, context, parameters, shown, stored_job, table_name};

/// The largest number of runs of a backfill.
pub const MAX_BACKFILL: usize = 10_000;

/// A run that a client asks for.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// The values of parameters, which override the job's.
    pub parameters: Value,
    /// The time that expressions are evaluated at, in Unix seconds. Default: now.
    pub scheduled: Option<u64>,
    /// True if rows that a run has appended before may be appended again.
    pub allow_duplicates: bool,
}

impl Jobs {
    /// Checks a job: its data sources and its Logstore exist, and the values of its schedule can be evaluated. Does not
    /// connect to the table. Returns warnings.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self, project: &str, job: &Job) -> Result<Vec<String>, RunError> {
        job.check()?;
        if let Some(reader_project) = self.reader_project(project, job)? {
            self.store.catalog().logstore(&reader_project, &job.reader().logstore)?;
        }
        self.planner.tables(project, &job.writer().datasource)?;
        let mut warnings = job.warnings();
        if let Some(schedule) = &job.schedule {
            let parameters = parameters(job, &Value::Null)?;
            let now = self.store.clock() / 1_000_000;
            let times = schedule::times(schedule, job, now, u64::MAX, 1);
            let targets = times.iter().map(|time| Target::evaluate(job, context(job, *time, &parameters)));
            let targets = targets.collect::<Result<Vec<_>, _>>()?;
            warnings.extend(schedule_warnings(job, &targets));
        } else {
            check_constants(job)?;
        }
        Ok(warnings)
    }

    /// Returns the first scheduled time of a new or changed job, in Unix seconds.
    pub fn first_scheduled(&self, job: &Job) -> Option<u64> {
        let now = self.store.clock() / 1_000_000;
        let created = chrono::DateTime::from_timestamp(now as i64, 0).unwrap_or_default();
        let first = job.schedule.as_ref()?.first(job.time_zone, created);
        first.timestamp().try_into().ok()
    }

    /// Creates a run of a job.
    ///
    /// # Errors
    /// If a run of the job has not ended, the window can't be written, or the rows were appended before.
    pub async fn run(&self, job: &SyncJob, request: RunRequest) -> Result<i64, RunError> {
        let parsed = stored_job(job)?;
        let now = self.store.clock() / 1_000_000;
        let scheduled = request.scheduled.unwrap_or(now);
        let given = parameters(&parsed, &request.parameters)?;
        let target = Target::evaluate(&parsed, context(&parsed, scheduled, &given))?;
        if target.window.begin == target.window.end {
            let problem =
                format!("the window is empty: it begins and ends at {}", shown(target.window.end, &parsed));
            return Err(JobError::member("reader.endDateTime", problem).into());
        }
        if target.window.end > now + LONGEST_WAIT {
            return Err(RunError::Future { end: target.window.end });
        }
        self.check_new(job, &parsed, std::slice::from_ref(&target), request.allow_duplicates).await?;
        let parameters =
            if request.parameters.is_null() { serde_json::json!({}) } else { request.parameters };
        let run = NewRun { scheduled, trigger: RunTrigger::Manual, parameters, plan: None };
        self.create(job, vec![run]).await.map(|runs| runs[0])
    }

    /// Creates the runs of all scheduled times from `from` to `to`, exclusive: `yyyyMMddHHmmss` or `yyyyMMdd`.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the job has no schedule, or there are too many times.
    pub async fn backfill(
        &self,
        job: &SyncJob,
        (from, to): (&str, &str),
        request: RunRequest,
    ) -> Result<Vec<i64>, RunError> {
        let parsed = stored_job(job)?;
        let time = |member: &str, text: &str| {
            let time =
                parse_time(text, parsed.time_zone).map_err(|problem| JobError::member(member, problem))?;
            u64::try_from(time.timestamp()).map_err(|_| JobError::member(member, "is before 1970"))
        };
        let (from, to) = (time("from", from)?, time("to", to)?);
        let Some(schedule) = &parsed.schedule else {
            let problem =
                "the job has none, so it has no scheduled times: run it with values for its parameters";
            return Err(JobError::member("schedule", problem).into());
        };
        let now = self.store.clock() / 1_000_000;
        let times = schedule::times(schedule, &parsed, from, to.min(now + 1), MAX_BACKFILL);
        if times.is_empty() || times.len() > MAX_BACKFILL {
            let problem = match times.len() {
                0 => "there is no scheduled time between `from` and `to` that has passed".to_owned(),
                _ => format!("there are more than {MAX_BACKFILL} scheduled times: choose a shorter range"),
            };
            return Err(JobError::member("to", problem).into());
        }
        let given = parameters(&parsed, &request.parameters)?;
        let targets = times.iter().map(|time| Target::evaluate(&parsed, context(&parsed, *time, &given)));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        self.check_new(job, &parsed, &targets, request.allow_duplicates).await?;
        let parameters =
            if request.parameters.is_null() { serde_json::json!({}) } else { request.parameters };
        let run = |scheduled| NewRun {
            scheduled,
            trigger: RunTrigger::Backfill,
            parameters: parameters.clone(),
            plan: None,
        };
        self.create(job, times.into_iter().map(run).collect()).await
    }

    /// Runs a window again. A run that was committed is repeated with its plan, and makes the same rows. Another one gets
    /// a new plan, from the job as it is now.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn rerun(&self, job: &SyncJob, run: &JobRun, allow_duplicates: bool) -> Result<i64, RunError> {
        let parsed = stored_job(job)?;
        let is_written = matches!(run.state, RunState::Success | RunState::Unclear);
        let plan = run.plan.clone().filter(|_| is_written);
        let target = match plan.as_deref().map(RunPlan::parse) {
            Some(Ok(plan)) => Target { window: plan.window, table: plan.table },
            _ => Target::of_run(&parsed, run)?,
        };
        self.check_new(job, &parsed, &[target], allow_duplicates).await?;
        let again = NewRun {
            scheduled: run.scheduled,
            trigger: RunTrigger::Rerun,
            parameters: run.parameters.clone(),
            plan,
        };
        self.create(job, vec![again]).await.map(|runs| runs[0])
    }

    /// Stops a run. Nothing of it is visible.
    ///
    /// # Errors
    /// If it has ended, or is being committed.
    pub async fn stop(&self, job: &SyncJob, run: i64) -> Result<(), StoreError> {
        self.store.stop_run(job.number(), run).await?;
        self.cancel(run);
        self.wake();
        Ok(())
    }

    /// Previews the first `logs` logs of a run. Reads the schema of the table, and writes nothing.
    ///
    /// # Errors
    /// If the job does not fit the Logstore or the table.
    pub async fn preview(
        &self,
        project: &str,
        job: &Job,
        request: &RunRequest,
        logs: usize,
    ) -> Result<(RunPlan, JobPreview), RunError> {
        let now = self.store.clock() / 1_000_000;
        let given = parameters(job, &request.parameters)?;
        let context = context(job, request.scheduled.unwrap_or(now), &given);
        let plan = self.planner.plan(project, job, context).await?;
        let (blocks, sample) = (Arc::clone(&self.planner.blocks), plan.clone());
        let made = blocking(move || preview::preview(&*blocks, &sample, logs)).await?;
        Ok((plan, made))
    }

    /// Returns the statement that creates the table of a job, and runs it if `runs`.
    ///
    /// # Errors
    /// If the script does not name the columns, or the statement fails.
    pub async fn create_table(
        &self,
        project: &str,
        job: &Job,
        request: &RunRequest,
        runs: bool,
    ) -> Result<String, RunError> {
        let statement = self.table_statement(job, request)?;
        if runs {
            self.planner.tables(project, &job.writer().datasource)?.run_sql(&statement).await?;
        }
        Ok(statement)
    }

    fn table_statement(&self, job: &Job, request: &RunRequest) -> Result<String, JobError> {
        let now = self.store.clock() / 1_000_000;
        let given = parameters(job, &request.parameters)?;
        let context = context(job, request.scheduled.unwrap_or(now), &given);
        let text = |member: &str, template: &Template| {
            template.evaluate(context).map_err(|problem| JobError::member(member, problem))
        };
        let table = table_name(text("writer.table", &job.writer().table)?)?;
        // Only the names of the partition's columns matter, so its parameters need no values.
        ddl::create_table(job, &table, Some(job.writer().partition.as_str()).filter(|text| !text.is_empty()))
    }

    async fn check_new(
        &self,
        job: &SyncJob,
        parsed: &Job,
        targets: &[Target],
        allow: bool,
    ) -> Result<(), RunError> {
        if allow {
            return Ok(());
        }
        let number = job.number();
        let written = self.read(move |store| store.written_runs(number)).await?;
        check_duplicates(parsed, targets, &written)
    }

    async fn create(&self, job: &SyncJob, runs: Vec<NewRun>) -> Result<Vec<i64>, RunError> {
        let created = self.store.create_runs(job, runs).await?;
        self.wake();
        Ok(created)
    }
}

/// Checks the target of a job without a schedule, as far as it needs no parameters.
fn check_constants(job: &Job) -> Result<(), JobError> {
    let constant = |template: &Template| !template.as_str().contains('$');
    let (reader, writer) = (job.reader(), job.writer());
    if constant(&writer.table) {
        table_name(writer.table.as_str().to_owned())?;
    }
    let templates = [&writer.table, &writer.partition, &reader.begin_date_time, &reader.end_date_time];
    if templates.into_iter().all(constant) {
        Target::evaluate(job, context(job, 0, &job.parameters))?;
    }
    Ok(())
}

/// Warns of schedules that lose rows.
fn schedule_warnings(job: &Job, targets: &[Target]) -> Vec<String> {
    let [first, second] = targets else { return vec![] };
    let mut warnings = vec![];
    if job.writer().truncate && first.table == second.table {
        warnings.push(format!(
            "each run replaces the rows of the run before in {}: name a partition for each run, as in pt=${{startTime}}, or set `truncate` to false",
            first.table.place()
        ));
    }
    if first.window.end < second.window.begin {
        let (end, begin) = (shown(first.window.end, job), shown(second.window.begin, job));
        warnings.push(format!(
            "no run has the logs from {end} to {begin}: the windows of successive runs leave a gap"
        ));
    }
    if first.window.overlaps(second.window) {
        let (begin, end) = (shown(second.window.begin, job), shown(first.window.end, job));
        warnings.push(format!(
            "two runs have the logs from {begin} to {end}: the windows of successive runs overlap"
        ));
    }
    warnings
}

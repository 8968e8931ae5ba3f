//! Runs the runs of jobs: at most one of a job at a time.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_config::job::Job;
use logship_logstore::{JobRun, RunEnd, RunState, RunTrigger, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::attempt::{Attempt, Tools};
use super::blocks::BlockReaders;
use super::destination::Destinations;
use super::duplicates::check_duplicates;
use super::error::RunError;
use super::plan::RunPlan;
use super::planner::{Logs, Planner};
use super::schedule::create_due;
use super::step::RunStep;
use super::target::{Target, context, parameters, stored_job};
use crate::dead_letter::DeadLetters;
use crate::engine::{RetryPolicy, panics};
use crate::rows::Sources;

/// The number of runs of all jobs that run at the same time.
const MAX_RUNS: usize = 8;

/// The longest sleep of the scheduler. The clock may be set in the meantime.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// The longest wait for the end of a window, in seconds. A window may end a little after its scheduled time.
pub(super) const LONGEST_WAIT: u64 = 3600;

/// The jobs of a service.
#[derive(Debug)]
pub struct Jobs {
    pub(super) store: Arc<Store>,
    pub(super) planner: Planner,
    tools: Tools,
    retry: RetryPolicy,
    /// The runs in progress, by number.
    running: Mutex<HashMap<i64, watch::Sender<bool>>>,
    wake: Notify,
    stopping: watch::Sender<bool>,
}

/// The running scheduler.
#[derive(Debug)]
pub struct RunningJobs {
    jobs: Arc<Jobs>,
    scheduler: JoinHandle<()>,
}

impl Jobs {
    /// Creates the jobs of a store. Failed runs are retried after `retry` seconds, and longer each time, until they are
    /// `retry_for` seconds old.
    pub fn new(
        store: Arc<Store>,
        sources: Arc<dyn Sources>,
        destinations: Arc<dyn Destinations>,
        blocks: Arc<dyn BlockReaders>,
        letters: Arc<DeadLetters>,
        (retry, retry_for): (u64, u64),
    ) -> Self {
        let planner =
            Planner { store: Arc::clone(&store), sources, destinations, blocks: Arc::clone(&blocks) };
        Self {
            tools: Tools { store: Arc::clone(&store), blocks, letters },
            store,
            planner,
            retry: RetryPolicy { initial: retry, retry_for },
            running: Mutex::default(),
            wake: Notify::new(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Starts the scheduler. Runs that were interrupted go on.
    pub fn start(self: &Arc<Self>) -> RunningJobs {
        let jobs = Arc::clone(self);
        let scheduler = tokio::spawn(async move {
            while !*jobs.stopping.borrow() {
                let next = match AssertUnwindSafe(jobs.tick()).catch_unwind().await {
                    Ok(Ok(next)) => next,
                    Ok(Err(StoreError::Closed)) => return,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "the jobs can't be scheduled");
                        None
                    }
                    Err(_) => {
                        tracing::error!("the scheduler of jobs panicked: please report this bug of logship");
                        None
                    }
                };
                jobs.sleep_until(next).await;
            }
        });
        RunningJobs { jobs: Arc::clone(self), scheduler }
    }

    async fn sleep_until(&self, next: Option<u64>) {
        let until =
            next.map(|next| Duration::from_micros((next * 1_000_000).saturating_sub(self.store.clock())));
        let sleep =
            until.map_or(LONGEST_SLEEP, |until| until.clamp(Duration::from_millis(10), LONGEST_SLEEP));
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = self.wake.notified() => {}
        }
    }

    /// Returns the project of this service that a job reads, if it reads one.
    ///
    /// # Errors
    /// If its data source does not exist, or has no logs.
    pub fn reader_project(&self, project: &str, job: &Job) -> Result<Option<String>, RunError> {
        match self.planner.logs(project, job)? {
            Logs::Local(project) => Ok(Some(project)),
            Logs::Remote { .. } => Ok(None),
        }
    }

    /// Lets the scheduler look for work.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Creates the due runs, and begins those whose turn it is. Returns the next time at which something is due, in Unix
    /// seconds.
    pub(super) async fn tick(self: &Arc<Self>) -> Result<Option<u64>, StoreError> {
        let now = self.store.clock() / 1_000_000;
        let (jobs, store) = (self.read(|store| store.jobs(None)).await?, Arc::clone(&self.store));
        let next = create_due(&store, &jobs, now).await?;
        let active = self.read(Store::active_runs).await?;
        self.save_unread(&active).await?;
        let retries = active.iter().filter_map(|run| run.next_attempt).map(|next| next.div_ceil(1_000_000));
        let next = next.into_iter().chain(retries.filter(|next| *next > now)).min();
        let mut running = self.running();
        let mut busy: HashSet<i64> =
            active.iter().filter(|run| running.contains_key(&run.id)).map(|run| run.job).collect();
        for run in active {
            let is_due = run.next_attempt.is_none_or(|next| next <= self.store.clock());
            if !is_due || running.contains_key(&run.id) || running.len() >= MAX_RUNS || !busy.insert(run.job)
            {
                continue;
            }
            let cancel = watch::Sender::new(false);
            running.insert(run.id, cancel.clone());
            tokio::spawn(Arc::clone(self).attempt(run, cancel.subscribe()));
        }
        Ok(next)
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<i64, watch::Sender<bool>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the store in a thread for blocking work.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || read(&store)).await.unwrap_or(Err(StoreError::Closed))
    }

    /// Cancels a run in progress.
    pub(super) fn cancel(&self, run: i64) {
        if let Some(cancel) = self.running().get(&run) {
            cancel.send_replace(true);
        }
    }

    async fn attempt(self: Arc<Self>, run: JobRun, mut cancelled: watch::Receiver<bool>) {
        let mut stopping = self.stopping.subscribe();
        let id = run.id;
        let performed = AssertUnwindSafe(self.perform(&run)).catch_unwind();
        let result = tokio::select! {
            result = performed => result.unwrap_or_else(|panic| Err(RunError::Panicked(panics::message(&*panic)))),
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(RunError::Stopped),
            _ = stopping.wait_for(|stopping| *stopping) => Err(RunError::Stopping),
        };
        if let Err(error) = self.end(&run, result).await {
            tracing::error!(run = id, %error, "the end of a run can't be saved: it is attempted again after the next start");
        }
        self.running().remove(&id);
        self.wake();
    }

    async fn perform(&self, run: &JobRun) -> Result<(), RunError> {
        let (project, name) = (run.project.clone(), run.job_name.clone());
        let stored = self.read(move |store| store.job(&project, &name)).await?;
        let job = stored_job(&stored)?;
        let now = self.store.clock() / 1_000_000;
        // An error of the target is the planner's to report.
        if run.plan.is_none()
            && let Ok(Target { window, .. }) = Target::of_run(&job, run)
            && (now..now + LONGEST_WAIT).contains(&(window.end.saturating_sub(1)))
        {
            return Err(RunError::Future { end: window.end });
        }
        // In the queue of the writer behind all logs that arrived before the end of the window.
        if !self.store.start_run(run.id).await? {
            return Err(RunError::Stopped);
        }
        tracing::info!(job = run.job_name, run = run.id, "a run of a job begins");
        let plan = match &run.plan {
            Some(content) => RunPlan::parse(content)
                .map_err(|error| RunError::Stage(format!("can't read the plan of the run: {error}")))?,
            None => self.plan(run, &job, now).await?,
        };
        let tables = self.planner.tables(&run.project, &plan.source)?;
        Attempt::new(self.tools.clone(), run.clone(), job, plan, tables).perform().await
    }

    async fn plan(&self, run: &JobRun, job: &Job, now: u64) -> Result<RunPlan, RunError> {
        let parameters = parameters(job, &run.parameters)?;
        let plan = self.planner.plan(&run.project, job, context(job, run.scheduled, &parameters)).await?;
        if plan.window.end > now {
            return Err(RunError::Future { end: plan.window.end });
        }
        if matches!(run.trigger, RunTrigger::Schedule | RunTrigger::Backfill) {
            self.planner.check_kept(&plan, now).await?;
        }
        if run.trigger == RunTrigger::Schedule {
            // The windows of a schedule join. Requests may have written some of them before.
            let number = run.job;
            let written = self.read(move |store| store.requested_written_runs(number)).await?;
            let target = Target { window: plan.window, table: plan.table.clone() };
            check_duplicates(job, &[target], &written)?;
        }
        if !self.store.save_run_plan(run.id, plan.to_json()).await? {
            return Err(RunError::Stopped);
        }
        RunStep::PlanSaved.reached();
        Ok(plan)
    }

    /// Saves the end of an attempt.
    async fn end(&self, run: &JobRun, result: Result<(), RunError>) -> Result<(), StoreError> {
        let now = self.store.clock();
        let error = match result {
            Ok(()) => {
                tracing::info!(job = run.job_name, run = run.id, "a run of a job is committed");
                let end = RunEnd {
                    state: RunState::Success,
                    code: String::new(),
                    message: String::new(),
                    next_attempt: None,
                };
                return self.store.end_run(run.id, end).await.map(drop);
            }
            Err(error) if error.is_interrupted() => return Ok(()),
            Err(RunError::Future { end }) if end <= now / 1_000_000 + LONGEST_WAIT => {
                return self.store.defer_run(run.id, end * 1_000_000).await;
            }
            Err(error) => error,
        };
        let end = self.failure(run, &error, now).await?;
        tracing::warn!(job = run.job_name, run = run.id, code = error.code(), %error, retried = end.next_attempt.is_some(), "a run of a job failed");
        self.store.end_run(run.id, end).await.map(drop)
    }

    /// Returns how an attempt ends with an error.
    async fn failure(&self, run: &JobRun, error: &RunError, now: u64) -> Result<RunEnd, StoreError> {
        let (created, seconds) = (run.created / 1_000_000, now / 1_000_000);
        let next = if error.needs_new_session() && run.failures == 0 {
            Some(seconds)
        } else {
            self.retry.next(None, run.failures + 1, created, seconds)
        };
        let next = next.filter(|_| error.is_retryable());
        let state = match next {
            Some(_) => RunState::Waiting,
            None if matches!(error, RunError::Unclear { .. }) || self.may_be_committed(run).await? => {
                RunState::Unclear
            }
            None => RunState::Failed,
        };
        let message: String = error.to_string().chars().take(MAX_MESSAGE).collect();
        Ok(RunEnd {
            state,
            code: error.code().into(),
            message,
            next_attempt: next.map(|next| next * 1_000_000),
        })
    }

    /// Returns true if the rows of a run may be visible although its commit has no answer.
    async fn may_be_committed(&self, run: &JobRun) -> Result<bool, StoreError> {
        let (job, id) = (run.job, run.id);
        Ok(self.read(move |store| store.run(job, id)).await?.is_committing)
    }
}

/// The longest message, in characters. Messages of stages may have any length.
const MAX_MESSAGE: usize = 2000;

impl RunningJobs {
    /// Stops the scheduler, and interrupts the runs. The next start resumes them.
    pub async fn end(self) {
        self.jobs.stopping.send_replace(true);
        self.jobs.wake();
        self.scheduler.abort();
        while !self.jobs.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

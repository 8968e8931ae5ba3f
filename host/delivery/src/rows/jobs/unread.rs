//! The logs that jobs have not read yet: retention keeps them.

use logship_config::job::Job;
use logship_logstore::{JobRun, RunTrigger, StoreError, SyncJob, Unread};

use super::plan::RunPlan;
use super::planner::local_project;
use super::runner::Jobs;
use super::target::{Target, context, stored_job};

/// The number of runs that are searched for the newest one of the schedule.
const SEARCHED_RUNS: usize = 50;

impl Jobs {
    /// Saves which logs of this service jobs have not read, where that has changed.
    pub(super) async fn save_unread(&self, active: &[JobRun]) -> Result<(), StoreError> {
        let jobs = self.read(|store| store.jobs(None)).await?;
        let saved = self.read(|store| store.unread()).await?;
        let mut changes = vec![];
        // A waiting job keeps what it has kept: the operator decides.
        for job in jobs.iter().filter(|job| !job.waits) {
            let unread = self.unread(job, active).await?;
            if saved.get(&job.number()) != unread.as_ref() {
                changes.push((job.number(), unread));
            }
        }
        if changes.is_empty() { Ok(()) } else { self.store.save_unread(changes).await }
    }

    async fn unread(&self, job: &SyncJob, active: &[JobRun]) -> Result<Option<Unread>, StoreError> {
        let Ok(parsed) = stored_job(job) else { return Ok(None) };
        let source = &parsed.reader().datasource;
        let Some(project) = local_project(&*self.planner.sources, &job.project, source) else {
            return Ok(None);
        };
        let runs = active.iter().filter(|run| run.job == job.number());
        let mut since: Vec<u64> =
            runs.filter_map(|run| window_of(run, &parsed)).map(|(begin, _)| begin).collect();
        if let Some(next) = job.next.filter(|_| parsed.schedule.is_some()) {
            since.extend(self.unread_of_schedule(job, &parsed, next).await?);
        }
        let logstore = parsed.reader().logstore.clone();
        Ok(since.into_iter().min().map(|since| Unread { project, logstore, since }))
    }

    /// Returns the receipt of the first log that only later runs of the schedule read. Windows that overlap do not keep logs
    /// that a run has read.
    async fn unread_of_schedule(
        &self,
        job: &SyncJob,
        parsed: &Job,
        next: u64,
    ) -> Result<Option<u64>, StoreError> {
        let Ok(target) = Target::evaluate(parsed, context(parsed, next, &parsed.parameters)) else {
            return Ok(None);
        };
        let number = job.number();
        let (_, runs) = self.read(move |store| store.runs(number, 0, SEARCHED_RUNS)).await?;
        let last = runs.iter().find(|run| run.trigger == RunTrigger::Schedule);
        let read_to = last.and_then(|run| window_of(run, parsed)).map_or(0, |(_, end)| end);
        Ok(Some(target.window.begin.max(read_to)))
    }
}

/// Returns the window of a run.
fn window_of(run: &JobRun, job: &Job) -> Option<(u64, u64)> {
    let planned = run.plan.as_deref().and_then(|plan| RunPlan::parse(plan).ok()).map(|plan| plan.window);
    let window = planned.or_else(|| Target::of_run(job, run).ok().map(|target| target.window))?;
    Some((window.begin, window.end))
}

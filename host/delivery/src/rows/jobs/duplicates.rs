//! Rows that would be appended twice.

use logship_config::job::Job;
use logship_logstore::{JobRun, RunState};

use super::error::RunError;
use super::plan::RunPlan;
use super::target::{Target, shown};

/// Fails if a job that appends has written, or may have written, logs of these windows to the same partition.
///
/// # Errors
/// [`RunError::Duplicates`], with the run before.
pub(super) fn check_duplicates(job: &Job, targets: &[Target], written: &[JobRun]) -> Result<(), RunError> {
    if targets.iter().all(|target| target.table.overwrite) {
        return Ok(());
    }
    for run in written {
        let Some(Ok(plan)) = run.plan.as_deref().map(RunPlan::parse) else { continue };
        let is_same = |target: &Target| {
            let (ours, theirs) = (&target.table, &plan.table);
            !ours.overwrite
                && (&ours.table, &ours.partition) == (&theirs.table, &theirs.partition)
                && target.window.overlaps(plan.window)
        };
        if targets.iter().any(is_same) {
            let verb = if run.state == RunState::Success { "appended" } else { "perhaps appended" };
            return Err(RunError::Duplicates {
                run: run.id,
                verb,
                begin: shown(plan.window.begin, job),
                end: shown(plan.window.end, job),
                place: plan.table.place(),
            });
        }
    }
    Ok(())
}

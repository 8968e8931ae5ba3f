//! The table of a run, for its dirty rows: the run's partition, with the mapping that the job has now.

use std::sync::Arc;

use logship_logstore::{JobRun, RunState, Store, StoreError};
use logship_sink::maxcompute::TableRef;

use super::destination::Tables;
use super::error::RunError;
use super::plan::RunPlan;
use super::planner::map_columns;
use super::runner::Jobs;
use super::target::{context, parameters, stored_job};
use crate::rows::encode_maxcompute::utc_offset;

/// The table of a run.
#[derive(Debug)]
pub(crate) struct RunTable {
    /// The plan of the run, with the present schema, mapping and row encoder. It appends.
    pub(crate) plan: RunPlan,
    /// The project of the table.
    pub(crate) tables: Arc<dyn Tables>,
}

impl Jobs {
    /// Returns the table that the dirty rows of a run belong to, by the shards and cursors of their logs. Returns `None`
    /// if a later run has encoded the same logs again: they are rows now, or dirty rows of that run.
    ///
    /// # Errors
    /// If the other rows of the run are not in the table, or the job does not fit it.
    pub(crate) async fn table_of_run(
        &self,
        project: &str,
        name: &str,
        (id, logs): (i64, &[(u32, u64)]),
    ) -> Result<Option<RunTable>, RunError> {
        let (project_name, name) = (project.to_owned(), name.to_owned());
        let job = self.read(move |store| store.job(&project_name, &name)).await?;
        let number = job.number();
        let run = self.read(move |store| store.run(number, id)).await?;
        let written = self.read(move |store| store.written_runs(number)).await?;
        let active = self.read(Store::active_runs).await?;
        let plan = plan_of(&run).ok_or(RunError::NotWritten { run: id, state: run.state.as_str() })?;
        let may_write = |other: &&JobRun| {
            other.job == number && plan_of(other).is_none_or(|other| is_same_place(&other, &plan))
        };
        if let Some(other) = active.iter().find(may_write) {
            return Err(StoreError::ActiveRun { job: job.name, run: other.id }.into());
        }
        if is_encoded_again((&run, &plan), &written, logs)? {
            return Ok(None);
        }
        if run.state != RunState::Success {
            return Err(RunError::NotWritten { run: id, state: run.state.as_str() });
        }
        let parsed = stored_job(&job)?;
        let parameters = parameters(&parsed, &run.parameters)?;
        let context = context(&parsed, run.scheduled, &parameters);
        let tables = self.planner.tables(project, &plan.source)?;
        let schema = tables.schema(&plan.table.table).await?;
        let mapping = map_columns(&parsed, &schema, context)?;
        let plan = RunPlan {
            mapping,
            schema,
            stage: self.planner.blocks.stage()?,
            protocol: tables.protocol(),
            utc_offset: utc_offset(parsed.time_zone, context.scheduled),
            table: TableRef { overwrite: false, ..plan.table },
            ..plan
        };
        Ok(Some(RunTable { plan, tables }))
    }
}

/// Returns true if two runs write to the same partition.
fn is_same_place(one: &RunPlan, other: &RunPlan) -> bool {
    one.source == other.source
        && (&one.table.table, &one.table.partition) == (&other.table.table, &other.table.partition)
}

fn plan_of(run: &JobRun) -> Option<RunPlan> {
    run.plan.as_deref().and_then(|plan| RunPlan::parse(plan).ok())
}

/// Returns true if a later run has written the rows of all these logs to the same place, in place of a run's rows.
fn is_encoded_again(
    (run, plan): (&JobRun, &RunPlan),
    written: &[JobRun],
    logs: &[(u32, u64)],
) -> Result<bool, RunError> {
    let later = written.iter().filter(|later| later.id > run.id && later.state == RunState::Success);
    for later in later {
        let Some(theirs) = plan_of(later) else { continue };
        // A run that appends leaves the rows of one that succeeded.
        if !is_same_place(&theirs, plan) || (!theirs.table.overwrite && run.state == RunState::Success) {
            continue;
        }
        let is_same_logstore = (&theirs.project, &theirs.logstore) == (&plan.project, &plan.logstore);
        let has = |(shard, cursor): &(u32, u64)| {
            theirs
                .shards
                .iter()
                .any(|range| range.shard == *shard && (range.begin..range.end).contains(cursor))
        };
        if is_same_logstore && logs.iter().all(has) {
            return Ok(true);
        }
        if theirs.table.overwrite || logs.iter().any(has) {
            return Err(RunError::Replaced { run: run.id, by: later.id });
        }
    }
    Ok(false)
}

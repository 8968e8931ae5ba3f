//! Provenance metadata of objects.

use logship_logstore::{Heads, LogPosition, Task};

use crate::objects::object;
use crate::objects::plan::ObjectPlan;
use logship_sink::object::{HEAD, HEAD_BEFORE, Provenance};

/// Name, version and digest of each stage of a plan.
pub(super) fn stages_of(plan: &ObjectPlan) -> String {
    let stages = plan.pipeline.stages();
    let stages =
        stages.map(|stage| format!("{}@{} sha256:{}", stage.name(), stage.version(), stage.digest()));
    stages.collect::<Vec<_>>().join(", ")
}

/// The provenance metadata of an object. `heads` are those of the shard's chain before and after the range.
pub(super) fn provenance(
    task: &Task,
    end: LogPosition,
    heads: Option<Heads>,
    stages: String,
    made: &object::FinishedObject,
) -> Provenance {
    let mut provenance = vec![
        ("logship-task", task.id.to_string()),
        ("logship-source", format!("{}/{}/{}", task.project, task.logstore, task.shard)),
        ("logship-range", format!("{}-{end}", task.begin)),
        ("logship-stages", stages),
        ("logship-rows", made.rows.to_string()),
        ("logship-sha256", made.file.sha256.clone()),
    ];
    if let Some(heads) = heads {
        provenance.push((HEAD_BEFORE, heads.before.to_string()));
        provenance.push((HEAD, heads.after.to_string()));
    }
    provenance
}

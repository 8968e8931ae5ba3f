//! Where objects come from.

use logship_logstore::{Place, Task};

use super::plan::Plan;
use crate::destination::Provenance;
use crate::object;

/// The stages of a plan: name, version and digest of each.
pub(super) fn stages_of(plan: &Plan) -> String {
    let stages = plan.pipeline.stages();
    let stages =
        stages.map(|stage| format!("{}@{} sha256:{}", stage.name(), stage.version(), stage.digest()));
    stages.collect::<Vec<_>>().join(", ")
}

/// What the metadata of an object say.
pub(super) fn provenance(task: &Task, end: Place, stages: String, made: &object::Made) -> Provenance {
    vec![
        ("logship-task", task.id.to_string()),
        ("logship-source", format!("{}/{}/{}", task.project, task.logstore, task.shard)),
        ("logship-range", format!("{}-{end}", task.begin)),
        ("logship-stages", stages),
        ("logship-rows", made.rows.to_string()),
        ("logship-sha256", made.whole.sha256.clone()),
    ]
}

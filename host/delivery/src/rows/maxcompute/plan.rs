//! The plans of tasks that write rows to MaxCompute.

use std::sync::Arc;

use logship_config::maxcompute::Protocol;
use logship_config::maxcompute_rule::MaxComputeRule;
use logship_logstore::TaskId;
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::maxcompute::{TableRef, TableSchema};
use logship_sink::object::ObjectInfo;
use logship_source::shard_reader::{ShardReader, Slice};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blocks::Blocks;
use super::commit::commit_all;
use super::error::RowError;
use super::route::Route;
use super::rule::MaxComputeRows;
use super::upload::Upload;
use crate::dead_letter::{Origin, RowWork};
use crate::engine::batch::Attempt;
use crate::engine::error::{Failure, PlanError, TaskError};
use crate::engine::plan::Plan;
use crate::engine::work::{BatchPlan, Prepared};
use crate::rows::DirtyRow;
use crate::rows::encode::RowEncoding;
use crate::rows::encode_maxcompute;

/// The rule in the stored plan of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlannedRule {
    /// The rule, with stages pinned by digest.
    pub(super) odps: MaxComputeRule,
    /// The settings of the row encoder, without its columns.
    pub(super) settings: Map<String, Value>,
    /// The format of the blocks.
    pub(super) protocol: Protocol,
}

/// A plan with its stages.
#[derive(Debug)]
pub(super) struct RowPlan {
    pub(super) work: Arc<MaxComputeRows>,
    pub(super) project: String,
    pub(super) planned: PlannedRule,
    /// The rule as it is now, whose connection may be newer.
    pub(super) current: MaxComputeRule,
    /// The stages, opened for a table that stands for the rule's.
    pub(super) stages: RowEncoding,
    pub(super) content: String,
}

impl RowPlan {
    /// Returns the stages for a table.
    pub(super) fn encoding(&self, schema: &TableSchema) -> Result<RowEncoding, TaskError> {
        encoding(&self.work.registry, &self.planned, schema)
    }

    pub(super) fn table(&self) -> TableRef {
        let rule = &self.planned.odps;
        TableRef { table: rule.table.clone(), create_partition: rule.create_partition, ..TableRef::default() }
    }

    /// Keeps the dirty rows of a slice as dead letters. The same slice has the same object.
    fn keep_dirty(&self, attempt: &Attempt<'_>, dirty: Vec<DirtyRow>) -> Result<(), TaskError> {
        let Some(first) = dirty.first() else { return Ok(()) };
        let rule = &self.planned.odps;
        if !rule.filter_invalid {
            let (position, reason) = (first.position.to_string(), first.letter.reason.clone());
            return Err(RowError::Dirty { count: dirty.len(), position, reason }.into());
        }
        let task = attempt.task;
        let origin = Origin {
            rule: task.rule.clone(),
            receiver: rule.table.clone(),
            project: task.project.clone(),
            logstore: task.logstore.clone(),
            shard: task.shard,
            work: Some(RowWork::Task { task: task.id.to_string(), plan: task.plan }),
        };
        let letters: Vec<_> = dirty.into_iter().map(|row| row.letter).collect();
        let time = task.id.created / 1_000_000_000;
        self.work.dead_letters.save(&origin, time, &letters).map_err(|error| Failure::new(error).into())
    }
}

/// Opens the stages of a planned rule for a table.
pub(super) fn encoding(
    registry: &Registry,
    planned: &PlannedRule,
    schema: &TableSchema,
) -> Result<RowEncoding, TaskError> {
    let PlannedRule { odps, settings, .. } = planned;
    let names: Vec<_> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    let mapping = odps.mapping(&names).map_err(RowError::Table)?;
    let table = encode_maxcompute::table(schema);
    let stages = (odps.encoder(), odps.transform.as_slice());
    Ok(RowEncoding::new(registry, stages, settings.clone(), &mapping, table)?)
}

impl Plan for RowPlan {
    fn content(&self) -> &str {
        &self.content
    }

    fn stages(&self) -> Vec<&Identity> {
        self.stages.stages().collect()
    }

    fn output_name(&self, _task: TaskId, _shard: u32) -> Result<String, StageError> {
        Ok(self.planned.odps.table.clone())
    }
}

/// Why a task can't be verified.
const UNREADABLE: &str = "rows of MaxCompute are not read back: a partition has the rows of many tasks, and no order. Count them there, by a column with the log's cursor";

impl BatchPlan for RowPlan {
    fn find(&self, _object: &str) -> Result<Option<ObjectInfo>, PlanError> {
        Err(PlanError::Unreadable(UNREADABLE))
    }

    fn prepare<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        reader: &mut ShardReader,
    ) -> Result<Prepared<'p>, TaskError> {
        let sink = Arc::new(self.work.open(&self.project, &self.current)?);
        let (table, protocol) = (self.table(), self.planned.protocol);
        let (to, runtime) = (Arc::clone(&sink), self.work.runtime.clone());
        let mut upload = Upload::begin(attempt, to, table.clone(), protocol, runtime)?;
        let schema = upload.sessions.schema.clone();
        let encoding = self.encoding(&schema)?;
        let route = Route::new(&self.planned.odps, &schema)?;
        let mut blocks = Blocks::new(encoding, route, attempt.task.shard)?;
        let end = attempt.read_groups(reader, |slice: &Slice| {
            let dirty = blocks.add(slice, &mut upload)?;
            self.keep_dirty(attempt, dirty)
        })?;
        let (manifest, counts) = blocks.end_all(&table.table, &mut upload)?;
        let sessions = upload.finish()?;
        attempt.save_lost(blocks.lost)?;
        let (rows, bytes) = (manifest.rows, manifest.stored_bytes);
        attempt.save_manifest(end, manifest)?;
        let filtered = blocks.filtered;
        if counts.is_empty() {
            return Ok(Prepared { end, filtered, is_called: true, deliver: None });
        }
        let deliver = Box::new(move |attempt: &Attempt<'_>| {
            commit_all(attempt, &sink, &table, sessions, &counts)?;
            attempt.count_shipped(rows, bytes);
            Ok(())
        });
        Ok(Prepared { end, filtered, is_called: true, deliver: Some(deliver) })
    }
}

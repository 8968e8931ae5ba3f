//! Previews of rules of MaxCompute. Blocks are made as a task makes them, and never uploaded.

use std::ops::Range;

use logship_config::maxcompute_rule::MaxComputeRule;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_logstore::{ShippingRule, Task};
use logship_registry::Registry;
use logship_sink::maxcompute::TableSchema;
use logship_source::shard_reader::Slice;

use super::blocks::{BlockSink, Blocks};
use super::plan::{PlannedRule, encoding};
use super::route::Route;
use super::rule::MaxComputeRows;
use super::sessions::Sessions;
use crate::engine::error::TaskError;
use crate::engine::plan::PlanRecord;
use crate::engine::preview::{
    Candidate, Made, OutputFactory, OutputResult, Outputs, PreviewError, PreviewOutput,
};
use crate::engine::work::{RuleSpec, Work as _};
use crate::pipeline::Tap;
use crate::preview::refused;
use crate::rows::candidate::with_candidate;

impl MaxComputeRows {
    /// Opens the blocks of a rule's tasks with another stage.
    pub(super) fn open_preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        let parsed = MaxComputeRule::of(&rule.name, &rule.configuration)?;
        let slots = (rule.name.as_str(), &parsed.transform[..], parsed.encoder());
        let (replaced, registry) = with_candidate(&self.registry, slots, candidate)?;
        let spec = RuleSpec::of("", "", rule);
        self.check_stages(spec, &registry).map_err(|error| refused(&rule.name, candidate, &error))?;
        Ok(Box::new(BlockFactory { rules: self, candidate, replaced }))
    }
}

/// Opens the outputs of a rule's tasks.
struct BlockFactory<'a> {
    rules: &'a MaxComputeRows,
    candidate: &'a Candidate,
    /// Index of the replaced transformer; `None` for the row encoder.
    replaced: Option<usize>,
}

impl OutputFactory for BlockFactory<'_> {
    fn outputs(&mut self, task: &Task, content: &str) -> Result<Outputs, String> {
        let record = PlanRecord::<PlannedRule>::parse(content);
        let old = record.map_err(|error| format!("can't read its plan: {error}"))?.rule;
        // The table may be another one now.
        let sessions = task.sessions.as_deref().and_then(|text| Sessions::parse(text).ok());
        let schema = sessions.ok_or("it has not read the columns of its table yet")?.schema;
        let name = format!("{DIGEST_PREFIX}{}", self.candidate.stage.identity().digest());
        let mut new = old.clone();
        match self.replaced {
            None => new.odps.stage = Some(name.clone()),
            Some(index) => {
                let transform = new.odps.transform.get_mut(index);
                transform.ok_or("the task was made without this transformer")?.name = name.clone();
            }
        }
        let registry = self.rules.registry.with_override(&name, self.candidate.stage.clone());
        let open = |registry: &Registry, planned: &PlannedRule| open(registry, planned, &schema, task.shard);
        Ok(Outputs::Built(open(&self.rules.registry, &old), open(&registry, &new)))
    }
}

fn open(registry: &Registry, planned: &PlannedRule, schema: &TableSchema, shard: u32) -> OutputResult {
    let blocks = || -> Result<Blocks, TaskError> {
        let route = Route::new(&planned.odps, schema)?;
        Blocks::new(encoding(registry, planned, schema)?, route, shard)
    };
    let blocks = blocks().map_err(|error| error.to_string())?;
    let (table, tap) = (planned.odps.table.clone(), Tap::default());
    Ok(Box::new(BlockOutput { blocks, table, rejected: 0, raw: 0, tap: TapSink(tap) }))
}

/// The blocks of a task, which are never uploaded.
struct BlockOutput {
    blocks: Blocks,
    table: String,
    rejected: u64,
    raw: u64,
    tap: TapSink,
}

/// Shows blocks to the preview.
struct TapSink(Tap);

impl BlockSink for TapSink {
    fn put(&mut self, _partition: &str, _block: u32, bytes: Vec<u8>) -> Result<(), TaskError> {
        self.0.write(&bytes);
        Ok(())
    }
}

impl PreviewOutput for BlockOutput {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        let dirty = self.blocks.add(slice, &mut self.tap).map_err(|error| error.to_string())?;
        self.rejected += dirty.len() as u64;
        self.raw += slice.batch.bytes() as u64;
        Ok(logs.end)
    }

    fn finish(mut self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let ended = self.blocks.end_all(&self.table, &mut self.tap);
        let (manifest, _) = ended.map_err(|error| error.to_string())?;
        let made = Made {
            logs,
            rows: manifest.rows,
            filtered: self.blocks.filtered,
            rejected: self.rejected,
            raw_bytes: self.raw,
            stored_bytes: manifest.stored_bytes,
            sha256: manifest.sha256,
        };
        Ok((None, made))
    }

    fn tap(&self) -> Tap {
        self.tap.0.clone()
    }
}

//! Previews of rules of Table Store. Rows are encoded and never written.

use std::ops::Range;

use logship_config::stage_name::DIGEST_PREFIX;
use logship_config::table_store_rule::TableStoreRule;
use logship_logstore::{ShippingRule, Task};
use logship_registry::Registry;
use logship_source::shard_reader::Slice;
use sha2::{Digest, Sha256};

use crate::engine::plan::PlanRecord;
use crate::engine::preview::{
    Candidate, Made, OutputFactory, OutputResult, Outputs, PreviewError, PreviewOutput,
};
use crate::engine::work::{RuleSpec, Work as _};
use crate::pipeline::Tap;
use crate::preview::refused;
use crate::rows::RowWriter;
use crate::rows::candidate::with_candidate;
use crate::rows::table_store::encoding::{self, ShardName};
use crate::rows::table_store::rule::{PlannedRule, TableStoreRules};

impl TableStoreRules {
    /// Opens the rows of a rule's tasks with another stage.
    pub(super) fn open_preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        let parsed = TableStoreRule::of(&rule.name, &rule.configuration)?;
        let slots = (rule.name.as_str(), &parsed.transform[..], parsed.encoder());
        let (replaced, registry) = with_candidate(&self.registry, slots, candidate)?;
        let spec = RuleSpec::of("", "", rule);
        self.check_stages(spec, &registry).map_err(|error| refused(&rule.name, candidate, &error))?;
        Ok(Box::new(RowFactory { rules: self, candidate, replaced }))
    }
}

/// Opens the outputs of a rule's tasks.
struct RowFactory<'a> {
    rules: &'a TableStoreRules,
    candidate: &'a Candidate,
    /// Index of the replaced transformer; `None` for the row encoder.
    replaced: Option<usize>,
}

impl OutputFactory for RowFactory<'_> {
    fn outputs(&mut self, task: &Task, content: &str) -> Result<Outputs, String> {
        let record = PlanRecord::<PlannedRule>::parse(content);
        let record = record.map_err(|error| format!("can't read its plan: {error}"))?;
        let old = record.rule.ots;
        let name = format!("{DIGEST_PREFIX}{}", self.candidate.stage.identity().digest());
        let mut new = old.clone();
        match self.replaced {
            None => new.stage = Some(name.clone()),
            Some(index) => {
                let transform = new.transform.get_mut(index);
                transform.ok_or("the task was made without this transformer")?.name = name.clone();
            }
        }
        let registry = self.rules.registry.with_override(&name, self.candidate.stage.clone());
        let shard = ShardName { project: &task.project, logstore: &task.logstore, shard: task.shard };
        Ok(Outputs::Built(open(&self.rules.registry, &old, &shard), open(&registry, &new, &shard)))
    }
}

fn open(registry: &Registry, rule: &TableStoreRule, shard: &ShardName<'_>) -> OutputResult {
    let stages = (rule.encoder(), &rule.transform[..]);
    let encoding = encoding::open(registry, stages, rule, shard).map_err(|error| error.to_string())?;
    let writer = encoding.open(shard.shard).map_err(|error| error.to_string())?;
    Ok(Box::new(RowOutput {
        writer,
        tap: Tap::default(),
        hash: Sha256::new(),
        rows: 0,
        rejected: 0,
        raw: 0,
        stored: 0,
    }))
}

/// The rows of a task, which are never written.
struct RowOutput {
    writer: RowWriter,
    tap: Tap,
    hash: Sha256,
    rows: u64,
    rejected: u64,
    raw: u64,
    stored: u64,
}

impl PreviewOutput for RowOutput {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        let (made, dirty) = self.writer.push(slice).map_err(|error| error.to_string())?;
        for rows in made {
            self.hash.update(&rows.bytes);
            self.tap.write(&rows.bytes);
            self.rows += u64::from(rows.count);
            self.stored += rows.bytes.len() as u64;
        }
        self.rejected += dirty.len() as u64;
        self.raw += slice.batch.bytes() as u64;
        Ok(logs.end)
    }

    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let sha256 = if self.rows == 0 { String::new() } else { hex::encode(self.hash.finalize()) };
        let made = Made {
            logs,
            rows: self.rows,
            filtered: logs.saturating_sub(self.rows + self.rejected),
            rejected: self.rejected,
            raw_bytes: self.raw,
            stored_bytes: self.stored,
            sha256,
        };
        Ok((None, made))
    }

    fn tap(&self) -> Tap {
        self.tap.clone()
    }
}

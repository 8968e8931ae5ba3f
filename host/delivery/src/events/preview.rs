//! Previews of rules that send to SIEMs. Messages are formatted and never sent.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use logship_config::siem_rule::SiemRule;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_logstore::{ShippingRule, Task};
use logship_registry::Registry;
use logship_runtime::stage::Kind;
use logship_source::shard_reader::Slice;
use sha2::{Digest, Sha256};

use crate::dead_letter::Position;
use crate::engine::plan::PlanRecord;
use crate::engine::preview::{
    Candidate, Made, OutputFactory, OutputResult, Outputs, PreviewError, PreviewOutput,
};
use crate::events::chunk::Chunk;
use crate::events::format::Formatting;
use crate::events::rule::{Events, PlannedRule};
use crate::pipeline::Tap;
use crate::preview::{refused, replaced_stage, transform_name};

impl Events {
    /// Opens the messages of a rule's tasks with another stage.
    pub(super) fn open_preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        let parsed = SiemRule::of(&rule.name, &rule.configuration)?;
        let stages = "it sends messages, and has only transformers and a formatter";
        let replaced = replaced_stage((&rule.name, &parsed.transform), candidate, Kind::Formatter, stages)?;
        let refused = |error| refused(&rule.name, candidate, &error);
        let name = match replaced {
            None => self.stage(&parsed).map_err(refused)?.to_owned(),
            Some(index) => transform_name(&parsed.transform[index]),
        };
        let with_new = self.registry.with_override(&name, candidate.stage.clone());
        self.check_with(&parsed, &with_new).map_err(refused)?;
        Ok(Box::new(MessageFactory { events: self, candidate, replaced, records: HashMap::new() }))
    }
}

/// Opens the outputs of a rule's tasks.
struct MessageFactory<'a> {
    events: &'a Events,
    candidate: &'a Candidate,
    /// Index of the replaced transformer; `None` for the formatter.
    replaced: Option<usize>,
    /// Rules and digests of their formatters, by plan number.
    records: HashMap<i64, Result<Arc<(SiemRule, String)>, String>>,
}

impl MessageFactory<'_> {
    fn record(&mut self, number: i64, content: &str) -> Result<Arc<(SiemRule, String)>, String> {
        let read = || {
            let record = PlanRecord::<PlannedRule>::parse(content);
            let PlanRecord { rule, digest, .. } =
                record.map_err(|error| format!("can't read its plan: {error}"))?;
            let digest = digest.ok_or("can't read its plan: missing field `digest`")?;
            Ok(Arc::new((rule.siem, digest)))
        };
        self.records.entry(number).or_insert_with(read).clone()
    }

    fn open_output(&self, rule: &SiemRule, stage: &str, registry: &Registry) -> OutputResult {
        let formatters = self.events.formatters(rule, stage, registry).map_err(|error| error.to_string())?;
        Ok(Box::new(MessageOutput::new(formatters.formatting())))
    }
}

impl OutputFactory for MessageFactory<'_> {
    fn outputs(&mut self, task: &Task, content: &str) -> Result<Outputs, String> {
        let record = self.record(task.plan, content)?;
        let (rule, digest) = &*record;
        let stage = format!("{DIGEST_PREFIX}{digest}");
        let old = self.open_output(rule, &stage, &self.events.registry);
        let name = format!("{DIGEST_PREFIX}{}", self.candidate.stage.identity().digest());
        let registry = self.events.registry.with_override(&name, self.candidate.stage.clone());
        let new = match self.replaced {
            None => self.open_output(rule, &name, &registry),
            Some(index) => {
                let mut rule = rule.clone();
                let transform = rule.transform.get_mut(index);
                transform.ok_or("the task was made without this transformer")?.name = name;
                self.open_output(&rule, &stage, &registry)
            }
        };
        Ok(Outputs::Built(old, new))
    }
}

/// The messages of a task, which are never sent.
struct MessageOutput {
    formatting: Formatting,
    tap: Tap,
    hash: Sha256,
    rows: u64,
    filtered: u64,
    rejected: u64,
    bytes: u64,
}

impl MessageOutput {
    fn new(formatting: Formatting) -> Self {
        Self {
            formatting,
            tap: Tap::default(),
            hash: Sha256::new(),
            rows: 0,
            filtered: 0,
            rejected: 0,
            bytes: 0,
        }
    }
}

impl PreviewOutput for MessageOutput {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        let place = |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
        let groups = slice.groups.iter().map(place).collect();
        let chunk = Arc::new(Chunk { batch: slice.batch.slice(logs.clone()), groups });
        let (formatted, dead) = self.formatting.format(&chunk).map_err(|error| error.to_string())?;
        for message in 0..formatted.len() {
            let bytes = formatted.bytes(message..message + 1);
            // With the length, so that message boundaries count in the comparison.
            self.hash.update((bytes.len() as u64).to_le_bytes());
            self.hash.update(bytes);
            self.tap.write(bytes);
            self.tap.write(b"\n");
        }
        self.rows += formatted.len() as u64;
        self.rejected += dead.len() as u64;
        self.bytes += formatted.messages.bytes.len() as u64;
        let origins = &formatted.messages.logs;
        let represented =
            if origins.is_empty() { formatted.len() } else { origins.chunk_by(|a, b| a == b).count() };
        self.filtered += (logs.len() - represented).saturating_sub(dead.len()) as u64;
        Ok(logs.end)
    }

    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let sha256 = if self.rows == 0 { String::new() } else { hex::encode(self.hash.finalize()) };
        let made = Made {
            logs,
            rows: self.rows,
            filtered: self.filtered,
            rejected: self.rejected,
            raw_bytes: self.bytes,
            stored_bytes: self.bytes,
            sha256,
        };
        Ok((None, made))
    }

    fn tap(&self) -> Tap {
        self.tap.clone()
    }
}

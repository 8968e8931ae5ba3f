//! Trials on rules that send to SIEMs. Messages are formatted, and sent to nobody.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use logship_logstore::{Logstore, ShippingRule, Task};
use sha2::{Digest, Sha256};

use super::format::Formatting;
use super::load::{Chunk, Position};
use super::rule::SiemRule;
use super::rules::{Rules, SiemRecord};
use crate::registry::{DIGEST, Registry};
use crate::source::Slice;
use crate::stage::Stage;
use crate::trial::replay::{self, Maker, Making, Pair, Tap, Workshop};
use crate::trial::{Candidate, Extent, Made, TrialError, Tried, no_place, transform_name, transform_of};

impl Rules {
    /// Tries what would change if a stage took the place of the one of its kind in a rule: on its newest tasks, whose logs
    /// are formatted by both. Nothing is sent. Blocks.
    ///
    /// # Errors
    /// When the rule has no place for the stage, can't go on with it, or has no tasks yet. What fails in a task is told of
    /// with it.
    pub fn try_stage(
        &self,
        logstore: &Logstore,
        rule: &ShippingRule,
        candidate: &Candidate,
        extent: Extent,
    ) -> Result<Vec<Tried>, TrialError> {
        let parsed = SiemRule::of(&rule.name, &rule.configuration)?;
        let replaced = match &candidate.stage {
            Stage::Formatter(_) if candidate.transform.is_none() => None,
            Stage::Formatter(_) => {
                let reason = "the number of a transformer is for a transformer only";
                return Err(no_place(&rule.name, candidate, reason));
            }
            Stage::Transformer(_) => Some(transform_of(&rule.name, &parsed.transform, candidate)?),
            _ => {
                let reason = "it sends messages, and has a formatter and transformers";
                return Err(no_place(&rule.name, candidate, reason));
            }
        };
        let refused = |problem: String| TrialError::Refused {
            rule: rule.name.clone(),
            stage: candidate.stage.identity().to_string(),
            problem,
        };
        let name = match replaced {
            None => self.stage(&parsed).map_err(|error| refused(error.to_string()))?.to_owned(),
            Some(index) => transform_name(&parsed.transform[index]),
        };
        let with_new = self.registry().with(&name, candidate.stage.clone());
        self.check_with(&parsed, &with_new).map_err(|error| refused(error.to_string()))?;
        let mut messages = AllMessages { rules: self, candidate, replaced, records: HashMap::new() };
        replay::tasks(self.store(), logstore, rule, extent, &mut messages)?
            .ok_or_else(|| TrialError::NoTasks(rule.name.clone()))
    }
}

/// Makes the messages of a rule's tasks.
struct AllMessages<'a> {
    rules: &'a Rules,
    candidate: &'a Candidate,
    /// Which transformer the stage replaces; none: the one that formats.
    replaced: Option<usize>,
    /// By the numbers of plans.
    records: HashMap<i64, Result<Arc<SiemRecord>, String>>,
}

impl AllMessages<'_> {
    fn record(&mut self, number: i64) -> Result<Arc<SiemRecord>, String> {
        let read = || {
            let gone = |error: &dyn std::fmt::Display| format!("what it was made by can't be read: {error}");
            let content = self.rules.store().plan(number).map_err(|error| gone(&error))?;
            serde_json::from_str(&content).map(Arc::new).map_err(|error| gone(&error))
        };
        self.records.entry(number).or_insert_with(read).clone()
    }

    fn making(&self, rule: &SiemRule, stage: &str, registry: &Registry) -> Making {
        let formatting = self.rules.formatting(rule, stage, registry).map_err(|error| error.to_string())?;
        Ok(Box::new(MessageMaker::new(formatting)))
    }
}

impl Workshop for AllMessages<'_> {
    fn pair(&mut self, task: &Task) -> Result<Pair, String> {
        let record = self.record(task.plan)?;
        let stage = format!("{DIGEST}{}", record.digest);
        let old = self.making(&record.siem, &stage, self.rules.registry());
        let name = format!("{DIGEST}{}", self.candidate.stage.identity().digest());
        let registry = self.rules.registry().with(&name, self.candidate.stage.clone());
        let new = match self.replaced {
            None => self.making(&record.siem, &name, &registry),
            Some(index) => {
                let mut rule = record.siem.clone();
                let transform = rule.transform.get_mut(index);
                transform.ok_or("the task was made without this transformer")?.name = name;
                self.making(&rule, &stage, &registry)
            }
        };
        Ok(Pair::Made(old, new))
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// Makes the messages of a task, which go nowhere.
struct MessageMaker {
    formatting: Formatting,
    tap: Tap,
    hash: Sha256,
    rows: u64,
    left_out: u64,
    refused: u64,
    bytes: u64,
}

impl MessageMaker {
    fn new(formatting: Formatting) -> Self {
        Self {
            formatting,
            tap: Tap::default(),
            hash: Sha256::new(),
            rows: 0,
            left_out: 0,
            refused: 0,
            bytes: 0,
        }
    }
}

impl Maker for MessageMaker {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        let place = |&(cursor, logs): &(u64, u32)| (Position { cursor, group: 0, log: 0 }, logs);
        let groups = slice.groups.iter().map(place).collect();
        let chunk = Arc::new(Chunk { batch: slice.batch.slice(logs.clone()), groups });
        let (formatted, dead) = self.formatting.format(&chunk).map_err(|error| error.to_string())?;
        for message in 0..formatted.len() {
            let bytes = formatted.bytes(message..message + 1);
            // Each with its length: where one ends is a part of what is compared.
            self.hash.update((bytes.len() as u64).to_le_bytes());
            self.hash.update(bytes);
            self.tap.write(bytes);
            self.tap.write(b"\n");
        }
        self.rows += formatted.len() as u64;
        self.refused += dead.len() as u64;
        self.bytes += formatted.messages.bytes.len() as u64;
        let origins = &formatted.messages.logs;
        let told = if origins.is_empty() { formatted.len() } else { origins.chunk_by(|a, b| a == b).count() };
        self.left_out += (logs.len() - told).saturating_sub(dead.len()) as u64;
        Ok(logs.end)
    }

    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let sha256 = if self.rows == 0 { String::new() } else { hex::encode(self.hash.finalize()) };
        let made = Made {
            logs,
            rows: self.rows,
            left_out: self.left_out,
            refused: self.refused,
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

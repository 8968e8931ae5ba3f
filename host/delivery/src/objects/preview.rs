//! Previews of rules that write objects. The objects are staged like real ones, and never published.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use logship_config::rule::{NONE, Rule};
use logship_config::stage_name::DIGEST_PREFIX;
use logship_logstore::{ShippingRule, Task};
use logship_registry::Registry;
use logship_runtime::stage::{Stage, StageError};
use logship_source::shard_reader::Slice;

use crate::engine::plan::PlanRecord;
use crate::engine::preview::{
    Candidate, Made, OutputFactory, OutputResult, Outputs, PreviewError, PreviewOutput,
};
use crate::objects::object::Object;
use crate::objects::plan::PlannedRule;
use crate::objects::rule::Objects;
use crate::pipeline::{self, Pipeline, Tap};
use crate::preview::{ONLY_TRANSFORMER, no_slot, refused, transform_name, transform_of};

impl Objects {
    /// Opens the objects of a rule's tasks with another stage.
    pub(super) fn open_preview<'a>(
        &'a self,
        rule: &ShippingRule,
        candidate: &'a Candidate,
    ) -> Result<Box<dyn OutputFactory + 'a>, PreviewError> {
        let parsed = Self::parse(&rule.name, &rule.configuration)
            .map_err(|error| refused(&rule.name, candidate, &error))?;
        if self.calls_function(&parsed) {
            return Err(PreviewError::Function(rule.name.clone()));
        }
        if !parsed.partition_by.is_created() {
            return Err(PreviewError::Partitioned(rule.name.clone()));
        }
        let slot = StageSlot::of(&parsed, candidate)?;
        self.check_swap(&parsed, slot, candidate)?;
        std::fs::create_dir_all(&self.spool).map_err(|error| PreviewError::Spool {
            folder: self.spool.display().to_string(),
            problem: error.to_string(),
        })?;
        Ok(Box::new(ObjectFactory { objects: self, slot, candidate, plans: HashMap::new() }))
    }

    /// Checks that the current rule has a stage of this kind, and could use the new one.
    fn check_swap(&self, rule: &Rule, slot: StageSlot, candidate: &Candidate) -> Result<(), PreviewError> {
        let name = slot.name(rule);
        let (registry, names) = self.registry.with_override(&name, candidate.stage.clone()).record_names();
        let made = Pipeline::new(&registry, rule);
        let is_looked_up = names.lock().unwrap_or_else(PoisonError::into_inner).contains(&name);
        match made {
            Err(error) => Err(refused(&rule.name, candidate, &error)),
            Ok(_) if !is_looked_up => {
                let reason = format!("{} is compressed inside its format, by the encoder", rule.format.name);
                Err(no_slot(&rule.name, candidate, reason))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// The slot of a stage in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StageSlot {
    Encoder,
    Compressor,
    Renderer,
    Pipeline,
    Transformer(usize),
}

impl StageSlot {
    /// The slot of a candidate.
    fn of(rule: &Rule, candidate: &Candidate) -> Result<Self, PreviewError> {
        let no_slot = |reason: &str| Err(no_slot(&rule.name, candidate, reason));
        let is_fused = rule.stages.pipeline.is_some();
        let has_compressor = rule.compression.name != NONE || rule.stages.compressor.is_some();
        if candidate.transform.is_some() && !matches!(candidate.stage, Stage::Transformer(_)) {
            return no_slot(ONLY_TRANSFORMER);
        }
        match &candidate.stage {
            Stage::Transformer(_) => {
                transform_of(&rule.name, &rule.transform, candidate).map(Self::Transformer)
            }
            Stage::Formatter(_) => no_slot("it writes objects, and has no formatter"),
            Stage::RowEncoder(_) => no_slot("it writes objects, and has no rows"),
            Stage::Pipeline(_) if is_fused => Ok(Self::Pipeline),
            Stage::Pipeline(_) => no_slot("its stages are not fused"),
            _ if is_fused => no_slot("its stages are fused: only another pipeline can replace them"),
            Stage::Encoder(_) => Ok(Self::Encoder),
            Stage::Renderer(_) => Ok(Self::Renderer),
            Stage::Compressor(_) if has_compressor => Ok(Self::Compressor),
            Stage::Compressor(_) => no_slot("it compresses nothing"),
        }
    }

    /// The name by which the rule looks up the slot's stage.
    fn name(self, rule: &Rule) -> String {
        let stages = &rule.stages;
        let or = |name: &Option<String>, built_in: String| name.clone().unwrap_or(built_in);
        match self {
            Self::Encoder => or(&stages.encoder, format!("encode-{}", rule.format.name)),
            Self::Compressor => or(&stages.compressor, format!("compress-{}", rule.compression.name)),
            Self::Renderer => or(&stages.renderer, "object-path".into()),
            Self::Pipeline => stages.pipeline.clone().unwrap_or_default(),
            Self::Transformer(index) => transform_name(&rule.transform[index]),
        }
    }

    /// The rule of a task with `stage` in this slot, pinned by digest. An error if the task had no stage there.
    fn with_stage(self, rule: &Rule, stage: &Stage) -> Result<Rule, String> {
        let mut rule = rule.clone();
        let name = format!("{DIGEST_PREFIX}{}", stage.identity().digest());
        let missing = |what: &str| Err(format!("the task was made without {what}"));
        match self {
            Self::Encoder if rule.stages.encoder.is_none() => return missing("an encoder of its own"),
            Self::Renderer if rule.stages.renderer.is_none() => return missing("a renderer of its own"),
            Self::Compressor if rule.stages.compressor.is_none() => return missing("a compressor"),
            Self::Pipeline if rule.stages.pipeline.is_none() => return missing("fused stages"),
            Self::Transformer(index) if rule.transform.len() <= index => return missing("this transformer"),
            Self::Encoder => rule.stages.encoder = Some(name),
            Self::Renderer => rule.stages.renderer = Some(name),
            Self::Compressor => rule.stages.compressor = Some(name),
            Self::Pipeline => rule.stages.pipeline = Some(name),
            Self::Transformer(index) => rule.transform[index].name = name,
        }
        match stage {
            // Its format may have another name than the rule's. `check_swap` has checked the combination.
            Stage::Compressor(stage) => rule.compression.name = stage.description().compression.clone(),
            // The new encoder compresses by itself and replaces the compressor.
            Stage::Encoder(stage) if !stage.description().compressions.is_empty() => {
                rule.stages.compressor = None;
            }
            _ => {}
        }
        Ok(rule)
    }
}

/// The old and the new pipeline of tasks with the same plan.
struct PipelinePair {
    old: Result<Arc<Pipeline>, String>,
    new: Result<Arc<Pipeline>, String>,
    /// Bytes of an object before compression.
    max_bytes: u64,
}

/// Opens the objects of a rule's tasks.
struct ObjectFactory<'a> {
    objects: &'a Objects,
    slot: StageSlot,
    candidate: &'a Candidate,
    /// Pipelines by plan number.
    plans: HashMap<i64, Result<Arc<PipelinePair>, String>>,
}

impl ObjectFactory<'_> {
    fn plan(&mut self, number: i64, content: &str) -> Result<Arc<PipelinePair>, String> {
        if let Some(known) = self.plans.get(&number) {
            return known.clone();
        }
        let both = self.open_pipelines(content).map(Arc::new);
        self.plans.insert(number, both.clone());
        both
    }

    fn open_pipelines(&self, content: &str) -> Result<PipelinePair, String> {
        let PlanRecord { project, logstore, rule: PlannedRule { rule: old }, .. } =
            PlanRecord::parse(content).map_err(|error| format!("can't read its plan: {error}"))?;
        if self.objects.calls_function(&old) {
            return Err("a function made its object with its own stages".into());
        }
        if !old.partition_by.is_created() {
            return Err("its rule partitions by the time of logs: it has several objects".into());
        }
        let stage = &self.candidate.stage;
        let rule = self.slot.with_stage(&old, stage)?;
        let registry = &self.objects.registry;
        let with_new =
            registry.with_override(&format!("{DIGEST_PREFIX}{}", stage.identity().digest()), stage.clone());
        let pipeline = |registry: &Registry, rule: &Rule| {
            let made = Pipeline::new(registry, rule).map_err(|error| error.to_string())?;
            Ok(Arc::new(made.for_logstore(&project, &logstore)))
        };
        Ok(PipelinePair {
            old: pipeline(registry, &old),
            new: pipeline(&with_new, &rule),
            max_bytes: old.size(),
        })
    }

    fn open_output(
        &self,
        pipeline: Result<Arc<Pipeline>, String>,
        key: Result<String, String>,
        max_bytes: u64,
    ) -> OutputResult {
        let (pipeline, key) = (pipeline?, key?);
        let tap = Tap::default();
        let folder = &self.objects.spool;
        let object = Object::create_in(&pipeline, folder, key.clone(), max_bytes)
            .map_err(|error| error.to_string())?;
        let object = object.tapped(tap.clone());
        Ok(Box::new(ObjectOutput { key, object, tap }))
    }
}

impl OutputFactory for ObjectFactory<'_> {
    fn outputs(&mut self, task: &Task, content: &str) -> Result<Outputs, String> {
        let both = self.plan(task.plan, content)?;
        let id = pipeline::Task { created: task.id.created, number: task.id.number, shard: task.shard };
        let new_key =
            both.new.clone().and_then(|new| new.key(&id).map_err(|error: StageError| error.to_string()));
        let old_key = both.old.clone().map(|_| task.object.clone());
        if self.slot == StageSlot::Renderer {
            return Ok(Outputs::Keys(old_key, new_key));
        }
        let old = self.open_output(both.old.clone(), old_key, both.max_bytes);
        let new = self.open_output(both.new.clone(), new_key, both.max_bytes);
        Ok(Outputs::Built(old, new))
    }
}

/// An object that is never published.
struct ObjectOutput {
    key: String,
    object: Object,
    tap: Tap,
}

impl PreviewOutput for ObjectOutput {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        self.object.take(&slice.batch, logs).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let filtered = self.object.filtered();
        if self.object.rows() == 0 {
            let sha256 = String::new();
            let made = Made { logs, rows: 0, filtered, rejected: 0, raw_bytes: 0, stored_bytes: 0, sha256 };
            return Ok((None, made));
        }
        let made = self.object.finish().map_err(|error| error.to_string())?;
        let result = Made {
            logs,
            rows: made.rows,
            filtered,
            rejected: 0,
            raw_bytes: made.raw_bytes,
            stored_bytes: made.file.bytes,
            sha256: made.file.sha256.clone(),
        };
        Ok((Some(self.key), result))
    }

    fn tap(&self) -> Tap {
        self.tap.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_match_rule_lookup() {
        let rule: Rule = serde_json::from_value(serde_json::json!({
            "compression": "gzip", "transform": [{ "type": "fields" }, { "type": "mine" }],
            "stages": { "renderer": "by-tenant" },
        }))
        .unwrap();
        let name = |slot: StageSlot| slot.name(&rule);
        assert_eq!(name(StageSlot::Encoder), "encode-json");
        assert_eq!(name(StageSlot::Compressor), "compress-gzip");
        assert_eq!(name(StageSlot::Renderer), "by-tenant");
        assert_eq!(name(StageSlot::Transformer(0)), "transform-fields");
        assert_eq!(name(StageSlot::Transformer(1)), "mine");
    }
}

//! Trials on rules that write objects. They are made where those are that are on their way, and go nowhere.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use logship_logstore::{Logstore, ShippingRule, Task};

use super::Shipper;
use super::plan::{PlanRecord, Plans};
use crate::destination::Destination;
use crate::object::Object;
use crate::pipeline::{self, Pipeline};
use crate::registry::{DIGEST, Registry};
use crate::rule::{NONE, Rule};
use crate::source::Slice;
use crate::stage::{Stage, StageError};
use crate::trial::replay::{self, Maker, Making, Pair, Tap, Workshop};
use crate::trial::{Candidate, Extent, Made, TrialError, Tried, no_place, transform_name, transform_of};

impl Shipper {
    /// Tries what would change if a stage took the place of the one of its kind in a rule: on its newest tasks, whose logs
    /// go through both. Nothing is changed, and nothing goes to a destination. Blocks.
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
        let refused = |problem: String| TrialError::Refused {
            rule: rule.name.clone(),
            stage: candidate.stage.identity().to_string(),
            problem,
        };
        let parsed = Plans::rule(&rule.name, &rule.target, &rule.configuration);
        let parsed = parsed.map_err(|error| refused(error.to_string()))?;
        if matches!(self.plans.destination(&parsed), Ok(Destination::Function(_))) {
            return Err(TrialError::Function(rule.name.clone()));
        }
        if !parsed.partition_by.is_created() {
            return Err(TrialError::Partitioned(rule.name.clone()));
        }
        let position = Position::of(&parsed, candidate)?;
        self.check_swap(&parsed, position, candidate)?;
        std::fs::create_dir_all(self.plans.spool()).map_err(|error| TrialError::Spool {
            folder: self.plans.spool().display().to_string(),
            problem: error.to_string(),
        })?;
        let mut objects = Objects { shipper: self, position, candidate, plans: HashMap::new() };
        replay::tasks(&self.store, logstore, rule, extent, &mut objects)?
            .ok_or_else(|| TrialError::NoTasks(rule.name.clone()))
    }

    /// Checks whether the rule as it is now asks for a stage of the kind, and could go on with the new one.
    fn check_swap(&self, rule: &Rule, position: Position, candidate: &Candidate) -> Result<(), TrialError> {
        let name = position.name(rule);
        let (registry, asked) = self.registry().with(&name, candidate.stage.clone()).watched();
        let made = Pipeline::new(&registry, rule);
        let is_asked = asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&name);
        match made {
            Err(error) => Err(TrialError::Refused {
                rule: rule.name.clone(),
                stage: candidate.stage.identity().to_string(),
                problem: error.to_string(),
            }),
            Ok(_) if !is_asked => {
                let reason = format!("{} is compressed inside its format, by the encoder", rule.format.name);
                Err(no_place(&rule.name, candidate, reason))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Where a stage stands in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Encoder,
    Compressor,
    Renderer,
    Pipeline,
    Transformer(usize),
}

impl Position {
    /// That of a candidate.
    fn of(rule: &Rule, candidate: &Candidate) -> Result<Self, TrialError> {
        let no_place = |reason: &str| Err(no_place(&rule.name, candidate, reason));
        let is_fused = rule.stages.pipeline.is_some();
        let has_compressor = rule.compression.name != NONE || rule.stages.compressor.is_some();
        if candidate.transform.is_some() && !matches!(candidate.stage, Stage::Transformer(_)) {
            return no_place("the number of a transformer is for a transformer only");
        }
        match &candidate.stage {
            Stage::Transformer(_) => {
                transform_of(&rule.name, &rule.transform, candidate).map(Self::Transformer)
            }
            Stage::Formatter(_) => no_place("it writes objects, and has no formatter"),
            Stage::Pipeline(_) if is_fused => Ok(Self::Pipeline),
            Stage::Pipeline(_) => no_place("its stages are not fused into one"),
            _ if is_fused => no_place("its stages are fused into one: only another such one can replace it"),
            Stage::Encoder(_) => Ok(Self::Encoder),
            Stage::Renderer(_) => Ok(Self::Renderer),
            Stage::Compressor(_) if has_compressor => Ok(Self::Compressor),
            Stage::Compressor(_) => no_place("it compresses nothing"),
        }
    }

    /// The name that the stage there is looked up by.
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

    /// The rule of a task with a stage in this place, by its digest. An error says that the task had none there.
    fn replaced(self, rule: &Rule, stage: &Stage) -> Result<Rule, String> {
        let mut rule = rule.clone();
        let name = format!("{DIGEST}{}", stage.identity().digest());
        let lacks = |what: &str| Err(format!("the task was made without {what}"));
        match self {
            Self::Encoder if rule.stages.encoder.is_none() => return lacks("an encoder of its own"),
            Self::Renderer if rule.stages.renderer.is_none() => return lacks("a renderer of its own"),
            Self::Compressor if rule.stages.compressor.is_none() => return lacks("a compressor"),
            Self::Pipeline if rule.stages.pipeline.is_none() => return lacks("fused stages"),
            Self::Transformer(index) if rule.transform.len() <= index => return lacks("this transformer"),
            Self::Encoder => rule.stages.encoder = Some(name),
            Self::Renderer => rule.stages.renderer = Some(name),
            Self::Compressor => rule.stages.compressor = Some(name),
            Self::Pipeline => rule.stages.pipeline = Some(name),
            Self::Transformer(index) => rule.transform[index].name = name,
        }
        match stage {
            // What it makes may have another name than what the rule asks for; that a swap would be taken is checked.
            Stage::Compressor(stage) => rule.compression.name = stage.description().compression.clone(),
            // It compresses itself: the compressor that stood behind the other encoder goes.
            Stage::Encoder(stage) if !stage.description().compressions.is_empty() => {
                rule.stages.compressor = None;
            }
            _ => {}
        }
        Ok(rule)
    }
}

/// The two pipelines of tasks of the same plan.
struct Both {
    old: Result<Arc<Pipeline>, String>,
    new: Result<Arc<Pipeline>, String>,
    /// Bytes of an object before compression.
    most: u64,
}

/// Makes the objects of a rule's tasks.
struct Objects<'a> {
    shipper: &'a Shipper,
    position: Position,
    candidate: &'a Candidate,
    /// By the numbers of plans.
    plans: HashMap<i64, Result<Arc<Both>, String>>,
}

impl Objects<'_> {
    fn plan(&mut self, number: i64) -> Result<Arc<Both>, String> {
        if let Some(known) = self.plans.get(&number) {
            return known.clone();
        }
        let both = self.make(number).map(Arc::new);
        self.plans.insert(number, both.clone());
        both
    }

    fn make(&self, number: i64) -> Result<Both, String> {
        let gone = |error: &dyn std::fmt::Display| format!("what it was made by can't be read: {error}");
        let content = self.shipper.store.plan(number).map_err(|error| gone(&error))?;
        let record: PlanRecord = serde_json::from_str(&content).map_err(|error| gone(&error))?;
        if matches!(self.shipper.plans.destination(&record.rule), Ok(Destination::Function(_))) {
            return Err("a function made its object, with stages of its own".into());
        }
        if !record.rule.partition_by.is_created() {
            return Err("its rule split it by the time of logs: it has several objects".into());
        }
        let stage = &self.candidate.stage;
        let rule = self.position.replaced(&record.rule, stage)?;
        let registry = self.shipper.registry();
        let with_new = registry.with(&format!("{DIGEST}{}", stage.identity().digest()), stage.clone());
        let pipeline = |registry: &Registry, rule: &Rule| {
            let made = Pipeline::new(registry, rule).map_err(|error| error.to_string())?;
            Ok(Arc::new(made.of(&record.project, &record.logstore)))
        };
        Ok(Both {
            old: pipeline(registry, &record.rule),
            new: pipeline(&with_new, &rule),
            most: record.rule.size(),
        })
    }

    fn making(
        &self,
        pipeline: Result<Arc<Pipeline>, String>,
        key: Result<String, String>,
        most: u64,
    ) -> Making {
        let (pipeline, key) = (pipeline?, key?);
        let tap = Tap::default();
        let folder = self.shipper.plans.spool();
        let object =
            Object::within(&pipeline, folder, key.clone(), most).map_err(|error| error.to_string())?;
        let object = object.tapped(tap.clone());
        Ok(Box::new(ObjectMaker { key, object, tap }))
    }
}

impl Workshop for Objects<'_> {
    fn pair(&mut self, task: &Task) -> Result<Pair, String> {
        let both = self.plan(task.plan)?;
        let id = pipeline::Task { created: task.id.created, number: task.id.number, shard: task.shard };
        let new_key =
            both.new.clone().and_then(|new| new.key(&id).map_err(|error: StageError| error.to_string()));
        let old_key = both.old.clone().map(|_| task.object.clone());
        if self.position == Position::Renderer {
            return Ok(Pair::Keys(old_key, new_key));
        }
        let old = self.making(both.old.clone(), old_key, both.most);
        let new = self.making(both.new.clone(), new_key, both.most);
        Ok(Pair::Made(old, new))
    }

    fn has_ended(&self) -> bool {
        self.shipper.has_ended()
    }
}

/// Makes an object, which goes nowhere.
struct ObjectMaker {
    key: String,
    object: Object,
    tap: Tap,
}

impl Maker for ObjectMaker {
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String> {
        self.object.take(&slice.batch, logs).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String> {
        let left_out = self.object.left_out();
        if self.object.rows() == 0 {
            let sha256 = String::new();
            let made = Made { logs, rows: 0, left_out, refused: 0, raw_bytes: 0, stored_bytes: 0, sha256 };
            return Ok((None, made));
        }
        let made = self.object.finish().map_err(|error| error.to_string())?;
        let whole = Made {
            logs,
            rows: made.rows,
            left_out,
            refused: 0,
            raw_bytes: made.raw_bytes,
            stored_bytes: made.whole.bytes,
            sha256: made.whole.sha256.clone(),
        };
        Ok((Some(self.key), whole))
    }

    fn tap(&self) -> Tap {
        self.tap.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_stands_where_the_rule_looks_it_up() {
        let rule: Rule = serde_json::from_value(serde_json::json!({
            "compression": "gzip", "transform": [{ "type": "fields" }, { "type": "mine" }],
            "stages": { "renderer": "by-tenant" },
        }))
        .unwrap();
        let name = |position: Position| position.name(&rule);
        assert_eq!(name(Position::Encoder), "encode-json");
        assert_eq!(name(Position::Compressor), "compress-gzip");
        assert_eq!(name(Position::Renderer), "by-tenant");
        assert_eq!(name(Position::Transformer(0)), "transform-fields");
        assert_eq!(name(Position::Transformer(1)), "mine");
    }
}

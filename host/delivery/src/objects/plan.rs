//! The plans of objects.

use std::ops::Range;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use logship_config::rule::Rule;
use logship_logstore::TaskId;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::object::{ObjectInfo, ObjectSink};
use logship_source::shard_reader::ShardReader;
use serde::{Deserialize, Serialize};

use crate::engine::batch::{Attempt, LogSample, TakeLogs};
use crate::engine::error::{PlanError, TaskError};
use crate::engine::plan::{Plan, PlanCache, PlanRecord};
use crate::engine::work::{BatchPlan, Prepared};
use crate::executor::Executor;
use crate::objects::destination::{Destination, is_same_store};
use crate::objects::rule::Objects;
use crate::objects::task_objects::TaskObjects;
use crate::pipeline::{self, Pipeline};

/// The rule in the stored plan of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlannedRule {
    /// The rule, with stages pinned by digest.
    pub(super) rule: Rule,
}

/// A plan with its pipeline and destination opened.
#[derive(Debug)]
pub(super) struct ObjectPlan {
    /// The rule, with stages pinned by digest.
    pub(super) rule: Rule,
    pub(super) pipeline: Pipeline,
    /// The program that runs the stages.
    executor: Executor,
    /// The store of the objects.
    pub(super) sink: Box<dyn ObjectSink>,
    /// The record as JSON.
    content: String,
}

impl Objects {
    /// Builds a plan for a rule. Opens its stages with their settings; does not connect to the destination.
    pub(super) fn build_plan(
        &self,
        project: &str,
        logstore: &str,
        rule: &Rule,
    ) -> Result<ObjectPlan, PlanError> {
        let pipeline = Pipeline::new(&self.registry, rule)?.for_logstore(project, logstore);
        let mut pinned =
            Rule { stages: pipeline.pinned(), transform: pipeline.pinned_transforms(), ..rule.clone() };
        if let (Some(_), (_, Some(makes))) = (&pinned.stages.compressor, pipeline.format_and_compression()) {
            // A replacement compressor may produce another format than the one the rule names.
            makes.clone_into(&mut pinned.compression.name);
        }
        let planned = PlannedRule { rule: pinned };
        let record = PlanRecord::new((project, logstore), planned, pipeline.stages());
        let content = serde_json::to_string(&record)?;
        let Destination { executor, sink } = self.destination(&record.project, rule)?;
        Ok(ObjectPlan { rule: record.rule.rule, pipeline, executor, sink, content })
    }

    /// Returns the plan that a task was created with. If the rule still ships to the same bucket, its current
    /// credentials are used, so that a wrong key can be corrected.
    pub(super) fn restore_plan(
        &self,
        content: &str,
        now: Option<&Rule>,
        cache: &PlanCache<dyn BatchPlan>,
    ) -> Result<Arc<dyn BatchPlan>, PlanError> {
        let PlanRecord { project, logstore, rule: PlannedRule { rule }, .. } = PlanRecord::parse(content)?;
        let current = match now {
            Some(now) if now.bucket == rule.bucket && is_same_store(&now.destination, &rule.destination) => {
                now.clone()
            }
            _ => rule.clone(),
        };
        let key = format!("{content}{}", serde_json::to_string(&(&current.destination, &current.role))?);
        cache.restore(key, || {
            let pipeline = Pipeline::new(&self.registry, &rule)?.for_logstore(&project, &logstore);
            let Destination { executor, sink } = self.destination(&project, &current)?;
            let content = content.to_owned();
            Ok(Arc::new(ObjectPlan { rule, pipeline, executor, sink, content }))
        })
    }
}

impl Plan for ObjectPlan {
    fn content(&self) -> &str {
        &self.content
    }

    fn stages(&self) -> Vec<&Identity> {
        self.pipeline.stages().collect()
    }

    fn function(&self) -> Option<&str> {
        match &self.executor {
            Executor::Function(function) => Some(function.url()),
            Executor::InProcess => None,
        }
    }

    fn output_name(&self, task: TaskId, shard: u32) -> Result<String, StageError> {
        let task = pipeline::Task { created: task.created, number: task.number, shard };
        self.pipeline.task_key(&task)
    }
}

impl BatchPlan for ObjectPlan {
    fn encode_sample(&self, mut sample: LogSample<'_>) -> Result<u64, TaskError> {
        let mut encoding = self.pipeline.open()?;
        while let Some(batch) = sample.read()? {
            match encoding.transform(&batch, 0..batch.len())? {
                None => encoding.push(&batch)?,
                Some(made) => encoding.push(&made.batch)?,
            };
        }
        Ok(encoding.size()?)
    }

    fn prepare<'p>(
        &'p self,
        attempt: &Attempt<'_>,
        reader: &mut ShardReader,
    ) -> Result<Prepared<'p>, TaskError> {
        match &self.executor {
            Executor::Function(function) => self.prepare_call(attempt, function),
            Executor::InProcess => self.prepare_objects(attempt, reader),
        }
    }

    fn find(&self, object: &str) -> Result<Option<ObjectInfo>, PlanError> {
        Ok(self.sink.find(object)?)
    }
}

impl TakeLogs for TaskObjects<'_> {
    fn is_full(&self) -> bool {
        TaskObjects::is_full(self)
    }

    fn take(&mut self, batch: &LogBatch, logs: Range<usize>) -> Result<usize, TaskError> {
        Ok(TaskObjects::take(self, batch, logs)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_record_keeps_its_stored_form() {
        let rule = Rule { name: "r".into(), bucket: "lake".into(), time_seconds: 900, ..Rule::default() };
        let stored = format!(
            r#"{{"project":"p","logstore":"l","rule":{},"stages":["encode-json 1.0.0"]}}"#,
            serde_json::to_string(&rule).unwrap()
        );
        let record = PlanRecord::<PlannedRule>::parse(&stored).unwrap();
        assert_eq!((&record.project[..], &record.rule.rule, &record.digest), ("p", &rule, &None));
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
        let events = stored.replace(r#""rule":"#, r#""siem":"#);
        let error = PlanRecord::<PlannedRule>::parse(&events).unwrap_err().to_string();
        assert!(error.contains("missing field `rule`"), "{error}");
    }
}

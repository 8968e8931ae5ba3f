//! Runs past tasks of a rule through their original stages and through others.

use std::ops::Range;
use std::time::{Duration, Instant};

use logship_logstore::{Limits, Logstore, Shard, ShippingRule, StoreError, Task, TaskFilter};
use logship_source::shard_reader::{CHUNK_BYTES, ShardReader, Slice, SourceError};

use crate::engine::DeliveryEngine;
use crate::engine::preview::{OutputFactory, OutputResult, Outputs};
use crate::pipeline::Tap;
use crate::preview::difference::{Comparison, Difference, Side};
use crate::preview::{Outcome, PreviewLimits, SkipReason, TaskComparison, TaskPreview};

/// Runs past tasks.
pub(super) struct Replayer<'a> {
    pub(super) engine: &'a DeliveryEngine,
    pub(super) limits: PreviewLimits,
}

impl Replayer<'_> {
    /// Previews the newest tasks of a rule. `None` if it has no tasks. Blocks.
    pub(super) fn preview_tasks(
        &self,
        logstore: &Logstore,
        rule: &ShippingRule,
        factory: &mut dyn OutputFactory,
    ) -> Result<Option<Vec<TaskPreview>>, StoreError> {
        let filter = TaskFilter {
            project: Some(logstore.project.clone()),
            logstore: Some(logstore.name.clone()),
            rule: Some(rule.name.clone()),
            ..TaskFilter::default()
        };
        let (mut tasks, _) = self.engine.store().tasks(&filter, 0, self.limits.last)?;
        // A deleted rule may have had the same name.
        tasks.retain(|task| task.rule_number == rule.number());
        let mut reader = ShardReader::default();
        let previews = tasks.iter().map(|task| {
            let shard = logstore.shard(task.shard).map_err(|error| SkipReason::Other(error.to_string()));
            let result = shard.and_then(|shard| self.preview_task(shard, task, factory, &mut reader));
            TaskPreview { task: task.id, shard: task.shard, result }
        });
        let previews: Vec<TaskPreview> = previews.collect();
        Ok((!previews.is_empty()).then_some(previews))
    }

    fn preview_task(
        &self,
        shard: &Shard,
        task: &Task,
        factory: &mut dyn OutputFactory,
        reader: &mut ShardReader,
    ) -> Result<TaskComparison, SkipReason> {
        self.check_time()?;
        let store = self.engine.store();
        let content = store
            .plan(task.plan)
            .map_err(|error| SkipReason::Other(format!("can't read its plan: {error}")))?;
        let (old, new) = match factory.outputs(task, &content).map_err(SkipReason::Other)? {
            Outputs::Built(old, new) => (old, new),
            Outputs::Keys(old, new) => {
                let outcome = |object| Outcome { object: Some(object), made: None, seconds: 0.0 };
                let (old, new) = (old.map(outcome), new.map(outcome));
                return Ok(TaskComparison { old, new, difference: None, reproduced: None });
            }
        };
        let mut replay = Replay { old: Run::of(old), new: Run::of(new), comparison: Comparison::default() };
        let limits = Limits { groups: usize::MAX, bytes: CHUNK_BYTES, end: task.end.end_cursor() };
        let mut at = task.begin;
        while at < task.end && replay.is_running() {
            self.check_time()?;
            let slice = match reader.read(store, shard, at.cursor, limits) {
                Ok(slice) => slice,
                Err(SourceError::Deleted { .. }) => return Err(SkipReason::Expired { from: at }),
                Err(_) if at.cursor < shard.begin() => return Err(SkipReason::Expired { from: at }),
                Err(error) => return Err(SkipReason::Other(error.to_string())),
            };
            if slice.groups.first().is_none_or(|&(first, _)| first != at.cursor) {
                return Err(SkipReason::Expired { from: at });
            }
            let end = slice.logs_before(task.end);
            let taken = replay.take(&slice, at.log as usize..end);
            at = slice.place(taken);
            if taken < end {
                break;
            }
        }
        Ok(replay.finish(task))
    }

    fn check_time(&self) -> Result<(), SkipReason> {
        if self.engine.is_stopping() {
            return Err(SkipReason::Stopping);
        }
        if Instant::now() >= self.limits.until { Err(SkipReason::NoTime) } else { Ok(()) }
    }
}

/// A task that runs through both pipelines.
struct Replay {
    old: Run,
    new: Run,
    comparison: Comparison,
}

impl Replay {
    fn is_running(&self) -> bool {
        self.old.output.is_ok() || (self.new.output.is_ok() && !self.new.is_full)
    }

    /// Gives both outputs the same logs. The task ends where the original object is full.
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> usize {
        let taken = self.old.take(slice, logs.clone());
        let end = if self.old.output.is_ok() { taken } else { logs.end };
        drain(&self.old.tap, Side::Old, &mut self.comparison);
        self.new.take(slice, logs.start..end);
        drain(&self.new.tap, Side::New, &mut self.comparison);
        end
    }

    fn finish(self, task: &Task) -> TaskComparison {
        let Self { old, new, mut comparison } = self;
        let taps = [(Side::Old, old.tap.clone()), (Side::New, new.tap.clone())];
        let (old, new) = (old.finish(), new.finish());
        taps.iter().for_each(|(side, tap)| drain(tap, *side, &mut comparison));
        let stored =
            task.manifest.as_ref().filter(|manifest| manifest.has_object()).map(|manifest| &manifest.sha256);
        let made = old.as_ref().ok().and_then(|outcome| outcome.made.as_ref());
        let reproduced = made.zip(stored).map(|(made, stored)| made.sha256 == *stored);
        let difference: Option<Difference> =
            if old.is_ok() && new.is_ok() { comparison.finish() } else { None };
        TaskComparison { old, new, difference, reproduced }
    }
}

/// One of the two runs.
struct Run {
    output: OutputResult,
    tap: Tap,
    logs: u64,
    /// True if the output takes no more logs.
    is_full: bool,
    elapsed: Duration,
}

impl Run {
    fn of(output: OutputResult) -> Self {
        let tap = output.as_ref().map(|output| output.tap()).unwrap_or_default();
        Self { output, tap, logs: 0, is_full: false, elapsed: Duration::ZERO }
    }

    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> usize {
        let Ok(output) = &mut self.output else { return logs.end };
        if self.is_full || logs.is_empty() {
            return logs.end;
        }
        let begun = Instant::now();
        let taken = output.take(slice, logs.clone());
        self.elapsed += begun.elapsed();
        match taken {
            Ok(taken) => {
                self.logs += (taken - logs.start) as u64;
                self.is_full = taken < logs.end;
                taken
            }
            Err(problem) => {
                self.output = Err(problem);
                logs.end
            }
        }
    }

    fn finish(self) -> Result<Outcome, String> {
        let begun = Instant::now();
        let (object, made) = self.output?.finish(self.logs)?;
        let seconds = (self.elapsed + begun.elapsed()).as_secs_f64();
        Ok(Outcome { object, made: Some(made), seconds })
    }
}

/// Moves the bytes of a tap to a comparison.
fn drain(tap: &Tap, side: Side, comparison: &mut Comparison) {
    let (bytes, is_truncated) = tap.take();
    comparison.take(side, &bytes);
    if is_truncated {
        comparison.abandon();
    }
}

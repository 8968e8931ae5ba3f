//! Tasks of a rule, one after the other, through the stages that they were made with and through others.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use logship_logstore::{Limits, Logstore, Shard, ShippingRule, Store, StoreError, Task, TaskFilter};

use super::difference::{Comparison, Difference, Side};
use super::{Compared, Extent, Made, Outcome, Tried, Untried};
use crate::source::{CHUNK, ShardReader, Slice, SourceError};

/// Bytes of a tap that are kept until somebody takes them.
const TAPPED: usize = 8 << 20;

/// Shows what becomes of logs before it is compressed. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Tapped>>);

#[derive(Debug, Default)]
struct Tapped {
    bytes: Vec<u8>,
    /// Whether some were too many to be kept.
    lacks: bool,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Tapped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut tapped = self.lock();
        if tapped.bytes.len() + bytes.len() > TAPPED {
            tapped.lacks = true;
        } else {
            tapped.bytes.extend_from_slice(bytes);
        }
    }

    /// Brings what came to where it is compared.
    fn drain(&self, side: Side, comparison: &mut Comparison) {
        let Tapped { bytes, lacks } = std::mem::take(&mut *self.lock());
        comparison.take(side, &bytes);
        if lacks {
            comparison.give_up();
        }
    }
}

/// Makes something of the logs of a task.
pub(crate) trait Maker {
    /// Takes logs of a slice. Returns where those begin that it did not take: it is full then.
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> Result<usize, String>;

    /// What it made of so many logs; and its key, if it has one.
    fn finish(self: Box<Self>, logs: u64) -> Result<(Option<String>, Made), String>;

    /// Where its bytes are seen.
    fn tap(&self) -> Tap;
}

/// What makes something of a task, or why nothing can.
pub(crate) type Making = Result<Box<dyn Maker>, String>;

/// What there is to compare of a task.
pub(crate) enum Pair {
    /// What is made of its logs: by the old stages, and by the new ones.
    Made(Making, Making),
    /// Only the key of its object.
    Keys(Result<String, String>, Result<String, String>),
}

/// Makes tasks of a rule.
pub(crate) trait Workshop {
    /// What makes a task as it was made, and as it would be. An error says why it can't be tried at all.
    fn pair(&mut self, task: &Task) -> Result<Pair, String>;

    /// Whether the work is to end.
    fn has_ended(&self) -> bool;
}

/// Tries the newest tasks of a rule. None if it has no tasks. Blocks.
pub(crate) fn tasks(
    store: &Store,
    logstore: &Logstore,
    rule: &ShippingRule,
    extent: Extent,
    workshop: &mut dyn Workshop,
) -> Result<Option<Vec<Tried>>, StoreError> {
    let filter = TaskFilter {
        project: Some(logstore.project.clone()),
        logstore: Some(logstore.name.clone()),
        rule: Some(rule.name.clone()),
        ..TaskFilter::default()
    };
    let (mut tasks, _) = store.tasks(&filter, 0, extent.last)?;
    // Another rule may have had the name before.
    tasks.retain(|task| task.rule_number == rule.number());
    let mut reader = ShardReader::default();
    let tried = tasks.iter().map(|task| {
        let shard = logstore.shard(task.shard).map_err(|error| Untried::Other(error.to_string()));
        let result = shard.and_then(|shard| try_task(store, shard, task, extent, workshop, &mut reader));
        Tried { task: task.id, shard: task.shard, result }
    });
    let tried: Vec<Tried> = tried.collect();
    Ok((!tried.is_empty()).then_some(tried))
}

fn try_task(
    store: &Store,
    shard: &Shard,
    task: &Task,
    extent: Extent,
    workshop: &mut dyn Workshop,
    reader: &mut ShardReader,
) -> Result<Compared, Untried> {
    check_time(extent, workshop)?;
    let (old, new) = match workshop.pair(task).map_err(Untried::Other)? {
        Pair::Made(old, new) => (old, new),
        Pair::Keys(old, new) => {
            let outcome = |object| Outcome { object: Some(object), made: None, seconds: 0.0 };
            let (old, new) = (old.map(outcome), new.map(outcome));
            return Ok(Compared { old, new, difference: None, reproduced: None });
        }
    };
    let mut replay = Replay { old: Work::of(old), new: Work::of(new), comparison: Comparison::default() };
    let limits = Limits { groups: usize::MAX, bytes: CHUNK, end: task.end.behind() };
    let mut at = task.begin;
    while at < task.end && replay.is_working() {
        check_time(extent, workshop)?;
        let slice = match reader.read(store, shard, at.cursor, limits) {
            Ok(slice) => slice,
            Err(SourceError::Deleted { .. }) => return Err(Untried::Expired { from: at }),
            Err(_) if at.cursor < shard.begin() => return Err(Untried::Expired { from: at }),
            Err(error) => return Err(Untried::Other(error.to_string())),
        };
        if slice.groups.first().is_none_or(|&(first, _)| first != at.cursor) {
            return Err(Untried::Expired { from: at });
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

fn check_time(extent: Extent, workshop: &dyn Workshop) -> Result<(), Untried> {
    if workshop.has_ended() {
        return Err(Untried::Ended);
    }
    if Instant::now() >= extent.until { Err(Untried::NoTime) } else { Ok(()) }
}

/// A task in the making, twice.
struct Replay {
    old: Work,
    new: Work,
    comparison: Comparison,
}

impl Replay {
    fn is_working(&self) -> bool {
        self.old.making.is_ok() || (self.new.making.is_ok() && !self.new.is_full)
    }

    /// Gives both the same logs. Those that the old stages would put into another object belong to another task.
    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> usize {
        let taken = self.old.take(slice, logs.clone());
        let end = if self.old.making.is_ok() { taken } else { logs.end };
        self.old.tap.drain(Side::Old, &mut self.comparison);
        self.new.take(slice, logs.start..end);
        self.new.tap.drain(Side::New, &mut self.comparison);
        end
    }

    fn finish(self, task: &Task) -> Compared {
        let Self { old, new, mut comparison } = self;
        let taps = [(Side::Old, old.tap.clone()), (Side::New, new.tap.clone())];
        let (old, new) = (old.finish(), new.finish());
        taps.iter().for_each(|(side, tap)| tap.drain(*side, &mut comparison));
        let sealed = task.seal.as_ref().filter(|seal| seal.has_object()).map(|seal| &seal.sha256);
        let made = old.as_ref().ok().and_then(|outcome| outcome.made.as_ref());
        let reproduced = made.zip(sealed).map(|(made, sealed)| made.sha256 == *sealed);
        let difference: Option<Difference> =
            if old.is_ok() && new.is_ok() { comparison.finish() } else { None };
        Compared { old, new, difference, reproduced }
    }
}

/// One of the two.
struct Work {
    making: Making,
    tap: Tap,
    logs: u64,
    /// Whether its object takes no more logs.
    is_full: bool,
    took: Duration,
}

impl Work {
    fn of(making: Making) -> Self {
        let tap = making.as_ref().map(|maker| maker.tap()).unwrap_or_default();
        Self { making, tap, logs: 0, is_full: false, took: Duration::ZERO }
    }

    fn take(&mut self, slice: &Slice, logs: Range<usize>) -> usize {
        let Ok(maker) = &mut self.making else { return logs.end };
        if self.is_full || logs.is_empty() {
            return logs.end;
        }
        let begun = Instant::now();
        let taken = maker.take(slice, logs.clone());
        self.took += begun.elapsed();
        match taken {
            Ok(taken) => {
                self.logs += (taken - logs.start) as u64;
                self.is_full = taken < logs.end;
                taken
            }
            Err(problem) => {
                self.making = Err(problem);
                logs.end
            }
        }
    }

    fn finish(self) -> Result<Outcome, String> {
        let begun = Instant::now();
        let (object, made) = self.making?.finish(self.logs)?;
        let seconds = (self.took + begun.elapsed()).as_secs_f64();
        Ok(Outcome { object, made: Some(made), seconds })
    }
}

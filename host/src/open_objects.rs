//! The open objects of a rule that partitions by the time of logs: one for each hour or day.
//!
//! Logs come in any order, late ones too. Each goes into the open object of its partition; where there is none, one is
//! begun. As each has instances of the stages, they are bounded: for one more, that which got no log for longest is
//! finished. It may get another one later, for the same partition.
//!
//! All of it follows from the logs and their order alone: a task that is done again makes the same objects.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::batch::LogBatch;
use crate::object::{Object, ObjectError, before_a_log, behind_a_log, origins_of};
use crate::partition::{Partition, Partitioner, Share};
use crate::pipeline::Pipeline;
use crate::stage::TransformingSession;
use crate::transforms;

/// Where objects of partitions begin, and where they go.
pub(crate) trait Site {
    /// What makes them.
    fn pipeline(&self) -> &Pipeline;

    /// One more object, for logs that are transformed already.
    fn begin(&mut self, partition: Partition) -> Result<Object, ObjectError>;

    /// An object gets no more logs.
    fn end(&mut self, object: Object) -> Result<(), ObjectError>;
}

/// The open objects, and what logs go through before they come to them.
#[derive(Debug)]
pub(crate) struct OpenObjects {
    partitioner: Partitioner,
    /// None: they are to be opened. They begin anew with each object that ends, as those of other rules do.
    transformers: Option<Vec<TransformingSession>>,
    /// That which got a log last is the last.
    open: Vec<(Partition, Object)>,
    /// How many may be open.
    most: usize,
    left_out: u64,
}

impl OpenObjects {
    /// None where the rule does not partition by the time of logs.
    pub(crate) fn new(pipeline: &Pipeline) -> Option<Self> {
        let partitioner = pipeline.partitioner()?;
        let most = pipeline.open_partitions();
        Some(Self { partitioner, transformers: None, open: vec![], most, left_out: 0 })
    }

    /// Takes logs, transformed, each into the object of its partition. Returns where those begin that it did not take: with
    /// the first of them there would be more than `most` partitions that have no open object.
    pub(crate) fn take(
        &mut self,
        batch: &LogBatch,
        logs: Range<usize>,
        most: usize,
        site: &mut impl Site,
    ) -> Result<usize, ObjectError> {
        let whole = logs.len() == batch.len();
        let some = if whole { Cow::Borrowed(batch) } else { Cow::Owned(batch.slice(logs.clone())) };
        let transformers = match &mut self.transformers {
            Some(transformers) => transformers,
            none => none.insert(site.pipeline().open_transforms()?),
        };
        let made = transforms::apply(transformers, &some, 0..some.len())?;
        let (made, origins) = match &made {
            Some(made) => (&made.batch, &made.logs[..]),
            None => (&*some, &[][..]),
        };
        let mut shares = self.partitioner.shares(&made.times);
        let end = self.bound(&mut shares, made.len(), origins, most);
        // Those that are open come first: none is finished for another while there are logs for it.
        shares.sort_by_key(|share| (!self.is_open(share.partition), share.partition));
        for Share { partition, logs } in &shares {
            match logs {
                None => self.fill(*partition, made, origins, site)?,
                Some(logs) => {
                    let from: Vec<u32> =
                        logs.iter().filter_map(|&log| origins.get(log as usize).copied()).collect();
                    self.fill(*partition, &made.pick(logs), &from, site)?;
                }
            }
        }
        let origin = |log: usize| origins.get(log).map_or(log, |&log| log as usize);
        let taken = if end == made.len() { some.len() } else { origin(end) };
        self.left_out += taken as u64 - origins_of(origins, end);
        Ok(logs.start + taken)
    }

    /// Takes from the shares what would be too many partitions, and all that is behind the first log of it. Returns how many
    /// of the logs are left: all that are of the same log are, or none.
    fn bound(&self, shares: &mut Vec<Share>, count: usize, origins: &[u32], most: usize) -> usize {
        let first = |share: &Share| share.logs.as_ref().map_or(0, |logs| logs[0] as usize);
        let new = shares.iter().filter(|share| !self.is_open(share.partition));
        // They are in the order of their first logs.
        let Some(over) = new.map(first).nth(most) else { return count };
        let end = match before_a_log(origins, 0..over) {
            0 => behind_a_log(origins, 0..count),
            end => end,
        };
        for share in shares.iter_mut() {
            if let Some(logs) = &mut share.logs {
                logs.truncate(logs.partition_point(|&log| (log as usize) < end));
            }
        }
        shares.retain(|share| share.logs.as_ref().is_none_or(|logs| !logs.is_empty()));
        end
    }

    /// Puts logs of a partition into its object, and into others where it is full.
    fn fill(
        &mut self,
        partition: Partition,
        batch: &LogBatch,
        origins: &[u32],
        site: &mut impl Site,
    ) -> Result<(), ObjectError> {
        let mut logs = 0..batch.len();
        while !logs.is_empty() {
            let (_, object) = self.object(partition, site)?;
            logs.start = object.fill(batch, logs.clone(), origins)?;
            if !logs.is_empty()
                && let Some((_, full)) = self.open.pop()
            {
                self.end(full, site)?;
            }
        }
        Ok(())
    }

    /// The open object of a partition, which is the last now.
    fn object(
        &mut self,
        partition: Partition,
        site: &mut impl Site,
    ) -> Result<&mut (Partition, Object), ObjectError> {
        let found = match self.open.iter().position(|(of, _)| *of == partition) {
            Some(place) => self.open.remove(place),
            None => {
                while self.open.len() >= self.most {
                    let (_, oldest) = self.open.remove(0);
                    self.end(oldest, site)?;
                }
                (partition, site.begin(partition)?)
            }
        };
        let last = self.open.len();
        self.open.push(found);
        Ok(&mut self.open[last])
    }

    fn end(&mut self, object: Object, site: &mut impl Site) -> Result<(), ObjectError> {
        self.transformers = None;
        site.end(object)
    }

    /// Ends all objects, in the order of their partitions.
    pub(crate) fn end_all(&mut self, site: &mut impl Site) -> Result<(), ObjectError> {
        self.open.sort_by_key(|(partition, _)| *partition);
        std::mem::take(&mut self.open).into_iter().try_for_each(|(_, object)| self.end(object, site))
    }

    /// Ends the objects that are open for as long as `time`.
    pub(crate) fn end_due(&mut self, time: Duration, site: &mut impl Site) -> Result<(), ObjectError> {
        let is_due = |(_, object): &mut (Partition, Object)| object.begun().elapsed() >= time;
        let due: Vec<_> = self.open.extract_if(.., is_due).collect();
        due.into_iter().try_for_each(|(_, object)| self.end(object, site))
    }

    /// When the oldest of them was begun.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.open.iter().map(|(_, object)| object.begun()).min()
    }

    /// Bytes of the open objects before compression: of the largest, and of all.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let sizes = self.open.iter().map(|(_, object)| object.size());
        (sizes.clone().max().unwrap_or(0), sizes.sum())
    }

    /// How many logs the transformers left out since the last call.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    fn is_open(&self, partition: Partition) -> bool {
        self.open.iter().any(|(of, _)| *of == partition)
    }
}

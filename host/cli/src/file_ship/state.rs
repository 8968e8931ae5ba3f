//! The state that the threads of a run share.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::omitted::Omitted;
use super::shard::{Plan, ShardShipper};
use super::{Options, Outcome, ShipError};
use crate::input::rejects::Rejects;
use crate::input::{Block, Unread};
use logship_batch::batch::LogBatch;
use logship_batch::parser::{Parsed, Parser, Reject};

pub(super) struct State<'a> {
    /// Blocks to parse, with their numbers.
    pub(super) blocks: VecDeque<(u64, Block)>,
    /// The number of blocks read.
    pub(super) blocks_read: u64,
    pub(super) end_of_input: bool,
    /// True if a signal stopped the reader.
    pub(super) stopped: bool,
    /// Parsed blocks that wait for an earlier block.
    pub(super) parsed: BTreeMap<u64, ParsedBlock>,
    /// The number of blocks dispatched to the shards.
    dispatched: u64,
    /// The file of the last dispatched block, and the number of its dispatched lines.
    pub(super) position: Option<(Arc<Path>, u64)>,
    pub(super) queued_bytes: usize,
    shards: Vec<Shard>,
    /// Idle shards that have queued logs or an object that is due.
    ready: VecDeque<usize>,
    pub(super) rejects: &'a mut Rejects,
    pub(super) outcome: Outcome,
    pub(super) failed: Option<ShipError>,
}

/// The logs and the rejected lines of a block.
pub(super) struct ParsedBlock {
    path: Arc<Path>,
    parsed: Parsed,
    /// The file, if it can't be read further or is passed over.
    unread: Option<Unread>,
    omitted: Omitted,
}

impl ParsedBlock {
    pub(super) fn new(block: &Block, parser: &mut Parser, options: &Options) -> Self {
        let parsed = block.parse(parser, &options.records);
        let batches = || parsed.batches.iter().map(|(_, batch)| batch);
        let omitted = options.columns.as_ref().map(|columns| Omitted::of(batches(), columns));
        Self {
            path: Arc::clone(&block.path),
            omitted: omitted.unwrap_or_default(),
            parsed,
            unread: block.to_unread(),
        }
    }
}

struct Shard {
    /// `None` while a worker ships the shard.
    shipper: Option<Box<ShardShipper>>,
    queue: Vec<LogBatch>,
    /// The time by which the shard's oldest open object must be finished.
    due: Option<Instant>,
    is_ready: bool,
    is_done: bool,
}

/// A worker's next work item.
pub(super) enum Work {
    Parse(u64, Block),
    Ship { shard: usize, shipper: Box<ShardShipper>, batches: Vec<LogBatch>, is_due: bool, is_last: bool },
    Wait(Option<Instant>),
    End,
}

impl Shard {
    fn new(plan: &Arc<Plan>, shard: u32) -> Self {
        let shipper = Some(Box::new(ShardShipper::new(Arc::clone(plan), shard)));
        Self { shipper, queue: vec![], due: None, is_ready: false, is_done: false }
    }
}

impl<'a> State<'a> {
    pub(super) fn new(plan: &Arc<Plan>, shards: u32, rejects: &'a mut Rejects) -> Self {
        Self {
            blocks: VecDeque::new(),
            blocks_read: 0,
            end_of_input: false,
            stopped: false,
            parsed: BTreeMap::new(),
            dispatched: 0,
            position: None,
            queued_bytes: 0,
            shards: (0..shards).map(|shard| Shard::new(plan, shard)).collect(),
            ready: VecDeque::new(),
            rejects,
            outcome: Outcome::default(),
            failed: None,
        }
    }

    pub(super) fn fail(&mut self, error: ShipError) {
        if let ShipError::Lost(lost) = &error {
            self.outcome.lost.merge(lost.clone());
        }
        self.failed.get_or_insert(error);
    }

    pub(super) fn next_work(&mut self) -> Work {
        if self.failed.is_some() {
            return Work::End;
        }
        let now = Instant::now();
        let is_last = self.end_of_input && self.dispatched == self.blocks_read;
        for shard in 0..self.shards.len() {
            let Shard { due, is_done, .. } = &self.shards[shard];
            if due.is_some_and(|due| due <= now) || (is_last && !is_done) {
                self.make_ready(shard);
            }
        }
        if let Some(shard) = self.ready.pop_front() {
            return self.take(shard, now, is_last);
        }
        match self.blocks.pop_front() {
            Some((number, block)) => Work::Parse(number, block),
            None if is_last && self.shards.iter().all(|shard| shard.is_done) => Work::End,
            None => Work::Wait(self.shards.iter().filter_map(|shard| shard.due).min()),
        }
    }

    /// Queues an idle shard for the workers, unless it is already queued.
    fn make_ready(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        if shard.shipper.is_some() && !shard.is_ready {
            shard.is_ready = true;
            self.ready.push_back(number);
        }
    }

    fn take(&mut self, number: usize, now: Instant, is_last: bool) -> Work {
        let shard = &mut self.shards[number];
        shard.is_ready = false;
        let is_due = shard.due.is_some_and(|due| due <= now);
        shard.due = None;
        match shard.shipper.take() {
            Some(shipper) => Work::Ship {
                shard: number,
                shipper,
                batches: std::mem::take(&mut shard.queue),
                is_due,
                is_last,
            },
            None => Work::Wait(None),
        }
    }

    pub(super) fn put_back(&mut self, number: usize, shipper: Box<ShardShipper>, is_last: bool) {
        let shard = &mut self.shards[number];
        shard.due = shipper.due();
        shard.shipper = Some(shipper);
        shard.is_done = is_last;
        if !shard.queue.is_empty() {
            self.make_ready(number);
        }
    }

    /// Dispatches parsed blocks to the shards, in input order.
    pub(super) fn dispatch(&mut self, strict: bool) {
        while let Some(ParsedBlock { path, parsed, unread, omitted }) = self.parsed.remove(&self.dispatched) {
            self.dispatched += 1;
            let before = match self.position.take() {
                Some((file, lines)) if Arc::ptr_eq(&file, &path) => lines,
                _ => 0,
            };
            match unread {
                Some(unread) if strict && !unread.is_intended => self.fail(ShipError::Unread(unread)),
                unread => self.outcome.unread.extend(unread),
            }
            for reject in &parsed.rejects {
                self.reject(&path, before + reject.line as u64 + 1, reject, strict);
            }
            if let Err(error) = self.rejects.flush() {
                self.fail(error.into());
            }
            self.omit(omitted, strict);
            for (shard, batch) in parsed.batches {
                self.queued_bytes += batch.bytes();
                self.outcome.record(&batch);
                self.shards[shard as usize].queue.push(batch);
                self.make_ready(shard as usize);
            }
            self.position = Some((path, before + parsed.lines as u64));
        }
    }

    /// Records values without a column.
    fn omit(&mut self, Omitted { mut keys, values }: Omitted, strict: bool) {
        self.outcome.omitted.append(&mut keys);
        match values {
            values if values.is_empty() => {}
            values if strict => self.fail(ShipError::Lost(values)),
            values => self.outcome.lost.merge(values),
        }
    }

    fn reject(&mut self, path: &Path, line: u64, reject: &Reject, strict: bool) {
        if strict {
            let file = path.display().to_string();
            self.fail(ShipError::Malformed { file, line, reason: reject.reason.clone() });
        } else if let Err(error) = self.rejects.add(path, line, reject) {
            self.fail(error.into());
        }
    }
}

//! Tables in memory, and blocks of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use logship_config::data_source::DataSource;
use logship_config::maxcompute::Protocol;
use logship_logstore::{Limits, LogPosition, Store};
use logship_sink::maxcompute::{
    CommitOutcome, SessionStatus, TableColumn, TableRef, TableSchema, UploadSession,
};
use logship_source::shard_reader::{ShardReader, Slice};

use crate::rows::Sources;
use crate::rows::jobs::blocks::{Block, BlockReader, BlockReaders};
use crate::rows::jobs::destination::{Answer, Destinations, Tables};
use crate::rows::jobs::error::RunError;
use crate::rows::jobs::plan::RunPlan;
use crate::rows::jobs::progress::ShardProgress;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A session is not created.
    Create,
    /// A block is not stored.
    Put,
    /// A block is stored, and the answer is lost.
    PutStored,
    /// A block is never answered.
    Hang,
    /// The session expires before a block.
    Expire,
    /// A commit is not done.
    CommitRefused,
    /// A commit is done, and the answer is lost.
    CommitLost,
    /// A commit is done, the answer is lost, and the session is forgotten.
    CommitLostAndForgotten,
}

/// The target, the blocks and the status of a session; no status if it is forgotten.
type Session = (TableRef, BTreeMap<u32, Bytes>, Option<SessionStatus>);

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    partitions: BTreeMap<String, Vec<Bytes>>,
    fault: Option<Fault>,
    hanging: usize,
}

/// Tables in memory.
#[derive(Debug, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

fn lost() -> RunError {
    RunError::Stage("the answer is lost".into())
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    pub(super) fn hanging(&self) -> usize {
        self.state().hanging
    }

    pub(super) fn partitions(&self) -> Vec<String> {
        self.state().partitions.keys().cloned().collect()
    }

    /// The ids in all partitions.
    pub(super) fn rows(&self) -> Vec<u64> {
        let state = self.state();
        let blocks = state.partitions.values().flatten();
        let lines = blocks.flat_map(|block| std::str::from_utf8(block).unwrap().lines());
        lines.map(|line| line.parse().unwrap()).collect()
    }

    /// Takes the fault, if it is one of these.
    fn fault(&self, of: &[Fault]) -> Option<Fault> {
        let mut state = self.state();
        state.fault.take_if(|fault| of.contains(fault))
    }

    fn show(&self, id: &str) -> Option<UploadSession> {
        let state = self.state();
        let (_, blocks, status) = state.sessions.get(id)?;
        let (schema, blocks) = (schema(), blocks.keys().copied().collect::<BTreeSet<_>>());
        Some(UploadSession { id: id.into(), schema, status: (*status)?, blocks })
    }

    fn store(&self, id: &str, block: u32, body: Bytes) -> Result<(), RunError> {
        let mut state = self.state();
        match state.sessions.get_mut(id) {
            Some((_, blocks, Some(SessionStatus::Normal))) => {
                blocks.insert(block, body);
                Ok(())
            }
            _ => Err(RunError::SessionGone("expired".into())),
        }
    }

    fn publish(&self, id: &str, expected: &[u32]) {
        let mut state = self.state();
        let (table, blocks, status) = state.sessions.get_mut(id).unwrap();
        assert_eq!(*status, Some(SessionStatus::Normal), "a session is committed twice");
        assert_eq!(blocks.keys().copied().collect::<Vec<_>>(), expected);
        *status = Some(SessionStatus::Closed);
        let (table, blocks) = (table.clone(), blocks.values().cloned().collect::<Vec<_>>());
        let partition = state.partitions.entry(table.partition.unwrap_or_default()).or_default();
        if table.overwrite {
            partition.clear();
        }
        partition.extend(blocks);
    }
}

fn schema() -> TableSchema {
    let column = |name: &str| TableColumn {
        name: name.into(),
        data_type: "string".into(),
        nullable: true,
        comment: String::new(),
    };
    TableSchema { columns: vec![column("key1"), column("key2")], partition_keys: vec![column("pt")] }
}

impl Destinations for Memory {
    fn open(&self, _: &str, _: &str) -> Result<Arc<dyn Tables>, RunError> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl Tables for Memory {
    fn protocol(&self) -> Protocol {
        Protocol::Arrow
    }

    fn schema<'a>(&'a self, _: &'a str) -> Answer<'a, TableSchema> {
        Box::pin(async { Ok(schema()) })
    }

    fn create_session<'a>(&'a self, table: &'a TableRef) -> Answer<'a, UploadSession> {
        Box::pin(async move {
            if self.fault(&[Fault::Create]).is_some() {
                return Err(lost());
            }
            let id = format!("s{}", self.state().sessions.len());
            let session = (table.clone(), BTreeMap::new(), Some(SessionStatus::Normal));
            self.state().sessions.insert(id.clone(), session);
            Ok(self.show(&id).unwrap())
        })
    }

    fn session<'a>(&'a self, _: &'a TableRef, id: &'a str) -> Answer<'a, Option<UploadSession>> {
        Box::pin(async move { Ok(self.show(id)) })
    }

    fn put_block<'a>(&'a self, _: &'a TableRef, id: &'a str, block: u32, body: Bytes) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.fault(&[Fault::Put, Fault::PutStored, Fault::Hang, Fault::Expire]) {
                Some(Fault::Put) => return Err(lost()),
                Some(Fault::Hang) => {
                    self.state().hanging += 1;
                    std::future::pending().await
                }
                Some(Fault::Expire) => {
                    self.state().sessions.get_mut(id).unwrap().2 = Some(SessionStatus::Expired);
                }
                Some(_) => {
                    self.store(id, block, body)?;
                    return Err(lost());
                }
                None => {}
            }
            self.store(id, block, body)
        })
    }

    fn commit<'a>(&'a self, _: &'a TableRef, id: &'a str, blocks: &'a [u32]) -> Answer<'a, CommitOutcome> {
        Box::pin(async move {
            let fault = self.fault(&[Fault::CommitRefused, Fault::CommitLost, Fault::CommitLostAndForgotten]);
            if fault == Some(Fault::CommitRefused) {
                return Err(lost());
            }
            if self.show(id).is_some_and(|session| session.status == SessionStatus::Closed) {
                return Ok(CommitOutcome::Committed);
            }
            self.publish(id, blocks);
            match fault {
                None => Ok(CommitOutcome::Committed),
                Some(Fault::CommitLost) => Err(lost()),
                Some(_) => {
                    self.state().sessions.get_mut(id).unwrap().2 = None;
                    Err(lost())
                }
            }
        })
    }

    fn run_sql<'a>(&'a self, _: &'a str) -> Answer<'a, String> {
        Box::pin(async { Ok(String::new()) })
    }
}

#[derive(Debug)]
pub(super) struct NoSources;

impl Sources for NoSources {
    fn find(&self, _: &str, _: &str) -> Option<DataSource> {
        None
    }
}

/// Makes blocks of up to three log groups: the ids of the logs, one a line.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Arc<Store>);

impl BlockReaders for Lines {
    fn stage(&self) -> Result<String, RunError> {
        Ok("lines".into())
    }

    fn check(&self, _: &RunPlan) -> Result<(), RunError> {
        Ok(())
    }

    fn sample(&self, _: &RunPlan, _: usize, _: usize) -> Result<Slice, RunError> {
        Err(RunError::Stage("lines have no preview".into()))
    }

    fn open(
        &self,
        plan: &RunPlan,
        ordinal: usize,
        done: &ShardProgress,
    ) -> Result<Box<dyn BlockReader>, RunError> {
        let range = plan.shards[ordinal];
        Ok(Box::new(LineReader {
            store: Arc::clone(&self.0),
            shard: range.shard,
            next: done.cursor,
            end: range.end,
        }))
    }
}

struct LineReader {
    store: Arc<Store>,
    shard: u32,
    next: u64,
    end: u64,
}

impl BlockReader for LineReader {
    fn next_block(&mut self) -> Result<Option<Block>, RunError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let catalog = self.store.catalog();
        let shard = catalog.logstore("p", "access")?.shard(self.shard)?;
        let limits = Limits { groups: 3, bytes: usize::MAX, end: self.end };
        let slice = ShardReader::default().read(&self.store, shard, self.next, limits)?;
        let mut lines = String::new();
        for log in 0..slice.batch.len() {
            let (_, id) = slice.batch.log_fields(log).next().unwrap();
            lines.push_str(std::str::from_utf8(id).unwrap());
            lines.push('\n');
        }
        self.next = slice.next;
        let (end, rows) = (LogPosition::at(slice.next), slice.batch.len() as u64);
        Ok(Some(Block { end, bytes: lines.into(), rows, log_bytes: 1, dirty: vec![] }))
    }
}

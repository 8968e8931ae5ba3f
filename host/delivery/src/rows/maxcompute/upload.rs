//! Uploads of blocks to the sessions of a task.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use logship_config::maxcompute::Protocol;
use logship_sink::maxcompute::{Class, MaxCompute, MaxComputeError, SessionStatus, TableRef, UploadSession};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::blocks::BlockSink;
use super::error::{RowError, failure};
use super::sessions::{SavedSession, SessionState, Sessions, of_partition, unclear};
use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::TaskError;

/// Concurrent uploads of a task. Each has a block in memory.
const UPLOADS: usize = 2;

/// The uploads of an attempt.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    attempt: &'a Attempt<'a>,
    sink: Arc<MaxCompute>,
    table: TableRef,
    protocol: Protocol,
    pub(super) sessions: Sessions,
    /// The blocks that sessions have already, by partition.
    existing: HashMap<String, BTreeSet<u32>>,
    runtime: Handle,
    puts: JoinSet<Result<(), MaxComputeError>>,
}

impl<'a> Upload<'a> {
    /// Reads the sessions of earlier attempts, and the schema of the table if there are none.
    pub(super) fn begin(
        attempt: &'a Attempt<'a>,
        sink: Arc<MaxCompute>,
        table: TableRef,
        protocol: Protocol,
        runtime: Handle,
    ) -> Result<Self, TaskError> {
        // A form that can't be read is another version's. Its sessions may be committed.
        let saved = attempt.task.sessions.as_deref().map(Sessions::parse).transpose();
        let sessions =
            saved.map_err(|error| RowError::Table(format!("can't read the task's sessions: {error}")))?;
        let mut upload = Self {
            attempt,
            sink,
            table,
            protocol,
            sessions: sessions.unwrap_or_default(),
            existing: HashMap::new(),
            runtime,
            puts: JoinSet::new(),
        };
        upload.forget_other_plan()?;
        upload.resume()?;
        if upload.has_no_open_session() {
            let schema = attempt.wait(upload.sink.table(&upload.table.table))?.map_err(failure)?;
            if schema != upload.sessions.schema {
                upload.sessions.schema = schema;
                attempt.save_sessions(upload.sessions.text())?;
            }
        }
        Ok(upload)
    }

    /// Forgets the sessions of another plan, whose blocks are others. Tasks with a manifest keep their plan, and no other
    /// is committed.
    fn forget_other_plan(&mut self) -> Result<(), TaskError> {
        let plan = self.attempt.task.plan;
        if self.sessions.plan != plan {
            self.sessions = Sessions { plan, ..Sessions::default() };
            self.attempt.save_sessions(self.sessions.text())?;
        }
        Ok(())
    }

    fn has_no_open_session(&self) -> bool {
        self.sessions.sessions.values().all(|session| session.state == SessionState::Committed)
    }

    /// Finds out what became of the sessions of earlier attempts.
    fn resume(&mut self) -> Result<(), TaskError> {
        let before = self.sessions.clone();
        for (partition, SavedSession { id, state }) in &before.sessions {
            match state {
                SessionState::Committed => continue,
                // The operator has decided.
                SessionState::Unclear => {
                    self.sessions.sessions.remove(partition);
                    continue;
                }
                SessionState::Open | SessionState::Committing => {}
            }
            let table = self.table_of(partition);
            match self.attempt.wait(self.sink.session(&table, id))? {
                Ok(session) => self.resume_session(partition, *state, session)?,
                Err(error) if error.is_not_found() || error.class() == Class::SessionDone => {
                    self.ended(partition, *state, &error.to_string())?;
                }
                Err(error) => return Err(failure(error).into()),
            }
        }
        if self.sessions != before {
            self.attempt.save_sessions(self.sessions.text())?;
        }
        Ok(())
    }

    fn resume_session(
        &mut self,
        partition: &str,
        state: SessionState,
        session: UploadSession,
    ) -> Result<(), TaskError> {
        match session.status {
            SessionStatus::Normal => {
                self.existing.insert(partition.to_owned(), session.blocks);
            }
            SessionStatus::Closed => self.sessions.set(partition, SessionState::Committed),
            // All blocks are there: the commit waits for its end.
            SessionStatus::Closing => {
                self.existing.insert(partition.to_owned(), session.blocks);
            }
            SessionStatus::Canceled | SessionStatus::Expired => {
                let why = format!("its status is {:?}", session.status).to_lowercase();
                self.ended(partition, state, &why)?;
            }
        }
        Ok(())
    }

    /// Forgets a session that ended without a commit. If one was sent, it can't be known.
    fn ended(&mut self, partition: &str, state: SessionState, why: &str) -> Result<(), TaskError> {
        if state == SessionState::Committing {
            return Err(self.unclear(partition, why));
        }
        tracing::info!(task = %self.attempt.task.id, partition, why, "an upload session ended: the task opens another one");
        self.sessions.sessions.remove(partition);
        Ok(())
    }

    /// Records that it is not known whether the rows of a partition are visible.
    fn unclear(&mut self, partition: &str, why: &str) -> TaskError {
        let place = self.table_of(partition);
        unclear(self.attempt, &mut self.sessions, &place, partition, why)
    }

    /// Returns the place of a partition.
    pub(super) fn table_of(&self, partition: &str) -> TableRef {
        of_partition(&self.table, partition)
    }

    /// Returns the session of a partition. Opens it, and saves it before the first block is uploaded.
    fn session(&mut self, partition: &str) -> Result<String, TaskError> {
        if let Some(session) = self.sessions.sessions.get(partition) {
            return Ok(session.id.clone());
        }
        let table = self.table_of(partition);
        let opened = self.attempt.wait(self.sink.create_session(&table))?.map_err(failure)?;
        Step::SessionOpened.reached();
        if opened.schema.columns != self.sessions.schema.columns {
            // The blocks have the former columns. The next attempt reads the new ones.
            let why = format!("the columns of {} changed meanwhile: the task begins anew", table.place());
            self.forget_open()?;
            return Err(RowError::Table(why).into());
        }
        let session = SavedSession { id: opened.id.clone(), state: SessionState::Open };
        self.sessions.sessions.insert(partition.to_owned(), session);
        self.attempt.save_sessions(self.sessions.text())?;
        Step::SessionSaved.reached();
        Ok(opened.id)
    }

    /// Forgets sessions without a commit.
    fn forget_open(&mut self) -> Result<(), TaskError> {
        self.sessions.sessions.retain(|_, session| session.state != SessionState::Open);
        self.attempt.save_sessions(self.sessions.text())
    }

    /// Waits for an upload.
    fn finish_one(&mut self) -> Result<(), TaskError> {
        let done = self.attempt.wait(self.puts.join_next())?;
        match done {
            None | Some(Ok(Ok(()))) => {
                Step::BlockUploaded.reached();
                Ok(())
            }
            Some(Ok(Err(error))) if matches!(error.class(), Class::NewSession | Class::SessionDone) => {
                self.forget_open()?;
                Err(failure(error).into())
            }
            Some(Ok(Err(error))) => Err(failure(error).into()),
            Some(Err(error)) => Err(RowError::Table(format!("an upload ended early: {error}")).into()),
        }
    }

    /// Waits for all uploads. Returns the sessions.
    pub(super) fn finish(mut self) -> Result<Sessions, TaskError> {
        while !self.puts.is_empty() {
            self.finish_one()?;
        }
        Step::BlocksUploaded.reached();
        Ok(self.sessions)
    }
}

impl BlockSink for Upload<'_> {
    /// Uploads a block, unless the session has it.
    fn put(&mut self, partition: &str, block: u32, bytes: Vec<u8>) -> Result<(), TaskError> {
        if self.sessions.is_committed(partition) {
            return Ok(());
        }
        let id = self.session(partition)?;
        if self.existing.get(partition).is_some_and(|blocks| blocks.contains(&block)) {
            return Ok(());
        }
        while self.puts.len() >= UPLOADS {
            self.finish_one()?;
        }
        let (sink, table, protocol) = (Arc::clone(&self.sink), self.table_of(partition), self.protocol);
        let put = async move { sink.put_block(&table, &id, block, protocol, Bytes::from(bytes)).await };
        self.puts.spawn_on(put, &self.runtime);
        Ok(())
    }
}

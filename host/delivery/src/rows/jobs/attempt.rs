//! An attempt of a run. Each step is on disk before the request that depends on it:
//!
//! | on disk | then |
//! |---|---|
//! | the plan: window, cursors, mapping, schema, encoder, block layout | an upload session is opened |
//! | the session | blocks are uploaded |
//! | the blocks that the session has | the next blocks are uploaded |
//! | the intent to commit | the session is committed, once |
//!
//! After a crash the next attempt makes the blocks that are missing, which have the same ids and bytes, and commits.

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use logship_config::job::Job;
use logship_logstore::{JobRun, Store};
use logship_sink::maxcompute::{CommitOutcome, SessionStatus, UploadSession};
use tokio::sync::Mutex;

use super::blocks::{Block, BlockReader, BlockReaders, blocking};
use super::destination::Tables;
use super::error::RunError;
use super::plan::{RunPlan, ShardRange};
use super::progress::{RunProgress, ShardProgress};
use super::rate::RateLimit;
use super::step::RunStep;
use crate::dead_letter::{DeadLetter, DeadLetters, Origin, RowWork};

/// The parts of the service that attempts use.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) store: Arc<Store>,
    pub(super) blocks: Arc<dyn BlockReaders>,
    pub(super) letters: Arc<DeadLetters>,
}

/// An attempt of a run that has a plan.
#[derive(Debug)]
pub(super) struct Attempt {
    tools: Tools,
    run: JobRun,
    job: Job,
    plan: Arc<RunPlan>,
    tables: Arc<dyn Tables>,
    rate: RateLimit,
}

/// The state of a session at the start of an attempt.
enum Found {
    /// It takes blocks.
    Open(String, RunProgress),
    /// It is committed.
    Committed,
}

impl Attempt {
    pub(super) fn new(tools: Tools, run: JobRun, job: Job, plan: RunPlan, tables: Arc<dyn Tables>) -> Self {
        let rate = RateLimit::new(job.rate());
        Self { tools, run, job, plan: Arc::new(plan), tables, rate }
    }

    /// Uploads all blocks and commits them.
    pub(super) async fn perform(&self) -> Result<(), RunError> {
        let result = self.upload_and_commit().await;
        if let Err(error) = &result
            && error.needs_new_session()
            && !matches!(error, RunError::Unclear { .. })
        {
            // The blocks of the next session are the same.
            self.continues(self.tools.store.save_run_session(self.run.id, None).await?)?;
        }
        result
    }

    async fn upload_and_commit(&self) -> Result<(), RunError> {
        let (session, progress) = match self.session().await? {
            Found::Committed => return Ok(()),
            Found::Open(session, progress) => (session, progress),
        };
        let progress = Mutex::new(progress);
        let shards =
            (0..self.plan.shards.len()).map(|ordinal| self.upload_shard(ordinal, &session, &progress));
        let uploads = futures_util::stream::iter(shards).buffer_unordered(self.job.concurrent().max(1));
        uploads.try_collect::<Vec<()>>().await?;
        let progress = progress.into_inner();
        self.check_dirty(&progress, true)?;
        self.commit(&session, &progress).await
    }

    /// Fails if the run was stopped.
    fn continues(&self, changed: bool) -> Result<(), RunError> {
        if changed { Ok(()) } else { Err(RunError::Stopped) }
    }

    /// Finds the session of the attempt before, or opens a new one.
    async fn session(&self) -> Result<Found, RunError> {
        let table = &self.plan.table;
        if let Some(id) = &self.run.session {
            let found = self.tables.session(table, id).await?;
            let progress = RunProgress::parse(self.run.progress.as_deref());
            match found.as_ref().map(|session| session.status) {
                Some(SessionStatus::Closed) if self.run.is_committing => return Ok(Found::Committed),
                Some(SessionStatus::Normal | SessionStatus::Closing) => {
                    let progress =
                        found.map(|session| self.reconcile(progress, &session)).unwrap_or_default();
                    return Ok(Found::Open(id.clone(), progress));
                }
                status => {
                    let why = status.map_or_else(
                        || "the server does not know it".to_owned(),
                        |status| format!("it is {status:?}").to_lowercase(),
                    );
                    if self.run.is_committing && !table.overwrite {
                        return Err(self.unclear(id, why, progress.rows()));
                    }
                    tracing::warn!(
                        run = self.run.id,
                        session = id,
                        why,
                        "an upload session is gone: opening another one"
                    );
                }
            }
        }
        let session = self.tables.create_session(table).await?;
        RunStep::SessionCreated.reached();
        if session.columns() != self.plan.schema.columns {
            return Err(RunError::TableChanged(table.table.clone()));
        }
        self.continues(self.tools.store.save_run_session(self.run.id, Some(session.id.clone())).await?)?;
        RunStep::SessionSaved.reached();
        Ok(Found::Open(session.id, RunProgress::default()))
    }

    /// Drops the progress of shards whose blocks the session does not have.
    fn reconcile(&self, mut progress: RunProgress, session: &UploadSession) -> RunProgress {
        for (ordinal, range) in self.plan.shards.iter().enumerate() {
            let blocks = progress.shards.get(&range.shard).map_or(0, |shard| shard.blocks);
            let has =
                |number| self.plan.block_id(ordinal, number).is_some_and(|id| session.blocks.contains(&id));
            if !(0..blocks).all(has) {
                tracing::warn!(
                    run = self.run.id,
                    shard = range.shard,
                    "the session lost blocks: uploading them again"
                );
                progress.shards.remove(&range.shard);
            }
        }
        progress
    }

    /// Uploads the blocks of a shard, one after the other.
    async fn upload_shard(
        &self,
        ordinal: usize,
        session: &str,
        progress: &Mutex<RunProgress>,
    ) -> Result<(), RunError> {
        let range = self.plan.shards[ordinal];
        let known = progress.lock().await.shards.get(&range.shard).cloned();
        let mut done =
            known.unwrap_or_else(|| ShardProgress { cursor: range.begin, ..ShardProgress::default() });
        if done.is_done {
            return Ok(());
        }
        let (blocks, plan, from) = (Arc::clone(&self.tools.blocks), Arc::clone(&self.plan), done.clone());
        let mut reader = blocking(move || blocks.open(&plan, ordinal, &from)).await?;
        loop {
            let (returned, block) = next_block(reader).await?;
            reader = returned;
            let Some(block) = block else { break };
            self.rate.pass(block.log_bytes).await;
            // If all its logs are dirty, the block has no rows, and no id.
            if block.rows > 0 {
                self.upload_block(ordinal, session, &block, done.blocks).await?;
            }
            count(&mut done, &block, range.shard);
            self.keep_dirty(range.shard, block.dirty).await?;
            self.save(progress, range.shard, &done).await?;
            RunStep::BlockSaved.reached();
        }
        done.is_done = true;
        self.save(progress, range.shard, &done).await
    }

    async fn upload_block(
        &self,
        ordinal: usize,
        session: &str,
        block: &Block,
        number: u32,
    ) -> Result<(), RunError> {
        let id = self.plan.block_id(ordinal, number).ok_or(RunError::TooManyBlocks {
            shard: self.plan.shards[ordinal].shard,
            blocks: self.plan.stride,
        })?;
        self.tables.put_block(&self.plan.table, session, id, block.bytes.clone()).await?;
        RunStep::BlockUploaded.reached();
        Ok(())
    }

    async fn save(
        &self,
        progress: &Mutex<RunProgress>,
        shard: u32,
        done: &ShardProgress,
    ) -> Result<(), RunError> {
        // The lock keeps the order of the writes.
        let mut progress = progress.lock().await;
        progress.shards.insert(shard, done.clone());
        self.continues(self.tools.store.save_run_progress(self.run.id, progress.to_json()).await?)?;
        self.check_dirty(&progress, false)
    }

    /// Keeps the dirty rows of a block as dead letters. Repeatable: the same letters have the same key.
    async fn keep_dirty(&self, shard: u32, dirty: Vec<DeadLetter>) -> Result<(), RunError> {
        if dirty.is_empty() {
            return Ok(());
        }
        let origin = Origin {
            rule: self.run.job_name.clone(),
            receiver: format!("{}/{}", self.plan.source, self.plan.table.table),
            project: self.run.project.clone(),
            logstore: self.plan.logstore.clone(),
            shard,
            work: Some(RowWork::Run { run: self.run.id }),
        };
        let letters = Arc::clone(&self.tools.letters);
        let time = self.tools.store.clock() / 1_000_000;
        let save = move || letters.save(&origin, time, &dirty);
        blocking(move || save().map_err(|error| RunError::DeadLetters(error.to_string()))).await
    }

    /// Fails if there are too many dirty rows. A fraction of all rows is known only at the end.
    fn check_dirty(&self, progress: &RunProgress, is_end: bool) -> Result<(), RunError> {
        let (dirty, rows) = (progress.dirty(), progress.rows() + progress.dirty());
        let mut limit = self.job.error_limit().clone();
        limit.percentage = limit.percentage.filter(|_| is_end);
        if limit.is_exceeded(dirty, rows) {
            let first = progress.first_dirty().to_owned();
            return Err(RunError::DirtyRows { dirty, rows, first });
        }
        Ok(())
    }

    async fn commit(&self, session: &str, progress: &RunProgress) -> Result<(), RunError> {
        self.continues(self.tools.store.begin_run_commit(self.run.id).await?)?;
        RunStep::CommitBegun.reached();
        let table = &self.plan.table;
        match self.tables.commit(table, session, &self.block_ids(progress)).await? {
            CommitOutcome::Committed => {
                RunStep::Committed.reached();
                Ok(())
            }
            CommitOutcome::Unknown { why, was_sent } => {
                // An attempt before this one may have sent a commit too.
                let is_clear = table.overwrite || (!was_sent && !self.run.is_committing);
                Err(match is_clear {
                    true => RunError::SessionGone(why),
                    false => self.unclear(session, why, progress.rows()),
                })
            }
        }
    }

    fn block_ids(&self, progress: &RunProgress) -> Vec<u32> {
        let of_shard = |(ordinal, range): (usize, &ShardRange)| {
            let blocks = progress.shards.get(&range.shard).map_or(0, |shard| shard.blocks);
            (0..blocks).filter_map(move |number| self.plan.block_id(ordinal, number))
        };
        self.plan.shards.iter().enumerate().flat_map(of_shard).collect()
    }

    fn unclear(&self, session: &str, why: String, rows: u64) -> RunError {
        RunError::Unclear { session: session.into(), why, place: self.plan.table.place(), rows }
    }
}

/// Makes the next block. Returns it with its reader.
async fn next_block(
    mut reader: Box<dyn BlockReader>,
) -> Result<(Box<dyn BlockReader>, Option<Block>), RunError> {
    blocking(move || {
        let block = reader.next_block()?;
        Ok((reader, block))
    })
    .await
}

fn count(done: &mut ShardProgress, block: &Block, shard: u32) {
    done.cursor = block.end.cursor;
    done.log = block.end.log;
    done.blocks += u32::from(block.rows > 0);
    done.rows += block.rows;
    done.dirty += block.dirty.len() as u64;
    done.bytes += block.bytes.len() as u64;
    done.log_bytes += block.log_bytes;
    if let Some(first) = block.dirty.first().filter(|_| done.first_dirty.is_empty()) {
        done.first_dirty = format!("shard {shard}, log {}: {}", first.position, first.reason);
    }
}

//! The single writer thread, with group commit: puts that arrive during a commit share the next one.

use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::audit::ProgressFilter;
use super::commit::{Commit, CommitResult, Job, JobOutcome, Put, Work};
use super::deletion::Purge;
use super::generation;
use super::health::{Failure, Monitor};
use super::high_water::{HighWater, Mark};
use super::put_id::PutIds;
use super::retention::{Retention, Step};
use super::wal::Wal;
use crate::audit::AuditScope;
use crate::clock_guard::ClockGuard;
use crate::error::StoreError;
use crate::model::{
    AUDIT_LOGSTORE, AUDIT_PROJECT, AuditRecord, Catalog, HashedGroup, PutId, Shard, StoredPut,
};
use crate::options::Options;

/// The interval between retention steps while there are no writes.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// Number of intervals without work after which the connection gives back the memory of its caches.
const SHRINK_AFTER: u32 = 20;

/// The interval at which the high-water mark gets the time while there are no writes, in microseconds.
const MARK_INTERVAL: u64 = 10_000_000;

/// The handle of the writer thread: sends work to it, and stops it when dropped.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        catalog: Arc<RwLock<Arc<Catalog>>>,
        clock: Arc<ClockGuard>,
        options: &Options,
        high_water: HighWater,
        (wal, monitor): (Wal, Arc<Monitor>),
    ) -> Result<Self, std::io::Error> {
        let (sender, receiver) = mpsc::channel();
        let (retention, put_ids) = (Retention::new(options), PutIds::new(options.put_ids));
        let (progress, purge) = (ProgressFilter::default(), Purge::new(options.undo_seconds));
        let failure = None;
        let mut thread = Thread {
            connection,
            wal,
            catalog,
            clock,
            receiver,
            retention,
            put_ids,
            high_water,
            progress,
            purge,
            monitor,
            failure,
            idle_intervals: 0,
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || thread.run())?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Appends groups to a shard. Returns the position of the first one after all are on disk. With an id, groups that
    /// are stored already are not appended again.
    pub(super) async fn put(
        &self,
        shard: Arc<Shard>,
        groups: Vec<HashedGroup>,
        id: Option<(i64, PutId)>,
        permits: OwnedSemaphorePermit,
    ) -> Result<StoredPut, StoreError> {
        let (reply, response) = oneshot::channel();
        self.send(Work::Put(Put { shard, groups, id, _permits: permits, reply }))?;
        response.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs a job in the next commit. If it is the first change of an audited operation, the commit has its record too.
    pub(super) fn run<T, J>(
        &self,
        changes_catalog: bool,
        job: J,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.run_audited(changes_catalog, vec![], job)
    }

    /// Runs a job in the next commit, with records of the audit log.
    pub(super) fn run_audited<T, J>(
        &self,
        changes_catalog: bool,
        records: Vec<AuditRecord>,
        job: J,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, response) = oneshot::channel();
        let run = Box::new(|connection: Result<&Connection, StoreError>| {
            let result = connection.and_then(job);
            let failed = result.is_err();
            let reply = move |committed: CommitResult<'_>| {
                let result = result.and_then(|value| match committed {
                    Ok(()) => Ok(value),
                    Err(error) => Err(StoreError::Commit(error.into())),
                });
                // The caller may have given up.
                let _ = reply.send(result);
            };
            JobOutcome { failed, reply: Box::new(reply) }
        });
        let scope = AuditScope::current().filter(|scope| !scope.is_recorded());
        let sent = self.send(Work::Job(Job { run, changes_catalog, scope, records }));
        async move {
            sent?;
            response.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    fn send(&self, work: Work) -> Result<(), StoreError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().and_then(|sender| sender.send(work).ok()).ok_or(StoreError::Closed)
    }

    /// Returns true if the writer thread is running.
    pub(super) fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Completes the queued work and stops the thread.
    pub(super) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

struct Thread {
    connection: Connection,
    wal: Wal,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    clock: Arc<ClockGuard>,
    receiver: mpsc::Receiver<Work>,
    retention: Retention,
    put_ids: PutIds,
    high_water: HighWater,
    progress: ProgressFilter,
    purge: Purge,
    monitor: Arc<Monitor>,
    /// The failure of the last commits, until the disk takes data again.
    failure: Option<Failure>,
    /// Number of intervals without work.
    idle_intervals: u32,
}

impl Thread {
    fn run(&mut self) {
        loop {
            let wait = if self.retention.has_work() { Duration::ZERO } else { IDLE_INTERVAL };
            match self.receiver.recv_timeout(wait) {
                Ok(work) => {
                    self.idle_intervals = 0;
                    self.commit(work);
                    self.purge();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.idle();
                    self.purge();
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.record(0, false);
        if let Err(error) = self.high_water.sync() {
            tracing::warn!(%error, "can't sync the high-water mark");
        }
        match self.monitor.refusal() {
            None => self.wal.truncate(&self.connection),
            Some(_) => self.wal.keep(&self.connection),
        }
    }

    /// Commits `first` and all other queued work.
    fn commit(&mut self, first: Work) {
        let start = Instant::now();
        let mut commit = Commit::default();
        if let Some(reason) = self.monitor.refusal() {
            commit.fail(first, &reason);
            return commit.reply(Err(&reason));
        }
        let result = match self.connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => self.fill(&mut commit, first),
            Err(error) => {
                commit.fail(first, &error.to_string());
                Err(error.into())
            }
        };
        if let Err(StoreError::Database(error)) = &result {
            self.failure = self.monitor.fail(&self.connection, error, commit.bytes);
        }
        if result.is_err() && !self.connection.is_autocommit() {
            // If the rollback fails too, the next BEGIN reports it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        metrics::histogram!("logship_commit_seconds").record(start.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                // Before the replies: what is acknowledged is recorded.
                self.record(commit.groups as u64, !commit.jobs.is_empty());
                commit.publish();
                if self.retention.publish() || commit.changes_catalog {
                    self.read_catalog();
                }
                commit.reply(Ok(()));
                self.checkpoint();
                self.probe();
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed and stored nothing");
                metrics::counter!("logship_commits_failed_total").increment(1);
                self.retention.discard();
                self.put_ids.discard();
                commit.reply(Err(&error.to_string()));
                // The disk may be full: try to delete expired logs.
                self.idle();
            }
        }
    }

    /// Applies `first` and all other queued work in the open transaction, and commits it.
    fn fill(&mut self, commit: &mut Commit, first: Work) -> Result<(), StoreError> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        let audit_log = catalog.logstore(AUDIT_PROJECT, AUDIT_LOGSTORE);
        commit.audit_log = audit_log.ok().and_then(|logstore| logstore.shards.first().cloned());
        self.put_ids.set_expiry(self.clock.expiry_time());
        let mut next = Some(first);
        while let Some(work) = next {
            let now = self.clock.now();
            match work {
                Work::Put(put) => commit.put(&self.connection, &mut self.put_ids, put, now / 1_000_000)?,
                Work::Job(job) => commit.job(&self.connection, &mut self.progress, job, now)?,
            }
            next = if commit.is_full() { None } else { self.receiver.try_recv().ok() };
        }
        commit.save_chains(&self.connection)?;
        // A retention step shares the commit, so it needs no disk write of its own.
        self.connection.execute_batch("SAVEPOINT retention")?;
        let step = Step::for_commit(commit.groups, commit.bytes);
        if let Err(error) = self.retention.step(&self.connection, &catalog, self.clock.expiry_time(), step) {
            // Only the step is rolled back; puts are not affected.
            tracing::error!(%error, "can't delete expired logs; it will be retried");
            self.retention.discard();
            self.connection.execute_batch("ROLLBACK TO retention")?;
        }
        self.put_ids.step(&self.connection)?;
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Records a commit in the high-water mark.
    fn record(&mut self, groups: u64, has_jobs: bool) {
        let mark = self.high_water.mark();
        // A read of an open database fails only with the disk; then the next commit fails as well.
        let changes = if has_jobs { generation::changes(&self.connection).ok() } else { None };
        let mark = Mark {
            token: mark.token.clone(),
            groups: mark.groups + groups,
            changes: changes.unwrap_or(mark.changes),
            moment: self.clock.moment().unwrap_or_else(|| mark.moment.clone()),
        };
        self.high_water.record(mark);
    }

    /// Performs a checkpoint if one is due.
    fn checkpoint(&mut self) {
        if let Err(error) = self.wal.checkpoint(&self.connection) {
            tracing::error!(%error, "a checkpoint of the write-ahead log failed; every acknowledged log is in the log");
            self.failure = self.monitor.fail(&self.connection, &error, 0);
        }
    }

    /// Ends a failure if the disk takes data again.
    fn probe(&mut self) {
        self.failure.take_if(|failure| self.monitor.probe(failure));
    }

    fn read_catalog(&self) {
        let previous = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        match Catalog::read(&self.connection, &previous) {
            Ok(new) => *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
            // The change is on disk; the next reload shows it.
            Err(error) => tracing::error!(%error, "can't reload the catalog"),
        }
    }

    /// Completes a deletion that can't be undone any more.
    fn purge(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(time) = self.clock.expiry_time() else { return };
        let Some(due) = self.purge.due(&catalog, time / 1_000_000) else { return };
        let records = vec![due.record()];
        let run = Box::new(move |connection: Result<&Connection, StoreError>| {
            let completed = connection.and_then(|connection| due.complete(connection));
            if let Err(error) = &completed {
                tracing::error!(%error, "can't complete a deletion; it will be retried");
            }
            JobOutcome { failed: completed.is_err(), reply: Box::new(|_| {}) }
        });
        self.commit(Work::Job(Job { run, changes_catalog: true, scope: None, records }));
    }

    /// Performs a retention step while there are no writes. Gives back memory when there are none for long.
    fn idle(&mut self) {
        if self.monitor.refusal().is_some() {
            return;
        }
        self.probe();
        let moment = self.clock.moment();
        let marked = &self.high_water.mark().moment;
        if moment.is_some_and(|moment| moment.time.saturating_sub(marked.time) > MARK_INTERVAL) {
            self.record(0, false);
        }
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        let result = self.retention.idle(&self.connection, &catalog, self.clock.expiry_time());
        match result {
            Ok(true) => self.read_catalog(),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "can't delete expired logs; it will be retried");
                if let StoreError::Database(error) = &error {
                    self.monitor.refuse_after(&self.connection, error);
                }
            }
        }
        self.put_ids.set_expiry(self.clock.expiry_time());
        if let Err(error) = self.put_ids.idle(&self.connection) {
            tracing::error!(%error, "can't delete expired put ids; it will be retried");
        }
        self.idle_intervals = self.idle_intervals.saturating_add(1);
        if self.idle_intervals == SHRINK_AFTER
            && let Err(error) = self.connection.execute_batch("PRAGMA shrink_memory")
        {
            tracing::warn!(%error, "can't give back the memory of the store's cache");
        }
    }
}

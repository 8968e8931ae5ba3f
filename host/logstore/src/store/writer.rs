//! The single writer thread, with group commit: puts that arrive during a commit share the next one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::audit::{ProgressFilter, changed_record, object_state};
use super::chain;
use super::generation;
use super::high_water::{HighWater, Mark};
use super::put_id::PutIds;
use super::retention::{Retention, Step};
use crate::audit::AuditScope;
use crate::error::StoreError;
use crate::model::{
    AUDIT_LOGSTORE, AUDIT_PROJECT, AuditRecord, Catalog, Chain, HashedGroup, PutId, Shard, StoredPut,
};
use crate::options::Clock;

/// The number of log groups and jobs after which a commit takes no more work. This bounds the latency of puts.
const COMMIT_GROUPS: usize = 4096;
/// The bytes after which a commit takes no more work.
const COMMIT_BYTES: usize = 16 << 20;

/// The interval between retention steps while there are no writes.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// The interval at which the high-water mark gets the time while there are no writes, in microseconds.
const MARK_INTERVAL: u64 = 10_000_000;

/// The handle of the writer thread: sends work to it, and stops it when dropped.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Work {
    Put(Put),
    Job(Job),
}

struct Put {
    shard: Arc<Shard>,
    groups: Vec<HashedGroup>,
    /// The id of the put, with the logstore's.
    id: Option<(i64, PutId)>,
    /// The memory budget of the queued groups. Held here, so that it outlives a caller that gives up.
    _permits: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<StoredPut, StoreError>>,
}

struct Job {
    run: JobFn,
    /// True if the catalog must be reloaded after the job.
    changes_catalog: bool,
    /// The operation of the job. The audit log names it.
    scope: Option<Arc<AuditScope>>,
    /// Records of the audit log that the job writes.
    records: Vec<AuditRecord>,
}

/// Runs a job, or passes on the error that prevents it.
type JobFn = Box<dyn FnOnce(Result<&Connection, StoreError>) -> JobOutcome + Send>;

/// The outcome of a job before the commit.
struct JobOutcome {
    failed: bool,
    reply: Reply,
}

/// Sends the result of a job to its caller after the commit.
type Reply = Box<dyn FnOnce(CommitResult<'_>) + Send>;

/// The outcome of a commit, with the error of the database.
type CommitResult<'a> = Result<(), &'a str>;

impl Writer {
    pub(super) fn start(
        connection: Connection,
        catalog: Arc<RwLock<Arc<Catalog>>>,
        clock: Clock,
        put_ids: u64,
        high_water: HighWater,
    ) -> Result<Self, std::io::Error> {
        let (sender, receiver) = mpsc::channel();
        let (retention, put_ids) = (Retention::default(), PutIds::new(put_ids));
        let progress = ProgressFilter::default();
        let mut thread =
            Thread { connection, catalog, clock, receiver, retention, put_ids, high_water, progress };
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
    catalog: Arc<RwLock<Arc<Catalog>>>,
    clock: Clock,
    receiver: mpsc::Receiver<Work>,
    retention: Retention,
    put_ids: PutIds,
    high_water: HighWater,
    progress: ProgressFilter,
}

impl Thread {
    fn run(&mut self) {
        loop {
            let wait = if self.retention.has_work() { Duration::ZERO } else { IDLE_INTERVAL };
            match self.receiver.recv_timeout(wait) {
                Ok(work) => self.commit(work),
                Err(mpsc::RecvTimeoutError::Timeout) => self.idle(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.record(0, false);
        if let Err(error) = self.high_water.sync() {
            tracing::warn!(%error, "can't sync the high-water mark");
        }
        // Makes the next start faster, as it has no log to replay. No data depends on it.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "can't truncate the write-ahead log");
        }
    }

    /// Commits `first` and all other queued work.
    fn commit(&mut self, first: Work) {
        let start = Instant::now();
        let mut commit = Commit::default();
        let result = match self.connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => self.fill(&mut commit, first),
            Err(error) => {
                commit.fail(first, &error);
                Err(error.into())
            }
        };
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
        let mut next = Some(first);
        while let Some(work) = next {
            let now = (self.clock)();
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
        if let Err(error) = self.retention.step(&self.connection, &catalog, (self.clock)(), step) {
            // Only the step is rolled back; puts are not affected.
            tracing::error!(%error, "can't delete expired logs; it will be retried");
            self.retention.discard();
            self.connection.execute_batch("ROLLBACK TO retention")?;
        }
        self.put_ids.step(&self.connection, (self.clock)() / 1_000_000)?;
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
            time: (self.clock)(),
        };
        self.high_water.record(mark);
    }

    fn read_catalog(&self) {
        let previous = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        match Catalog::read(&self.connection, &previous) {
            Ok(new) => *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
            // The change is on disk; the next reload shows it.
            Err(error) => tracing::error!(%error, "can't reload the catalog"),
        }
    }

    /// Performs a retention step while there are no writes.
    fn idle(&mut self) {
        if (self.clock)().saturating_sub(self.high_water.mark().time) > MARK_INTERVAL {
            self.record(0, false);
        }
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        let result = self.retention.idle(&self.connection, &catalog, (self.clock)());
        match result {
            Ok(true) => self.read_catalog(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "can't delete expired logs; it will be retried"),
        }
        if let Err(error) = self.put_ids.idle(&self.connection, (self.clock)() / 1_000_000) {
            tracing::error!(%error, "can't delete expired put ids; it will be retried");
        }
    }
}

/// The work of a commit in progress.
#[derive(Default)]
struct Commit {
    shards: HashMap<i64, PendingShard>,
    puts: Vec<(oneshot::Sender<Result<StoredPut, StoreError>>, StoredPut)>,
    jobs: Vec<Reply>,
    /// The shard of the audit log, and the operations with a record in this commit.
    audit_log: Option<Arc<Shard>>,
    scopes: Vec<Arc<AuditScope>>,
    groups: usize,
    bytes: usize,
    changes_catalog: bool,
}

/// The state of a shard after the commit.
struct PendingShard {
    shard: Arc<Shard>,
    end: u64,
    received: u64,
    newest: u64,
    chain: Chain,
}

impl Commit {
    fn is_full(&self) -> bool {
        // After a change of the catalog, the remaining work must see the new one.
        self.bytes >= COMMIT_BYTES || self.groups + self.jobs.len() >= COMMIT_GROUPS || self.changes_catalog
    }

    fn put(
        &mut self,
        connection: &Connection,
        ids: &mut PutIds,
        put: Put,
        now: u64,
    ) -> Result<(), StoreError> {
        // Before the shard is checked: a split since the first put must not store it again.
        let Some(put) = self.find_repeated(connection, put, now)? else { return Ok(()) };
        if put.shard.state.read_only.load(Ordering::Acquire) {
            let _ = put.reply.send(Err(StoreError::ReadOnlyShard(put.shard.number)));
            return Ok(());
        }
        // Registered before the insert, so that a failed insert replies with the error of the commit.
        let position = self.pending(&put.shard, now).end;
        self.puts.push((put.reply, StoredPut { position, is_repeated: false }));
        if let Some((logstore, id)) = &put.id {
            ids.record(connection, *logstore, id, position, now)?;
        }
        self.append(connection, &put.shard, put.groups, now)
    }

    /// Returns the state of a shard after the commit.
    fn pending(&mut self, shard: &Arc<Shard>, now: u64) -> &mut PendingShard {
        self.shards.entry(shard.id).or_insert_with(|| PendingShard {
            end: shard.end(),
            // Times of receipt never decrease, even if the clock is set back: the search for cursors depends on it.
            received: now.max(shard.last_received()),
            newest: shard.newest(),
            chain: shard.chain(),
            shard: Arc::clone(shard),
        })
    }

    /// Appends groups to a shard.
    fn append(
        &mut self,
        connection: &Connection,
        shard: &Arc<Shard>,
        groups: Vec<HashedGroup>,
        now: u64,
    ) -> Result<(), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        let shard = self.pending(shard, now);
        let mut insert = connection.prepare_cached(
            "INSERT INTO log_group (id, received, newest, logs, size, body, checksum, head)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for hashed in groups {
            let (row, group) = (shard.shard.row(shard.end), &hashed.group);
            let checksum = hashed.checksum(&shard.shard, shard.end, shard.received);
            shard.chain.push(shard.end, &checksum);
            insert.execute(params![
                row,
                shard.received,
                group.newest,
                group.logs,
                group.size,
                &*group.body,
                checksum,
                shard.chain.head
            ])?;
            shard.end += 1;
            shard.newest = shard.newest.max(group.newest.into());
            count += 1;
            bytes += group.body.len();
        }
        self.groups += count;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns a put unless its id decides its reply.
    fn find_repeated(
        &mut self,
        connection: &Connection,
        put: Put,
        now: u64,
    ) -> Result<Option<Put>, StoreError> {
        let Some((logstore, id)) = &put.id else { return Ok(Some(put)) };
        match PutIds::find(connection, *logstore, id, now) {
            Ok(None) => return Ok(Some(put)),
            // The reply follows the commit, which may have the first put.
            Ok(Some(position)) => self.puts.push((put.reply, StoredPut { position, is_repeated: true })),
            Err(error @ (StoreError::PutIdConflict { .. } | StoreError::PutIdTooOld { .. })) => {
                let _ = put.reply.send(Err(error));
            }
            Err(error) => {
                self.puts.push((put.reply, StoredPut { position: 0, is_repeated: false }));
                return Err(error);
            }
        }
        Ok(None)
    }

    fn job(
        &mut self,
        connection: &Connection,
        progress: &mut ProgressFilter,
        mut job: Job,
        now: u64,
    ) -> Result<(), StoreError> {
        // An operation with several jobs has one record.
        let scope =
            job.scope.take().filter(|scope| !self.scopes.iter().any(|other| Arc::ptr_eq(other, scope)));
        let before = scope.as_ref().map(|scope| object_state(connection, scope.record())).transpose();
        let mut records = std::mem::take(&mut job.records);
        if let Err(error) = connection.execute_batch("SAVEPOINT job") {
            self.fail(Work::Job(job), &error);
            return Err(error.into());
        }
        let outcome = (job.run)(Ok(connection));
        self.jobs.push(outcome.reply);
        self.changes_catalog |= job.changes_catalog && !outcome.failed;
        if outcome.failed {
            return Ok(connection.execute_batch("ROLLBACK TO job; RELEASE job")?);
        }
        connection.execute_batch("RELEASE job")?;
        if let (Some(scope), Some(before)) = (scope, before?) {
            let after = object_state(connection, scope.record())?;
            records.extend(changed_record(scope.record(), &before, &after, progress, now / 1_000_000));
            self.scopes.push(scope);
        }
        self.write_records(connection, &records, now)
    }

    /// Writes records of the audit log, so that they and the change are in one transaction.
    fn write_records(
        &mut self,
        connection: &Connection,
        records: &[AuditRecord],
        now: u64,
    ) -> Result<(), StoreError> {
        let Some(shard) = self.audit_log.clone().filter(|_| !records.is_empty()) else { return Ok(()) };
        let encoded = records.iter().map(|record| record.encode(now).map(HashedGroup::new));
        let groups = encoded.collect::<Result<_, _>>();
        let groups = groups.map_err(|error| StoreError::Commit(error.to_string()))?;
        self.append(connection, &shard, groups, now / 1_000_000)
    }

    /// Saves the new ends of the chains.
    fn save_chains(&self, connection: &Connection) -> Result<(), StoreError> {
        self.shards.values().try_for_each(|shard| chain::save_end(connection, &shard.shard, &shard.chain))
    }

    /// Registers work that could not start. Its reply is the error of the failed commit.
    fn fail(&mut self, work: Work, error: &rusqlite::Error) {
        match work {
            Work::Put(put) => self.puts.push((put.reply, StoredPut { position: 0, is_repeated: false })),
            Work::Job(job) => self.jobs.push((job.run)(Err(StoreError::Commit(error.to_string()))).reply),
        }
    }

    /// Publishes the new state of the shards after the commit.
    fn publish(&self) {
        self.scopes.iter().for_each(|scope| scope.set_recorded());
        for shard in self.shards.values() {
            let state = &shard.shard.state;
            state.received.store(shard.received, Ordering::Relaxed);
            state.newest.store(shard.newest, Ordering::Relaxed);
            shard.shard.update_chain(|chain| (chain.end, chain.head) = (shard.chain.end, shard.chain.head));
            state.end.store(shard.end, Ordering::Release);
            state.written.notify_waiters();
        }
    }

    /// Replies to all callers.
    fn reply(self, committed: CommitResult<'_>) {
        for (reply, stored) in self.puts {
            let result = committed.map(|()| stored).map_err(|error| StoreError::Commit(error.into()));
            // The caller may have given up; its logs are stored anyway.
            let _ = reply.send(result);
        }
        for reply in self.jobs {
            reply(committed);
        }
    }
}

//! The one thread that writes. Puts that come while a commit is on its way share the next one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::catalog::{Catalog, Shard};
use crate::error::StoreError;
use crate::retention::{Retention, Step};
use crate::{Clock, NewGroup};

/// A commit takes no more work after this many log groups, or this many bytes: its time bounds the time that a
/// put takes.
const COMMIT_GROUPS: usize = 4096;
const COMMIT_BYTES: usize = 16 << 20;

/// How often the writer looks what is to be deleted when nobody writes.
const IDLE: Duration = Duration::from_millis(500);

/// Hands work to the thread, and ends it when dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    sender: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Work {
    Put(Put),
    Job(Job),
}

struct Put {
    shard: Arc<Shard>,
    groups: Vec<NewGroup>,
    /// What they take of the room for what waits, also if who puts them goes away.
    _room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

struct Job {
    run: Run,
    /// Whether the catalog has to be read again after it.
    changes_catalog: bool,
}

/// Does a job, or without a connection only says why not.
type Run = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Ran + Send>;

/// What a job did, before it is known whether the commit succeeds.
struct Ran {
    failed: bool,
    answer: Answer,
}

/// Tells who asked for a job what came of it.
type Answer = Box<dyn FnOnce(Committed<'_>) + Send>;

/// The outcome of a commit: what the database said if it failed.
type Committed<'a> = Result<(), &'a str>;

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        catalog: Arc<RwLock<Arc<Catalog>>>,
        clock: Clock,
    ) -> Result<Self, std::io::Error> {
        let (sender, receiver) = mpsc::channel();
        let mut thread = Thread { connection, catalog, clock, receiver, retention: Retention::default() };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || thread.serve())?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Stores the groups one after the other; the position of the first, once they are on disk.
    pub(crate) async fn put(
        &self,
        shard: Arc<Shard>,
        groups: Vec<NewGroup>,
        room: OwnedSemaphorePermit,
    ) -> Result<u64, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Work::Put(Put { shard, groups, _room: room, answer }))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Does something to the tables in the next commit.
    pub(crate) fn run<T, J>(
        &self,
        changes_catalog: bool,
        job: J,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(|connection: Result<&Connection, StoreError>| {
            let result = connection.and_then(job);
            let failed = result.is_err();
            let answer = move |committed: Committed<'_>| {
                let result = result.and_then(|done| match committed {
                    Ok(()) => Ok(done),
                    Err(error) => Err(StoreError::Commit(error.into())),
                });
                // Who asked may be gone.
                let _ = answer.send(result);
            };
            Ran { failed, answer: Box::new(answer) }
        });
        let sent = self.send(Work::Job(Job { run, changes_catalog }));
        async move {
            sent?;
            answered.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    fn send(&self, work: Work) -> Result<(), StoreError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().and_then(|sender| sender.send(work).ok()).ok_or(StoreError::Closed)
    }

    /// Whether it still works.
    pub(crate) fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Does what was asked for so far, and ends.
    pub(crate) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
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
}

impl Thread {
    fn serve(&mut self) {
        loop {
            let wait = if self.retention.has_work() { Duration::ZERO } else { IDLE };
            match self.receiver.recv_timeout(wait) {
                Ok(work) => self.work(work),
                Err(mpsc::RecvTimeoutError::Timeout) => self.idle(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        // So that the next start has no log to go through. Without it nothing is lost.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the write-ahead log stays as it is");
        }
    }

    /// One commit: `first` and what else is waiting.
    fn work(&mut self, first: Work) {
        let begun = Instant::now();
        let mut commit = Commit::default();
        let result = match self.connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => self.fill(&mut commit, first),
            Err(error) => {
                commit.refuse(first, &error);
                Err(error.into())
            }
        };
        if result.is_err() && !self.connection.is_autocommit() {
            // Nothing else can be done where this fails too; the next BEGIN will tell.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        metrics::histogram!("logship_commit_seconds").record(begun.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                commit.publish();
                if self.retention.publish() || commit.changes_catalog {
                    self.read_catalog();
                }
                commit.answer(Ok(()));
            }
            Err(error) => {
                tracing::error!(%error, "nothing of a commit was stored");
                metrics::counter!("logship_commits_failed_total").increment(1);
                self.retention.forget();
                commit.answer(Err(&error.to_string()));
                // The disk may be full, and something on it too old.
                self.idle();
            }
        }
    }

    /// Does `first` and what else is waiting in the transaction that is open, and ends it.
    fn fill(&mut self, commit: &mut Commit, first: Work) -> Result<(), StoreError> {
        let mut next = Some(first);
        while let Some(work) = next {
            commit.apply(&self.connection, work, (self.clock)() / 1_000_000)?;
            next = if commit.full() { None } else { self.receiver.try_recv().ok() };
        }
        // Rides along: no disk write of its own, and never more than a step.
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.connection.execute_batch("SAVEPOINT retention")?;
        let step = Step::beside(commit.groups, commit.bytes);
        if let Err(error) = self.retention.step(&self.connection, &catalog, (self.clock)(), step) {
            // Puts don't share its fate.
            tracing::error!(%error, "can't delete old logs; it is tried again");
            self.retention.forget();
            self.connection.execute_batch("ROLLBACK TO retention")?;
        }
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn read_catalog(&self) {
        let before = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        match Catalog::read(&self.connection, &before) {
            Ok(new) => *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
            // The change is on disk; it will be seen with the next one.
            Err(error) => tracing::error!(%error, "can't read what changed"),
        }
    }

    /// Deletes what is too old, step by step until somebody writes.
    fn idle(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stepped = self.retention.idle(&self.connection, &catalog, (self.clock)());
        match stepped {
            Ok(true) => self.read_catalog(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "can't delete old logs; it is tried again"),
        }
    }
}

/// What a commit holds so far.
#[derive(Default)]
struct Commit {
    shards: HashMap<i64, Appended>,
    puts: Vec<(oneshot::Sender<Result<u64, StoreError>>, u64)>,
    jobs: Vec<Answer>,
    groups: usize,
    bytes: usize,
    changes_catalog: bool,
}

/// How far a shard will be.
struct Appended {
    shard: Arc<Shard>,
    end: u64,
    received: u64,
    newest: u64,
}

impl Commit {
    fn full(&self) -> bool {
        // After a change of the catalog what waits is judged by the new one.
        self.bytes >= COMMIT_BYTES || self.groups + self.jobs.len() >= COMMIT_GROUPS || self.changes_catalog
    }

    fn apply(&mut self, connection: &Connection, work: Work, now: u64) -> Result<(), StoreError> {
        match work {
            Work::Put(put) => self.put(connection, put, now),
            Work::Job(job) => self.job(connection, job),
        }
    }

    fn put(&mut self, connection: &Connection, put: Put, now: u64) -> Result<(), StoreError> {
        if put.shard.live.closed.load(Ordering::Acquire) {
            let _ = put.answer.send(Err(StoreError::ReadOnlyShard(put.shard.number)));
            return Ok(());
        }
        let shard = self.shards.entry(put.shard.id).or_insert_with(|| Appended {
            end: put.shard.end(),
            // A clock set back does not bring older times: cursors are found by them.
            received: now.max(put.shard.last_received()),
            newest: put.shard.newest(),
            shard: Arc::clone(&put.shard),
        });
        // Answered also where an insert fails: with the error of the whole commit.
        self.puts.push((put.answer, shard.end));
        let mut insert = connection.prepare_cached(
            "INSERT INTO log_group (id, received, newest, logs, size, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for group in put.groups {
            let row = shard.shard.row(shard.end);
            insert.execute((row, shard.received, group.newest, group.logs, group.size, &*group.body))?;
            shard.end += 1;
            shard.newest = shard.newest.max(group.newest.into());
            self.groups += 1;
            self.bytes += group.body.len();
        }
        Ok(())
    }

    fn job(&mut self, connection: &Connection, job: Job) -> Result<(), StoreError> {
        if let Err(error) = connection.execute_batch("SAVEPOINT job") {
            self.refuse(Work::Job(job), &error);
            return Err(error.into());
        }
        let ran = (job.run)(Ok(connection));
        self.jobs.push(ran.answer);
        self.changes_catalog |= job.changes_catalog && !ran.failed;
        let end = if ran.failed { "ROLLBACK TO job; RELEASE job" } else { "RELEASE job" };
        Ok(connection.execute_batch(end)?)
    }

    /// Takes work that can't be begun: it is answered as the commit is, which fails.
    fn refuse(&mut self, work: Work, error: &rusqlite::Error) {
        match work {
            Work::Put(put) => self.puts.push((put.answer, 0)),
            Work::Job(job) => self.jobs.push((job.run)(Err(StoreError::Commit(error.to_string()))).answer),
        }
    }

    fn publish(&self) {
        for appended in self.shards.values() {
            let live = &appended.shard.live;
            live.received.store(appended.received, Ordering::Relaxed);
            live.newest.store(appended.newest, Ordering::Relaxed);
            live.end.store(appended.end, Ordering::Release);
            live.written.notify_waiters();
        }
    }

    fn answer(self, committed: Committed<'_>) {
        for (answer, position) in self.puts {
            let result = committed.map(|()| position).map_err(|error| StoreError::Commit(error.into()));
            // Who asked may be gone: its logs are stored all the same.
            let _ = answer.send(result);
        }
        for answer in self.jobs {
            answer(committed);
        }
    }
}

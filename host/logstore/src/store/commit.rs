//! The work of a commit: puts and jobs that share a transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::audit::{ProgressFilter, changed_record, object_state};
use super::chain;
use super::put_id::PutIds;
use crate::audit::AuditScope;
use crate::error::StoreError;
use crate::model::{AuditRecord, Chain, HashedGroup, PutId, Shard, StoredPut};

/// The number of log groups and jobs after which a commit takes no more work. This bounds the latency of puts.
const COMMIT_GROUPS: usize = 4096;
/// The bytes after which a commit takes no more work.
const COMMIT_BYTES: usize = 16 << 20;

/// Work of the writer thread.
pub(super) enum Work {
    Put(Put),
    Job(Job),
}

/// Log groups to append.
pub(super) struct Put {
    pub(super) shard: Arc<Shard>,
    pub(super) groups: Vec<HashedGroup>,
    /// The id of the put, with the logstore's.
    pub(super) id: Option<(i64, PutId)>,
    /// The memory budget of the queued groups. Held here, so that it outlives a caller that gives up.
    pub(super) _permits: OwnedSemaphorePermit,
    pub(super) reply: oneshot::Sender<Result<StoredPut, StoreError>>,
}

/// A change of the database.
pub(super) struct Job {
    pub(super) run: JobFn,
    /// True if the catalog must be reloaded after the job.
    pub(super) changes_catalog: bool,
    /// The operation of the job. The audit log names it.
    pub(super) scope: Option<Arc<AuditScope>>,
    /// Records of the audit log that the job writes.
    pub(super) records: Vec<AuditRecord>,
}

/// Runs a job, or passes on the error that prevents it.
pub(super) type JobFn = Box<dyn FnOnce(Result<&Connection, StoreError>) -> JobOutcome + Send>;

/// The outcome of a job before the commit.
pub(super) struct JobOutcome {
    pub(super) failed: bool,
    pub(super) reply: Reply,
}

/// Sends the result of a job to its caller after the commit.
pub(super) type Reply = Box<dyn FnOnce(CommitResult<'_>) + Send>;

/// The outcome of a commit, with the error of the database.
pub(super) type CommitResult<'a> = Result<(), &'a str>;

/// The work of a commit in progress.
#[derive(Default)]
pub(super) struct Commit {
    shards: HashMap<i64, PendingShard>,
    puts: Vec<(oneshot::Sender<Result<StoredPut, StoreError>>, StoredPut)>,
    pub(super) jobs: Vec<Reply>,
    /// The shard of the audit log, and the operations with a record in this commit.
    pub(super) audit_log: Option<Arc<Shard>>,
    scopes: Vec<Arc<AuditScope>>,
    pub(super) groups: usize,
    pub(super) bytes: usize,
    pub(super) changes_catalog: bool,
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
    pub(super) fn is_full(&self) -> bool {
        // After a change of the catalog, the remaining work must see the new one.
        self.bytes >= COMMIT_BYTES || self.groups + self.jobs.len() >= COMMIT_GROUPS || self.changes_catalog
    }

    pub(super) fn put(
        &mut self,
        connection: &Connection,
        ids: &mut PutIds,
        put: Put,
        now: u64,
    ) -> Result<(), StoreError> {
        // Before the shard is checked: a split since the first put must not store it again.
        let Some(put) = self.find_repeated(connection, ids, put)? else { return Ok(()) };
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
        ids: &PutIds,
        put: Put,
    ) -> Result<Option<Put>, StoreError> {
        let Some((logstore, id)) = &put.id else { return Ok(Some(put)) };
        match ids.find(connection, *logstore, id) {
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

    pub(super) fn job(
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
            self.fail(Work::Job(job), &error.to_string());
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
    pub(super) fn save_chains(&self, connection: &Connection) -> Result<(), StoreError> {
        self.shards.values().try_for_each(|shard| chain::save_end(connection, &shard.shard, &shard.chain))
    }

    /// Registers work that could not start. Its reply is the error of the failed commit.
    pub(super) fn fail(&mut self, work: Work, error: &str) {
        match work {
            Work::Put(put) => self.puts.push((put.reply, StoredPut { position: 0, is_repeated: false })),
            Work::Job(job) => self.jobs.push((job.run)(Err(StoreError::Commit(error.into()))).reply),
        }
    }

    /// Publishes the new state of the shards after the commit.
    pub(super) fn publish(&self) {
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
    pub(super) fn reply(self, committed: CommitResult<'_>) {
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

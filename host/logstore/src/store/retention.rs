//! Deletes expired logs in small steps, so that puts never wait long for a step.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, params};

use super::chain;
use super::generation::remember_positions;
use super::unread::kept_by_job;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Catalog, FOREVER, Logstore, Shard, ShippingRule};
use crate::options::Options;

/// The limits of a step: the maximum number of log groups, and the bytes after which it stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    groups: usize,
    bytes: u64,
}

impl Step {
    /// The smallest step.
    pub(super) const MIN: Self = Self { groups: 512, bytes: 2 << 20 };

    /// Returns a step large enough to keep up with a commit of this size.
    pub(super) fn for_commit(groups: usize, bytes: usize) -> Self {
        let min = Self::MIN;
        Self { groups: min.groups.max(2 * groups), bytes: min.bytes.max(2 * bytes as u64) }
    }
}

/// The interval between scans of the shards, in microseconds.
const SCAN_INTERVAL: u64 = 10_000_000;

/// The interval at which an operator is told that a rule keeps logs, in microseconds.
const TELL_INTERVAL: u64 = 3_600_000_000;

/// The number of pages that a step returns to the file system, once a quarter of the file is free.
const VACUUM_PAGES: u32 = 64;

/// The state of the deletion of expired logs.
#[derive(Debug)]
pub(super) struct Retention {
    /// The target types of rules whose unshipped logs are kept.
    kept_targets: Vec<&'static str>,
    /// True if logs that a job has not read are kept.
    keeps_unread: bool,
    /// The time of the last scan, in Unix microseconds.
    last_scan: u64,
    /// The shards that may have expired logs, served round robin, one step each.
    expired: VecDeque<Arc<Shard>>,
    /// The uncommitted result of the last step.
    deleted: Option<Deleted>,
    /// True if the last step removed a shard.
    removed_shard: bool,
    /// When the operator was last told that a rule or job keeps expired logs of a shard, in Unix microseconds.
    told: HashMap<(&'static str, i64, i64), u64>,
}

/// The deletion of the oldest log groups of a shard.
#[derive(Debug)]
struct Deleted {
    shard: Arc<Shard>,
    /// The new first position.
    begin: u64,
    /// The new start of the chain and the head before it, if they moved.
    chain: Option<(u64, Digest)>,
}

impl Retention {
    pub(super) fn new(options: &Options) -> Self {
        let kept_targets = if options.delete_unshipped { vec![] } else { options.shipped_targets.clone() };
        Self {
            kept_targets,
            keeps_unread: !options.delete_unshipped,
            last_scan: 0,
            expired: VecDeque::new(),
            deleted: None,
            removed_shard: false,
            told: HashMap::new(),
        }
    }

    /// Performs a step in the open transaction.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
        now: Option<u64>,
        step: Step,
    ) -> Result<(), StoreError> {
        self.scan(connection, catalog, now)?;
        let Some(shard) = self.expired.pop_front() else { return Ok(()) };
        // Uses the current catalog: the logstore's time to live may have changed since the scan.
        let owner = owner_of(catalog, &shard);
        let Some(before) = expiry_cutoff(owner, now) else { return Ok(()) };
        let unread = self.unread(connection, owner)?;
        let before = unread.map_or(before, |(_, _, since)| before.min(since));
        let mut select = connection.prepare_cached(
            "SELECT id, length(body) FROM log_group WHERE id >= ?1 AND id < ?2 AND received < ?3 ORDER BY id LIMIT ?4",
        )?;
        let kept = kept_by_rule(connection, &self.kept_targets, owner, &shard)?;
        let end = kept.map_or(shard.end(), |(_, position)| position.min(shard.end()));
        let (first, end) = (shard.row(shard.begin()), shard.row(end));
        let mut rows = select.query(params![first, end, before, step.groups])?;
        let (mut last, mut bytes) = (None, 0);
        while bytes < step.bytes
            && let Some(row) = rows.next()?
        {
            last = Some(row.get::<_, i64>(0)?);
            bytes += row.get::<_, u64>(1)?;
        }
        drop(rows);
        let Some(last) = last else { return self.remove(connection, &shard) };
        let begin = shard.position(last + 1);
        let chain = chain::move_start(connection, &shard, begin)?;
        connection
            .prepare_cached("DELETE FROM log_group WHERE id >= ?1 AND id <= ?2")?
            .execute(params![first, last])?;
        connection
            .prepare_cached("UPDATE shard SET next = max(next, ?2) WHERE id = ?1")?
            .execute(params![shard.id, begin])?;
        // Round robin: the other shards come first.
        self.expired.push_back(Arc::clone(&shard));
        self.deleted = Some(Deleted { shard, begin, chain });
        Ok(())
    }

    /// Returns true if a scanned shard may have more to delete.
    pub(super) fn has_work(&self) -> bool {
        !self.expired.is_empty()
    }

    /// Performs a step in its own transaction while the writer is idle: deletes logs, or else returns free pages to the
    /// file system. Returns true if the catalog changed.
    pub(super) fn idle(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
        now: Option<u64>,
    ) -> Result<bool, StoreError> {
        self.scan(connection, catalog, now)?;
        if !self.expired.is_empty() {
            let transaction = connection.unchecked_transaction()?;
            if let Err(error) = self.step(&transaction, catalog, now, Step::MIN) {
                self.discard();
                return Err(error);
            }
            if let Err(error) = transaction.commit() {
                self.discard();
                return Err(error.into());
            }
            return Ok(self.publish());
        }
        vacuum(connection)?;
        Ok(false)
    }

    /// Publishes the result of the step after its commit. Returns true if the catalog changed.
    pub(super) fn publish(&mut self) -> bool {
        if let Some(Deleted { shard, begin, chain }) = self.deleted.take() {
            shard.update_chain(|current| {
                (current.start, current.base) = chain.unwrap_or((current.start, current.base));
            });
            shard.state.begin.store(begin, Ordering::Release);
        }
        std::mem::take(&mut self.removed_shard)
    }

    /// Discards the result of a step that was rolled back.
    pub(super) fn discard(&mut self) {
        self.deleted = None;
        self.removed_shard = false;
    }

    fn scan(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
        now: Option<u64>,
    ) -> Result<(), StoreError> {
        let time = now.unwrap_or(self.last_scan);
        if !self.expired.is_empty() || time.abs_diff(self.last_scan) < SCAN_INTERVAL {
            return Ok(());
        }
        self.last_scan = time;
        let mut oldest = connection.prepare_cached("SELECT received FROM log_group WHERE id = ?1")?;
        for shard in catalog.shards() {
            let owner = owner_of(catalog, shard);
            let Some(before) = expiry_cutoff(owner, now) else { continue };
            let begin = shard.row(shard.begin());
            let received = oldest.query_row([begin], |row| row.get::<_, u64>(0)).optional()?;
            let Some(received) = received.filter(|received| *received < before) else {
                if before == END_OF_TIME {
                    self.expired.push_back(Arc::clone(shard));
                }
                continue;
            };
            if let Some((job, name, _)) =
                self.unread(connection, owner)?.filter(|(_, _, since)| *since <= received)
            {
                self.tell_kept(owner, shard, ("job", job, &name), before - received, time);
                continue;
            }
            match kept_by_rule(connection, &self.kept_targets, owner, shard)? {
                Some((rule, position)) if shard.row(position) <= begin => {
                    let rule = ("rule", rule.id, rule.name.as_str());
                    self.tell_kept(owner, shard, rule, before - received, time);
                }
                _ => self.expired.push_back(Arc::clone(shard)),
            }
        }
        Ok(())
    }

    /// Returns the job that keeps logs of a logstore, and the receipt of the first of them.
    fn unread(
        &self,
        connection: &Connection,
        owner: Option<&Logstore>,
    ) -> Result<Option<(i64, String, u64)>, StoreError> {
        match owner.filter(|_| self.keeps_unread) {
            Some(Logstore { project, name, .. }) => kept_by_job(connection, project, name),
            None => Ok(None),
        }
    }

    /// Tells that a rule or a job keeps expired logs: in a metric, and at times in the log.
    fn tell_kept(
        &mut self,
        owner: Option<&Logstore>,
        shard: &Shard,
        (kind, id, keeper): (&'static str, i64, &str),
        overdue: u64,
        now: u64,
    ) {
        let Some(Logstore { project, name, .. }) = owner else { return };
        let labels = [
            ("project", project.clone()),
            ("logstore", name.clone()),
            ("shard", shard.number.to_string()),
            (kind, keeper.to_owned()),
        ];
        metrics::gauge!("logship_retention_kept_seconds", &labels).set(overdue as f64);
        let told = self.told.get(&(kind, id, shard.id));
        if told.is_none_or(|told| now.abs_diff(*told) >= TELL_INTERVAL) {
            self.told.insert((kind, id, shard.id), now);
            tracing::warn!(
                project,
                logstore = name,
                shard = shard.number,
                kind,
                keeper,
                overdue_seconds = overdue,
                "expired logs are kept, because a rule or job has not read them: see `logship {kind} show`, delete it, or set retention.delete-unshipped"
            );
        }
    }

    /// Removes an empty shard that gets no more logs: its logstore was deleted, or it was split or merged.
    fn remove(&mut self, connection: &Connection, shard: &Shard) -> Result<(), StoreError> {
        // Checks the table, not the catalog: this transaction may contain puts that are not published yet.
        let mut delete = connection.prepare_cached(
            "DELETE FROM shard WHERE id = ?1 AND (logstore IS NULL OR NOT writable)
             AND NOT EXISTS (SELECT 1 FROM log_group WHERE id >= ?2 AND id < ?3)",
        )?;
        let (first, end) = shard.rows();
        if delete.execute(params![shard.id, first, end])? > 0 {
            remember_positions(connection, shard)?;
            self.removed_shard = true;
        }
        Ok(())
    }
}

/// A time after the receipt of every log.
const END_OF_TIME: u64 = u64::MAX >> 1;

/// Returns the logstore of a shard, also if it is deleted and can be restored.
fn owner_of<'a>(catalog: &'a Catalog, shard: &Shard) -> Option<&'a Logstore> {
    let mut logstores = catalog.kept_logstores();
    logstores.find(|logstore| logstore.shards.iter().any(|other| other.id == shard.id)).map(|found| &**found)
}

/// Returns the time, in Unix seconds, before which received logs of a shard are expired. Returns `None` if the logstore
/// keeps its logs: forever, under a legal hold, or as the time is not known.
fn expiry_cutoff(owner: Option<&Logstore>, now: Option<u64>) -> Option<u64> {
    match owner {
        None => Some(END_OF_TIME),
        Some(logstore) if logstore.ttl >= FOREVER || logstore.hold.is_some() => None,
        Some(logstore) => Some((now? / 1_000_000).saturating_sub(u64::from(logstore.ttl) * 86_400)),
    }
}

/// Returns the rule that is the furthest behind in a shard, and the position up to which it has shipped. Returns `None`
/// without rules that keep logs.
fn kept_by_rule<'a>(
    connection: &Connection,
    targets: &[&str],
    owner: Option<&'a Logstore>,
    shard: &Shard,
) -> Result<Option<(&'a ShippingRule, u64)>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT done_cursor FROM progress WHERE rule = ?1 AND shard = ?2")?;
    let mut last: Option<(&ShippingRule, u64)> = None;
    let rules = owner.into_iter().flat_map(|logstore| logstore.rules.values());
    for rule in rules.filter(|rule| targets.contains(&rule.target.as_str())) {
        let done = select.query_row(params![rule.id, shard.number], |row| row.get(0)).optional()?;
        let done = done.unwrap_or_else(|| shard.begin());
        if last.is_none_or(|(_, position)| done < position) {
            last = Some((rule, done));
        }
    }
    Ok(last)
}

fn vacuum(connection: &Connection) -> Result<(), StoreError> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    if pages("freelist_count")? > pages("page_count")? / 4 {
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = statement.query([])?;
        // Each fetched row returns one page to the file system.
        while rows.next()?.is_some() {}
    }
    Ok(())
}

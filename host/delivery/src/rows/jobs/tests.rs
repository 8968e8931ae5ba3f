//! Jobs on a simulated clock, with tables in memory.

mod fakes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logship_config::job::Job;
use logship_logstore::{Clock, JobRun, LogstoreSettings, NewGroup, Options, RunState, RunTrigger, Store};
use logship_sink::directory::Directory;
use logship_sls::compression::Compression;
use logship_sls::log_group::{Header, LogGroupBuilder};
use serde_json::json;

use super::error::RunError;
use super::plan::{RunPlan, Window};
use super::requests::RunRequest;
use super::runner::Jobs;
use crate::dead_letter::DeadLetters;
use fakes::{Fault, Lines, Memory, NoSources};

/// 2026-12-01, midnight in Shanghai.
const MIDNIGHT: u64 = 1_796_054_400;
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

struct Test {
    folder: tempfile::TempDir,
    now: Arc<AtomicU64>,
    store: Arc<Store>,
    tables: Arc<Memory>,
    jobs: Arc<Jobs>,
}

fn open(folder: &Path, now: &Arc<AtomicU64>) -> Arc<Store> {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    let (uptime, since_boot) = (Arc::clone(&clock), Arc::clone(&clock));
    Arc::new(Store::open(folder, Options { clock, uptime, since_boot, ..Options::default() }).unwrap())
}

fn start(store: &Arc<Store>, tables: &Arc<Memory>, folder: &Path) -> Arc<Jobs> {
    let letters = DeadLetters::new(Box::new(Directory::new(folder.join("letters"))), "");
    let blocks = Arc::new(Lines(Arc::clone(store)));
    let destinations: Arc<Memory> = Arc::clone(tables);
    Arc::new(Jobs::new(
        Arc::clone(store),
        Arc::new(NoSources),
        destinations,
        blocks,
        Arc::new(letters),
        (1, DAY),
    ))
}

impl Test {
    async fn new(change: impl FnOnce(&mut Job)) -> Self {
        let (folder, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(MIDNIGHT * 1_000_000)));
        let store = open(&folder.path().join("data"), &now);
        store.create_project("p", "").await.unwrap();
        let settings = LogstoreSettings { ttl: 30, settings: json!({}) };
        store.create_logstore("p", "access", 2, &settings).await.unwrap();
        let mut job = Job::parse(include_str!("tests/job.json"), Path::new("j.json")).unwrap();
        job.time_zone = "Asia/Shanghai".parse().unwrap();
        change(&mut job);
        let tables = Arc::new(Memory::default());
        let jobs = start(&store, &tables, folder.path());
        jobs.check("p", &job).unwrap();
        let first = jobs.first_scheduled(&job);
        store.create_job("p", "j", &serde_json::to_value(&job).unwrap(), first).await.unwrap();
        Self { folder, now, store, tables, jobs }
    }

    /// A job that runs only on request, and replaces the rows of its partition or appends to them.
    async fn unscheduled(truncate: bool) -> Self {
        let change = |job: &mut Job| {
            job.schedule = None;
            job.configuration.writer.parameter.truncate = truncate;
        };
        Self::new(change).await
    }

    fn seconds(&self) -> u64 {
        self.now.load(Ordering::Relaxed) / 1_000_000
    }

    fn set(&self, seconds: u64) {
        self.now.store(seconds * 1_000_000, Ordering::Relaxed);
    }

    async fn put(&self, id: u64) {
        let mut group = LogGroupBuilder::new(&Header::default());
        let mut log = group.begin_log(self.seconds() as u32, None);
        log.field("id", id.to_string());
        log.end_log();
        let raw = group.finish();
        let (size, body) = (raw.len() as u32, Compression::Lz4.compress(&raw).unwrap().into());
        let catalog = self.store.catalog();
        let shard = Arc::clone(catalog.logstore("p", "access").unwrap().shard((id % 2) as u32).unwrap());
        let group = NewGroup { body, size, logs: 1, newest: self.seconds() as u32 };
        self.store.put(&shard, vec![group]).await.unwrap();
    }

    /// Lets the scheduler work until nothing is due.
    async fn settle(&self) {
        loop {
            self.jobs.tick().await.unwrap();
            let now = self.store.clock();
            let active = self.store.active_runs().unwrap();
            let is_due = |run: &JobRun| run.next_attempt.is_none_or(|next| next <= now);
            if self.jobs.running().is_empty() && !active.iter().any(is_due) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn restart(&mut self) {
        self.store.close();
        let other = tempfile::tempdir().unwrap();
        let nowhere = open(other.path(), &self.now);
        self.jobs = start(&nowhere, &self.tables, self.folder.path());
        // Releases the lock of the folder.
        self.store = nowhere;
        self.store = open(&self.folder.path().join("data"), &self.now);
        self.jobs = start(&self.store, &self.tables, self.folder.path());
    }

    fn job(&self) -> logship_logstore::SyncJob {
        self.store.job("p", "j").unwrap()
    }

    /// The number of stored log groups.
    fn groups(&self) -> u64 {
        let catalog = self.store.catalog();
        let shards = &catalog.logstore("p", "access").unwrap().shards;
        shards.iter().map(|shard| shard.groups_between(shard.begin(), shard.end())).sum()
    }

    /// The runs, oldest first.
    fn runs(&self) -> Vec<JobRun> {
        let (_, mut runs) = self.store.runs(self.job().number(), 0, 10_000).unwrap();
        runs.reverse();
        runs
    }

    async fn run(&self, request: RunRequest) -> Result<JobRun, RunError> {
        let id = self.jobs.run(&self.job(), request).await?;
        self.settle().await;
        Ok(self.store.run(self.job().number(), id).unwrap())
    }
}

fn window(run: &JobRun) -> Window {
    RunPlan::parse(run.plan.as_deref().unwrap()).unwrap().window
}

fn at(scheduled: u64) -> RunRequest {
    RunRequest { scheduled: Some(scheduled), ..RunRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_day_has_288_windows_without_gap_or_overlap() {
    let mut test = Test::new(|_| ()).await;
    let restarts = [8 * 60, 16 * 60];
    for minute in 0..DAY / MINUTE {
        test.set(MIDNIGHT + minute * MINUTE + 7);
        test.put(minute).await;
        // For an hour before the second restart, the service is down: the logs come from a backlog of clients.
        let is_down = (15 * 60..16 * 60).contains(&minute);
        if restarts.contains(&minute) {
            test.restart();
        }
        if !is_down && minute % 5 == 0 {
            test.settle().await;
        }
    }
    test.set(MIDNIGHT + DAY + 1);
    test.settle().await;
    let runs = test.runs();
    assert_eq!(runs.len(), 288);
    assert!(runs.iter().all(|run| run.state == RunState::Success && run.trigger == RunTrigger::Schedule));
    let windows: Vec<Window> = runs.iter().map(window).collect();
    assert_eq!(windows[0], Window { begin: MIDNIGHT - 5 * MINUTE, end: MIDNIGHT });
    assert!(windows.windows(2).all(|pair| pair[0].end == pair[1].begin), "a gap or an overlap");
    assert_eq!(windows[287].end, MIDNIGHT + DAY - 5 * MINUTE);
    // Each log is in the partition of its window, once.
    let mut ids = test.tables.rows();
    ids.sort_unstable();
    assert_eq!(ids, (0..DAY / MINUTE - 5).collect::<Vec<_>>());
    assert_eq!(test.tables.partitions().len(), 288);
    assert_eq!(test.job().skipped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_what_a_schedule_has_not_read() {
    let test = Test::new(|_| ()).await;
    test.settle().await;
    let since =
        |test: &Test| test.store.unread().unwrap().get(&test.job().number()).map(|unread| unread.since);
    assert_eq!(since(&test), Some(MIDNIGHT - 5 * MINUTE), "the window of the next run");
    test.set(MIDNIGHT + 7);
    test.put(0).await;
    test.put(1).await;
    // No run for 40 days, with a time to live of 30 days.
    test.set(MIDNIGHT + 40 * DAY);
    test.store.confirm_clock();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(test.groups(), 2);
    // Too many runs to catch up are skipped, and their logs are given up.
    test.settle().await;
    for minute in 0..100 {
        test.set(MIDNIGHT + 40 * DAY + minute * 2);
        tokio::time::sleep(Duration::from_millis(if test.groups() > 0 { 100 } else { 0 })).await;
    }
    assert_eq!((test.groups(), since(&test)), (0, Some(MIDNIGHT + 40 * DAY - 5 * MINUTE)));
    let job = test.job();
    let skipped = ("20261201001000", "20261201001100");
    let runs = test.jobs.backfill(&job, skipped, RunRequest::default()).await.unwrap();
    test.settle().await;
    let run = test.store.run(job.number(), runs[0]).unwrap();
    assert_eq!((run.state, run.code.as_str()), (RunState::Failed, "LogsExpired"), "{}", run.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_destination_leaves_each_row_once() {
    for appends in [false, true] {
        for fault in [
            Fault::Put,
            Fault::PutStored,
            Fault::CommitLost,
            Fault::CommitRefused,
            Fault::Create,
            Fault::Expire,
        ] {
            let test = Test::unscheduled(!appends).await;
            for id in 0..20 {
                test.put(id).await;
            }
            test.tables.inject(fault);
            test.set(MIDNIGHT + 600);
            let run = test.run(at(MIDNIGHT + 600)).await.unwrap();
            test.set(MIDNIGHT + 700);
            test.settle().await;
            let run = test.store.run(run.job, run.id).unwrap();
            assert_eq!((run.state, run.message.as_str()), (RunState::Success, ""), "{fault:?} {appends}");
            let mut ids = test.tables.rows();
            ids.sort_unstable();
            assert_eq!(ids, (0..20).collect::<Vec<_>>(), "{fault:?} {appends}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_with_an_unclear_commit_fail_loudly() {
    for appends in [false, true] {
        let test = Test::unscheduled(!appends).await;
        test.put(1).await;
        test.tables.inject(Fault::CommitLostAndForgotten);
        test.set(MIDNIGHT + 600);
        test.run(at(MIDNIGHT + 600)).await.unwrap();
        test.set(MIDNIGHT + 700);
        test.settle().await;
        let run = test.runs().pop().unwrap();
        // The commit was done. Replaced rows are simply written again.
        assert_eq!(test.tables.rows(), [1]);
        if !appends {
            assert_eq!(run.state, RunState::Success);
            continue;
        }
        assert_eq!(run.state, RunState::Unclear, "{}", run.message);
        assert!(run.message.contains("Count its rows; the run has 1"), "{}", run.message);
        let again = test.jobs.rerun(&test.job(), &run, false).await.unwrap_err().to_string();
        assert!(again.contains("perhaps appended") && again.contains("--allow-duplicates"), "{again}");
        test.jobs.rerun(&test.job(), &run, true).await.unwrap();
        test.settle().await;
        assert_eq!(test.tables.rows(), [1, 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rerun_makes_the_same_rows_and_appends_them_only_on_request() {
    let test = Test::unscheduled(false).await;
    test.put(1).await;
    test.set(MIDNIGHT + 600);
    let run = test.run(at(MIDNIGHT + 600)).await.unwrap();
    let refused = test.run(at(MIDNIGHT + 600)).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("run {} has appended", run.id)), "{refused}");
    assert!(test.jobs.rerun(&test.job(), &run, false).await.is_err());
    let again = test.jobs.rerun(&test.job(), &run, true).await.unwrap();
    test.settle().await;
    let again = test.store.run(run.job, again).unwrap();
    assert_eq!((again.plan, again.state), (run.plan, RunState::Success));
    assert_eq!(test.tables.rows(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_in_the_future_waits_or_is_refused() {
    let test = Test::unscheduled(true).await;
    let refused = test.run(at(MIDNIGHT + DAY)).await.unwrap_err().to_string();
    assert!(refused.contains("ends in the future"), "{refused}");
    let run = test.run(at(MIDNIGHT + 900)).await.unwrap();
    assert_eq!((run.state, run.attempts), (RunState::Waiting, 0));
    test.put(7).await;
    test.set(MIDNIGHT + 601);
    test.put(8).await;
    test.settle().await;
    assert_eq!(test.store.run(run.job, run.id).unwrap().state, RunState::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_runs_each_scheduled_time_once() {
    let test = Test::new(|_| ()).await;
    for id in 0..30 {
        test.set(MIDNIGHT + id * MINUTE);
        test.put(id).await;
    }
    let job = test.job();
    let backfill =
        |from: &'static str, to: &'static str| test.jobs.backfill(&job, (from, to), RunRequest::default());
    let refused = backfill("20261201001000", "2026120100").await.unwrap_err().to_string();
    assert!(refused.contains("is no time"), "{refused}");
    let refused = backfill("20261203", "20261204").await.unwrap_err().to_string();
    assert!(refused.contains("no scheduled time"), "{refused}");
    assert_eq!(backfill("20261201001000", "20261201002500").await.unwrap().len(), 3);
    let refused = backfill("20261201001000", "20261201002500").await.unwrap_err().to_string();
    assert!(refused.contains("has not ended"), "{refused}");
    test.settle().await;
    let done = test.runs().into_iter().filter(|run| run.trigger == RunTrigger::Backfill);
    let windows: Vec<_> = done.map(|run| window(&run).begin - MIDNIGHT).collect();
    assert_eq!(windows, [0, 300, 600]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_run_leaves_nothing() {
    let test = Test::unscheduled(true).await;
    test.put(1).await;
    test.set(MIDNIGHT + 600);
    test.tables.inject(Fault::Hang);
    let id = test.jobs.run(&test.job(), at(MIDNIGHT + 600)).await.unwrap();
    while test.tables.hanging() == 0 {
        test.jobs.tick().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = test.jobs.run(&test.job(), at(MIDNIGHT + 600)).await.unwrap_err().to_string();
    assert!(refused.contains("has not ended"), "{refused}");
    test.jobs.stop(&test.job(), id).await.unwrap();
    test.settle().await;
    assert_eq!(test.store.run(test.job().number(), id).unwrap().state, RunState::Stopped);
    assert!(test.tables.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_run_never_appends_what_a_requested_run_appended() {
    let test = Test::new(|job| job.configuration.writer.parameter.truncate = false).await;
    test.put(1).await;
    test.set(MIDNIGHT + 599);
    test.settle().await;
    // The window of the next scheduled run.
    let values = json!({ "startTime": "20261201000000", "endTime": "20261201000500" });
    test.run(RunRequest { parameters: values, ..RunRequest::default() }).await.unwrap();
    assert_eq!(test.tables.rows(), [1]);
    test.set(MIDNIGHT + 601);
    test.settle().await;
    let run = test.runs().pop().unwrap();
    assert_eq!((run.trigger, run.state), (RunTrigger::Schedule, RunState::Failed));
    assert!(run.message.contains("has appended rows"), "{}", run.message);
    assert_eq!(test.tables.rows(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn constants_of_a_script_are_checked_before_a_run() {
    let test = Test::unscheduled(true).await;
    let text =
        include_str!("tests/job.json").replace(r#""schedule": { "everyMinutes": 5 }"#, r#""schedule": null"#);
    let check = |from: &str, to: &str| {
        let job = Job::parse(&text.replace(from, to), Path::new("j.json")).unwrap();
        test.jobs.check("p", &job).map_err(|error| error.to_string())
    };
    check("", "").unwrap();
    for name in ["../ok", "a b", "p.ok", "a`b"] {
        let refused = check(r#""table": "ok""#, &format!(r#""table": "{name}""#)).unwrap_err();
        assert!(refused.contains("is no name of a table"), "{refused}");
    }
    // Parameters have their values only in a run.
    check(r#""table": "ok""#, r#""table": "t_${day}""#).unwrap();
}

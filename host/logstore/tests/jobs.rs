//! Jobs and their runs, across restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_logstore::{Clock, NewRun, Options, RunEnd, RunState, RunTrigger, Store, StoreError, SyncJob};
use serde_json::json;

const START: u64 = 1_700_000_000_000_000;

struct Test {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
    store: Store,
}

fn open(directory: &Path, now: &Arc<AtomicU64>) -> Store {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
    Store::open(directory, Options { clock, ..Options::default() }).unwrap()
}

impl Test {
    async fn new() -> Self {
        let (directory, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START)));
        let store = open(directory.path(), &now);
        store.create_project("p", "").await.unwrap();
        store.create_job("p", "j", &json!({ "a": 1 }), Some(100)).await.unwrap();
        Self { directory, now, store }
    }

    fn job(&self) -> SyncJob {
        self.store.job("p", "j").unwrap()
    }

    async fn run(&self) -> i64 {
        self.store.create_runs(&self.job(), vec![manual(5)]).await.unwrap()[0]
    }

    fn reopen(mut self) -> Self {
        self.store.close();
        let other = tempfile::tempdir().unwrap();
        drop(std::mem::replace(&mut self.store, open(other.path(), &self.now)));
        self.store = open(self.directory.path(), &self.now);
        self
    }
}

fn new_run(scheduled: u64, trigger: RunTrigger) -> NewRun {
    NewRun { scheduled, trigger, parameters: json!({ "x": "1" }), plan: None }
}

fn manual(scheduled: u64) -> NewRun {
    new_run(scheduled, RunTrigger::Manual)
}

fn end(state: RunState) -> RunEnd {
    RunEnd { state, code: String::new(), message: "m".into(), next_attempt: None }
}

#[tokio::test]
async fn job_is_kept_and_its_name_is_unique() {
    let test = Test::new().await;
    let again = test.store.create_job("p", "j", &json!({}), None).await;
    assert!(matches!(again, Err(StoreError::JobExists(_))));
    assert!(matches!(test.store.create_job("q", "j", &json!({}), None).await, Err(StoreError::NoProject(_))));
    let test = test.reopen();
    let job = test.job();
    assert_eq!((job.configuration, job.next, job.waits), (json!({ "a": 1 }), Some(100), false));
    test.store.update_job("p", "j", &json!({ "a": 2 }), None).await.unwrap();
    assert_eq!((test.job().configuration, test.job().next), (json!({ "a": 2 }), None));
    test.store.delete_job("p", "j").await.unwrap();
    assert!(matches!(test.store.job("p", "j"), Err(StoreError::NoJob(_))));
    assert!(matches!(test.store.delete_job("p", "j").await, Err(StoreError::NoJob(_))));
}

#[tokio::test]
async fn requested_runs_never_overlap() {
    let test = Test::new().await;
    let run = test.run().await;
    let refused = test.store.create_runs(&test.job(), vec![manual(6)]).await;
    assert!(matches!(refused, Err(StoreError::ActiveRun { run: active, .. }) if active == run));
    assert!(matches!(test.store.delete_job("p", "j").await, Err(StoreError::ActiveRun { .. })));
    test.store.stop_run(test.job().number(), run).await.unwrap();
    test.store.create_runs(&test.job(), vec![manual(6), manual(7)]).await.unwrap();
    assert_eq!(test.store.active_runs().unwrap().len(), 2);
}

#[tokio::test]
async fn schedule_creates_each_run_once() {
    let test = Test::new().await;
    let job = test.job();
    let scheduled = || vec![new_run(100, RunTrigger::Schedule), new_run(400, RunTrigger::Schedule)];
    test.store.schedule_runs(&job, scheduled(), 700, 3).await.unwrap();
    // Another one with the state of before creates nothing.
    test.store.schedule_runs(&job, scheduled(), 700, 3).await.unwrap();
    let job = test.job();
    assert_eq!((job.next, job.skipped), (Some(700), 3));
    // The clock was set back.
    test.store.schedule_runs(&job, vec![new_run(400, RunTrigger::Schedule)], 700, 0).await.unwrap();
    let (count, runs) = test.store.runs(job.number(), 0, 10).unwrap();
    let times: Vec<_> = runs.iter().map(|run| run.scheduled).collect();
    assert_eq!((count, times), (2, vec![400, 100]));
}

#[tokio::test]
async fn run_state_survives_restart() {
    let test = Test::new().await;
    let run = test.run().await;
    assert!(test.store.start_run(run).await.unwrap());
    assert!(test.store.save_run_plan(run, "plan".into()).await.unwrap());
    assert!(!test.store.save_run_plan(run, "another".into()).await.unwrap());
    assert!(test.store.save_run_session(run, Some("s".into())).await.unwrap());
    assert!(test.store.save_run_progress(run, "{}".into()).await.unwrap());
    assert!(test.store.begin_run_commit(run).await.unwrap());
    let test = test.reopen();
    let active = test.store.active_runs().unwrap();
    let found = &active[0];
    assert_eq!(
        (found.id, found.state, found.attempts, found.is_committing),
        (run, RunState::Running, 1, true)
    );
    assert_eq!(
        (found.plan.as_deref(), found.session.as_deref(), found.progress.as_deref()),
        (Some("plan"), Some("s"), Some("{}"))
    );
    let job = test.job().number();
    assert!(matches!(test.store.stop_run(job, run).await, Err(StoreError::RunCommitting(_))));
    assert!(test.store.save_run_session(run, None).await.unwrap());
    let found = test.store.run(job, run).unwrap();
    assert_eq!((found.session, found.progress, found.is_committing), (None, None, false));
    let retry = RunEnd { next_attempt: Some(START + 1), ..end(RunState::Waiting) };
    assert!(test.store.end_run(run, retry).await.unwrap());
    assert!(test.store.start_run(run).await.unwrap());
    assert!(test.store.end_run(run, end(RunState::Success)).await.unwrap());
    let found = test.store.run(job, run).unwrap();
    assert_eq!(
        (found.state, found.attempts, found.failures, found.finished),
        (RunState::Success, 2, 1, START)
    );
    assert!(matches!(test.store.stop_run(job, run).await, Err(StoreError::RunEnded(_))));
    assert_eq!(test.store.written_runs(job).unwrap().len(), 1);
}

#[tokio::test]
async fn stopped_run_changes_no_more() {
    let test = Test::new().await;
    let (run, job) = (test.run().await, test.job().number());
    assert!(test.store.start_run(run).await.unwrap());
    test.store.stop_run(job, run).await.unwrap();
    assert!(!test.store.save_run_session(run, Some("s".into())).await.unwrap());
    assert!(!test.store.begin_run_commit(run).await.unwrap());
    assert!(!test.store.end_run(run, end(RunState::Success)).await.unwrap());
    assert!(!test.store.start_run(run).await.unwrap());
    let found = test.store.run(job, run).unwrap();
    assert_eq!((found.state, found.session), (RunState::Stopped, None));
    assert!(matches!(test.store.run(job + 1, run), Err(StoreError::NoRun(_))));
}

#[tokio::test]
async fn restored_store_waits_for_an_operator() {
    let test = Test::new().await;
    let run = test.run().await;
    let copy = tempfile::tempdir().unwrap();
    test.store.close();
    // A copy of the database without the high-water mark is another life.
    std::fs::copy(test.directory.path().join("logstore.db"), copy.path().join("logstore.db")).unwrap();
    let store = open(copy.path(), &test.now);
    let job = store.job("p", "j").unwrap();
    assert!(job.waits && store.active_runs().unwrap().is_empty());
    store.schedule_runs(&job, vec![], 700, 0).await.unwrap();
    assert_eq!(store.job("p", "j").unwrap().next, Some(100));
    store.confirm_generation(logship_logstore::Unshipped::Skip).await.unwrap();
    let job = store.job("p", "j").unwrap();
    assert_eq!((job.waits, job.next), (false, None));
    assert_eq!(store.run(job.number(), run).unwrap().state, RunState::Stopped);
}

//! Start and end of an engine.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt as _, join_all};
use tokio::sync::watch;
use tokio::task;

use crate::engine::stream::StreamDriver;
use crate::engine::{DeliveryEngine, panics};

/// Longest wait for running uploads at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Delay before a part of the engine that panicked is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// A running engine.
#[derive(Debug)]
pub struct Running {
    engine: Arc<DeliveryEngine>,
    threads: Vec<JoinHandle<()>>,
    streams: Vec<task::JoinHandle<()>>,
    stop_streams: watch::Sender<bool>,
    maintenance: task::JoinHandle<()>,
}

impl DeliveryEngine {
    /// Recovers the tasks that were running when the last process ended, and starts the pool, the streams and the
    /// maintenance.
    pub fn start(self: &Arc<Self>) -> Running {
        let threads = match self.start_pool() {
            Ok(threads) => threads,
            Err(error) => {
                tracing::error!(%error, "shipping can't start; no logs are shipped");
                vec![]
            }
        };
        let stop_streams = watch::Sender::new(false);
        let run = |stream: &Arc<dyn StreamDriver>| {
            let (engine, stream, stop) = (Arc::clone(self), Arc::clone(stream), stop_streams.subscribe());
            let run = move || Arc::clone(&stream).run(Arc::clone(&engine), stop.clone());
            self.runtime.spawn(restart_after_panics(run))
        };
        let engine = Arc::clone(self);
        let maintain = move || Arc::clone(&engine).run_maintenance();
        Running {
            engine: Arc::clone(self),
            threads,
            streams: self.streams.iter().map(run).collect(),
            stop_streams,
            maintenance: self.runtime.spawn(restart_after_panics(maintain)),
        }
    }
}

/// Runs a part of the engine to its end. Starts it again after a panic: without it, tasks would stay running for ever.
async fn restart_after_panics<F: Future<Output = ()>>(run: impl Fn() -> F) {
    while let Err(panic) = AssertUnwindSafe(run()).catch_unwind().await {
        let panic = panics::message(&*panic);
        tracing::error!(panic, "a part of the delivery engine panicked: please report this bug of logship");
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

impl Running {
    /// Tells the streams to stop. They still deliver their tasks in flight.
    pub fn stop_streams(&self) {
        self.stop_streams.send_replace(true);
    }

    /// Stops the engine. Abandons outputs being encoded, and waits a while for running uploads and for tasks in flight.
    /// The next start resumes unfinished tasks.
    pub async fn end(self) {
        self.stop_streams();
        for ended in join_all(self.streams).await {
            if let Err(error) = ended {
                tracing::error!(%error, "the SIEM rules did not stop");
            }
        }
        self.maintenance.abort();
        let (engine, threads) = (self.engine, self.threads);
        let ended = task::spawn_blocking(move || end_pool(&engine, &threads)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the workers did not stop");
        }
    }
}

fn end_pool(engine: &DeliveryEngine, threads: &[JoinHandle<()>]) {
    engine.pool.stopping.store(true, Ordering::Relaxed);
    engine.pool.changed.notify_all();
    let begun = Instant::now();
    while begun.elapsed() < SHUTDOWN_TIMEOUT && threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = threads.iter().filter(|thread| !thread.is_finished()).count();
    if left > 0 {
        tracing::warn!(left, "uploads did not finish before shutdown; the next start resumes their tasks");
    }
}

//! Start and end of an engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task;

use crate::engine::DeliveryEngine;

/// Longest wait for running uploads at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

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
        let run = |stream: &Arc<dyn crate::engine::StreamDriver>| {
            self.runtime.spawn(Arc::clone(stream).run(Arc::clone(self), stop_streams.subscribe()))
        };
        Running {
            engine: Arc::clone(self),
            threads,
            streams: self.streams.iter().map(run).collect(),
            stop_streams,
            maintenance: self.runtime.spawn(Arc::clone(self).run_maintenance()),
        }
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

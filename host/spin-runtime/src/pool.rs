//! The instances of a function, and the calls that wait for one.
//!
//! As on Spin, an instance serves several HTTP calls, one after another and concurrently. A call that computes has its
//! instance for itself; while it waits for I/O, the instance takes further calls. A trap ends an instance with all of
//! its calls.
//!
//! Unlike on Spin, a call never waits for an instance that computes without end: it gets another one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::error::CallError;
use crate::instance::InstanceConfig;
use crate::queue::{Answer, Call, Request, Shared};
use crate::state::State;
use crate::worker;

/// The time after which a waiting call starts another instance.
const START_DELAY: Duration = Duration::from_millis(20);

/// The instances of a function.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

impl Pool {
    pub(crate) fn new(config: InstanceConfig, service: ServicePre<State>) -> Self {
        Self(Arc::new(Shared::new(config, service)))
    }

    /// Calls an instance.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let (call, mut answer) = Call::new(request);
        let is_taken = Arc::clone(&call.is_taken);
        self.0.push(call);
        if self.0.available.load(Ordering::Acquire) == 0 {
            self.start();
        }
        while !is_taken.load(Ordering::Acquire) {
            if let Ok(answer) = tokio::time::timeout(START_DELAY, &mut answer).await {
                return answer.unwrap_or_else(|_| Err(CallError::lost()));
            }
            // The available instances compute meanwhile.
            if !is_taken.load(Ordering::Acquire) && self.0.starting.load(Ordering::Acquire) == 0 {
                self.start();
            }
        }
        answer.await.unwrap_or_else(|_| Err(CallError::lost()))
    }

    fn start(&self) {
        self.0.available.fetch_add(1, Ordering::AcqRel);
        self.0.starting.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(worker::run(Arc::clone(&self.0)));
    }
}

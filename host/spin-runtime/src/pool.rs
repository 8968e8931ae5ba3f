//! The instances of a function, and the calls that wait for one.
//!
//! As on Spin, an instance serves several HTTP calls, one after another and concurrently. A call that computes has its
//! instance for itself; while it waits for I/O, the instance takes further calls. A trap ends an instance with all of
//! its calls.
//!
//! Unlike on Spin, a call never waits for an instance that computes without end: it gets another one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::error::CallError;
use crate::instance::InstanceConfig;
use crate::state::State;
use crate::worker;

/// A request to a function.
pub(crate) type Request = http::Request<wasmtime_wasi_http::WasiBody>;

/// The answer of a call.
pub(crate) type Answer = Result<http::Response<wasmtime_wasi_http::WasiBody>, CallError>;

/// The time after which a waiting call starts another instance.
const PATIENCE: Duration = Duration::from_millis(20);

/// The instances of a function.
#[derive(Clone)]
pub(crate) struct Pool(pub(crate) Arc<Shared>);

/// The state that a function shares with its instances.
pub(crate) struct Shared {
    pub(crate) config: InstanceConfig,
    pub(crate) service: ServicePre<State>,
    queue: Mutex<Queue>,
    /// Instances that are starting, or wait for I/O and can take a call.
    pub(crate) available: AtomicUsize,
    /// Instances that are starting.
    pub(crate) starting: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    /// The instances that wait for calls.
    wakers: Vec<Waker>,
}

/// A call that waits for an instance.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) caller: Caller,
    is_taken: Arc<AtomicBool>,
}

/// Sends the answer of a call, once.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Mutex<Option<oneshot::Sender<Answer>>>>);

impl Caller {
    /// Sends the answer, unless there was one.
    pub(crate) fn answer(&self, answer: Answer) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The caller may have gone.
            _ = sender.send(answer);
        }
    }

    /// Returns true if somebody waits for the answer.
    pub(crate) fn is_waiting(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

impl Pool {
    pub(crate) fn new(config: InstanceConfig, service: ServicePre<State>) -> Self {
        let (available, starting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Shared { config, service, queue: Mutex::default(), available, starting }))
    }

    /// Calls an instance.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let (sender, mut answer) = oneshot::channel();
        let caller = Caller(Arc::new(Mutex::new(Some(sender))));
        let is_taken = Arc::new(AtomicBool::new(false));
        self.0.push(Call { request, caller, is_taken: Arc::clone(&is_taken) });
        if self.0.available.load(Ordering::Acquire) == 0 {
            self.start();
        }
        while !is_taken.load(Ordering::Acquire) {
            if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut answer).await {
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

impl Shared {
    fn push(&self, call: Call) {
        let wakers = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.calls.push_back(call);
            std::mem::take(&mut queue.wakers)
        };
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// Takes the oldest call that somebody waits for. Wakes the instance at the next call if there is none.
    pub(crate) fn take(&self, context: &Context<'_>) -> Option<Call> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let call = queue.next();
        if call.is_none() && !queue.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            queue.wakers.push(context.waker().clone());
        }
        call
    }

    /// Fails the oldest call, for an instance that could not be created.
    pub(crate) fn fail_next(&self, error: CallError) {
        let call = self.queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        if let Some(call) = call {
            call.caller.answer(Err(error));
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Call> {
        while let Some(call) = self.calls.pop_front() {
            if call.caller.is_waiting() {
                call.is_taken.store(true, Ordering::Release);
                return Some(call);
            }
        }
        None
    }
}

//! The calls that wait for an instance, and the instances that can take them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::oneshot;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::error::CallError;
use crate::instance::InstanceConfig;
use crate::state::State;

/// A request to a function.
pub(crate) type Request = http::Request<wasmtime_wasi_http::WasiBody>;

/// The answer of a call.
pub(crate) type Answer = Result<http::Response<wasmtime_wasi_http::WasiBody>, CallError>;

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
    /// True if an instance has it.
    pub(crate) is_taken: Arc<AtomicBool>,
}

impl Call {
    /// Creates a call. Returns it with the receiver of its answer.
    pub(crate) fn new(request: Request) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        let caller = Caller(Arc::new(Mutex::new(Some(sender))));
        (Self { request, caller, is_taken: Arc::default() }, answer)
    }
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

impl Shared {
    pub(crate) fn new(config: InstanceConfig, service: ServicePre<State>) -> Self {
        let (available, starting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { config, service, queue: Mutex::default(), available, starting }
    }

    /// Adds a call, and wakes the instances that wait for one.
    pub(crate) fn push(&self, call: Call) {
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

//! An instance and its calls, from its creation to its end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep};
use wasmtime::component::Accessor;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::error::CallError;
use crate::limits::Limits;
use crate::queue::{Call, Caller, Shared};
use crate::state::State;

/// The work of an instance, and its begin.
#[derive(Debug, Clone, Copy)]
enum Status {
    /// It has no calls, and nothing to do.
    Idle(Instant),
    /// It works on calls; the begin is that of the last one.
    Calls(Instant),
    /// All calls are answered, and it works on, for example on the rest of a body.
    AfterCalls(Instant),
}

/// The progress of an instance, seen from outside. It is out of date while the instance computes.
struct Progress {
    /// True if all calls wait for I/O, as far as known.
    waits_for_io: AtomicBool,
    /// True if the instance takes another call.
    can_take: AtomicBool,
    status: Mutex<Status>,
    callers: Mutex<Vec<Caller>>,
}

impl Progress {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callers(&self) -> MutexGuard<'_, Vec<Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, status: Status) {
        *self.status() = status;
    }

    /// Sets the status to idle, or to work after calls, unless it is that already.
    fn rest(&self, is_idle: bool) {
        let mut status = self.status();
        match (*status, is_idle) {
            (Status::Idle(_), true) | (Status::AfterCalls(_), false) => {}
            (_, true) => *status = Status::Idle(Instant::now()),
            (_, false) => *status = Status::AfterCalls(Instant::now()),
        }
    }

    /// Returns the time at which the instance is dropped, unless its status changes.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let (begin, timeout) = match *self.status() {
            Status::Idle(begin) => (begin, limits.reuse.idle_timeout),
            Status::Calls(begin) | Status::AfterCalls(begin) => (begin, limits.timeout),
        };
        begin.checked_add(timeout)
    }

    fn is_idle(&self) -> bool {
        matches!(*self.status(), Status::Idle(_))
    }

    fn add(&self, caller: Caller) {
        let mut callers = self.callers();
        callers.retain(Caller::is_waiting);
        callers.push(caller);
    }
}

/// Creates an instance, and serves calls until it is idle, has served enough, or fails.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut availability = Availability { shared: &shared, is_counted: true };
    let mut store = shared.config.store();
    let service = shared.service.instantiate_async(&mut store).await;
    shared.starting.fetch_sub(1, Ordering::AcqRel);
    let service = match service {
        Ok(service) => service,
        Err(error) => return shared.fail_next(CallError::trap(error)),
    };
    let progress = Progress {
        waits_for_io: AtomicBool::new(true),
        can_take: AtomicBool::new(true),
        status: Mutex::new(Status::Idle(Instant::now())),
        callers: Mutex::new(vec![]),
    };
    let result = {
        let serving =
            store.run_concurrent(async |accessor| serve(&shared, &progress, &service, accessor).await);
        let mut serving = pin!(serving);
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        poll_fn(|context| {
            // Until the poll returns, the instance may compute.
            availability.set(false);
            let mut poll = serving.as_mut().poll(context);
            // All calls wait for I/O, so it may take another one.
            if poll.is_pending() && !progress.waits_for_io.swap(true, Ordering::AcqRel) {
                poll = serving.as_mut().poll(context);
            }
            let Poll::Pending = poll else { return poll.map(Result::flatten) };
            let deadline = progress.deadline(&shared.config.limits);
            if deadline.is_some_and(|deadline| is_over(deadline, sleep.as_mut(), context)) {
                let is_idle = progress.is_idle();
                return Poll::Ready(if is_idle {
                    Ok(())
                } else {
                    Err(wasmtime::format_err!("it timed out"))
                });
            }
            availability.set(progress.can_take.load(Ordering::Acquire));
            Poll::Pending
        })
        .await
    };
    drop(store);
    if let Err(error) = result {
        let mut callers = std::mem::take(&mut *progress.callers());
        callers.retain(Caller::is_waiting);
        let (cause, calls) = (Arc::new(error), callers.len());
        for caller in callers {
            caller.answer(Err(CallError::Trap { cause: Arc::clone(&cause), calls }));
        }
    }
}

/// Returns true at the deadline. Wakes the task then.
fn is_over(deadline: Instant, mut sleep: Pin<&mut Sleep>, context: &mut Context<'_>) -> bool {
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    sleep.poll(context).is_ready()
}

/// Serves the calls of an instance.
async fn serve(
    shared: &Shared,
    progress: &Progress,
    service: &Service,
    accessor: &Accessor<State>,
) -> wasmtime::Result<()> {
    let limits = &shared.config.limits;
    let (mut calls, mut taken, mut is_expired) = (FuturesUnordered::new(), 0, false);
    let handler = *service.wasi_http_handler().func_handle().func();
    poll_fn(|context| {
        loop {
            let next: Poll<Option<wasmtime::Result<bool>>> = calls.poll_next_unpin(context);
            match next {
                Poll::Ready(Some(Ok(is_answered))) => {
                    is_expired |= !is_answered;
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            let is_usable = taken < limits.reuse.calls && !is_expired;
            // The function can refuse further calls.
            let is_ready = accessor.poll_ready_for_concurrent_call(handler, context).is_ready();
            let has_place = calls.is_empty()
                || calls.len() < limits.reuse.concurrent_calls
                    && progress.waits_for_io.load(Ordering::Acquire);
            let can_take = is_usable && is_ready && has_place;
            progress.can_take.store(can_take, Ordering::Release);
            if let Some(call) = if can_take { shared.take(context) } else { None } {
                taken += 1;
                // It probably computes first.
                progress.waits_for_io.store(false, Ordering::Release);
                progress.set(Status::Calls(Instant::now()));
                progress.add(call.caller.clone());
                calls.push(handle(service, accessor, call, limits.timeout));
                continue;
            }
            if !calls.is_empty() {
                return Poll::Pending;
            }
            let is_idle = accessor.poll_no_interesting_tasks(context).is_ready();
            if is_idle && !(is_usable && is_ready) {
                return Poll::Ready(Ok(()));
            }
            progress.rest(is_idle);
            return Poll::Pending;
        }
    })
    .await
}

/// Completes when a request is sent to the instance.
type Sent = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

/// Handles a call. Returns false if it exceeded its timeout: the instance then takes no further calls.
async fn handle(
    service: &Service,
    accessor: &Accessor<State>,
    call: Call,
    timeout: Duration,
) -> wasmtime::Result<bool> {
    let Call { request, caller, .. } = call;
    let (request, sent) = accessor.with(|mut access| {
        let (request, sent) = p3::Request::from_http(access.get().http().hooks, request);
        (request, Box::pin(sent) as Sent)
    });
    let handled = async {
        Ok::<_, wasmtime::Error>(match service.handle(accessor, request).await? {
            Ok(response) => Ok(accessor.with(|access| response.into_http(access, sent))?),
            Err(code) => Err(CallError::Failed(code.to_string())),
        })
    };
    match tokio::time::timeout(timeout, handled).await {
        Ok(answer) => {
            caller.answer(answer?);
            Ok(true)
        }
        Err(_) => {
            caller.answer(Err(CallError::Timeout(timeout)));
            Ok(false)
        }
    }
}

/// Counts an instance among the available ones.
struct Availability<'a> {
    shared: &'a Shared,
    is_counted: bool,
}

impl Availability<'_> {
    fn set(&mut self, is_available: bool) {
        match (self.is_counted, is_available) {
            (false, true) => drop(self.shared.available.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.shared.available.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
        self.is_counted = is_available;
    }
}

impl Drop for Availability<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

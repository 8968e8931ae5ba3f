//! Deadlines by signals, without overhead for calls that meet them.
//!
//! wasmtime's epoch checks in every loop cost a fifth to a third of a component's speed. This module adds no
//! checks. Instead, it examines the running calls at each [tick](logship_wasm::ticker). It sends a signal to the
//! thread of each overdue call. The signal handler acts on the position of that thread:
//!
//! - Inside a function of the component: the handler moves the instruction pointer to a trapping instruction.
//!   The call then ends like any other trap: its frames are unwound and the host gets an error.
//! - Inside wasmtime or the host, for example while it fills a memory: the handler lets that code finish. It
//!   overwrites the return addresses on the stack that point into the component with the address of the trap.
//! - Before or after all functions of the component: the stack has no such return addresses, so nothing
//!   happens. The watcher sends the next signal one tick later.
//!
//! Go preempts goroutines by signals as well, and .NET suspends threads by hijacking return addresses.
//!
//! This relies on two assumptions. First, wasmtime can unwind a component's frames at any instruction as it
//! does at a trapping one. Tail calls are the only exception, so components with tail calls use epochs.
//! Second, no other live value on the host's stack equals a return address into the component. The host uses
//! such addresses only to report traps.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logship_wasm::ticker::{self, Running, ticks};

use super::signal::{SIGNAL, install_handler, unblock, unblock_traps};
use super::{Deadline, cpu_time, thread_cpu_time};
use crate::code::Code;

/// The current call of one thread.
#[derive(Debug)]
pub(super) struct Slot {
    call: Mutex<Option<Call>>,
    /// True if the call is overdue.
    pub(super) is_overdue: AtomicBool,
    /// The code of the call. Null between calls.
    pub(super) code: AtomicPtr<Code>,
    /// A stack address above all frames of the call.
    pub(super) stack_base: AtomicUsize,
}

#[derive(Debug)]
struct Call {
    thread: libc::pthread_t,
    /// The clock of the thread's CPU time.
    clock: libc::clockid_t,
    deadline: Deadline,
    /// The tick before which the call can't be overdue.
    next_check: u64,
}

/// The slots of all threads. They are never freed, because a signal may arrive late.
#[derive(Debug, Default)]
struct SlotTable {
    all: Vec<&'static Slot>,
    /// Slots of threads that have ended.
    free: Vec<&'static Slot>,
}

static SLOTS: Mutex<SlotTable> = Mutex::new(SlotTable { all: vec![], free: vec![] });

thread_local! {
    /// The slot of this thread. Null before its first call. It has no destructor, so the signal handler may
    /// read it at any time.
    pub(super) static CURRENT: Cell<*const Slot> = const { Cell::new(ptr::null()) };
    static LEASE: Lease = Lease::take();
}

/// Runs `call`, and stops it in a function of `code` after `limit`. `call` must not call this function again.
/// Also returns true if the call was overdue: its error may then be the forced trap.
pub(crate) fn run<R>(limit: Duration, code: &Code, call: impl FnOnce() -> R) -> (R, bool) {
    LEASE.with(|lease| {
        // Lies in this frame, so all frames of the call are below it.
        let marker = 0_u8;
        let _ticking = Running::begin();
        let running = WatchedCall::begin(lease.slot, limit, code, ptr::from_ref(&marker).addr());
        let returned = call();
        // The call has returned, so no code of the component is running.
        lease.slot.code.store(ptr::null_mut(), Ordering::SeqCst);
        black_box(&marker);
        (returned, running.end())
    })
}

/// A call under a deadline. Dropping it cancels the deadline.
struct WatchedCall<'a> {
    slot: &'static Slot,
    _code: &'a Code,
}

impl<'a> WatchedCall<'a> {
    fn begin(slot: &'static Slot, limit: Duration, code: &'a Code, stack_base: usize) -> Self {
        // SAFETY: returns the id of the calling thread.
        let thread = unsafe { libc::pthread_self() };
        slot.is_overdue.store(false, Ordering::SeqCst);
        slot.stack_base.store(stack_base, Ordering::SeqCst);
        slot.code.store(ptr::from_ref(code).cast_mut(), Ordering::SeqCst);
        let deadline = Deadline::begin(limit, thread_cpu_time());
        *lock(&slot.call) = Some(Call { thread, clock: clock_of(thread), deadline, next_check: ticks() });
        Self { slot, _code: code }
    }

    /// Ends the call. Returns true if it was overdue.
    fn end(self) -> bool {
        // No signal is sent from here on. A signal in flight finds nothing to do.
        *lock(&self.slot.call) = None;
        self.slot.is_overdue.load(Ordering::SeqCst)
    }
}

impl Drop for WatchedCall<'_> {
    fn drop(&mut self) {
        *lock(&self.slot.call) = None;
        self.slot.is_overdue.store(false, Ordering::SeqCst);
        self.slot.code.store(ptr::null_mut(), Ordering::SeqCst);
    }
}

/// A thread's claim on its slot.
struct Lease {
    slot: &'static Slot,
}

impl Lease {
    fn take() -> Self {
        let mut slots = lock(&SLOTS);
        let slot = slots.free.pop().unwrap_or_else(|| {
            let slot = Slot {
                call: Mutex::new(None),
                is_overdue: AtomicBool::new(false),
                code: AtomicPtr::new(ptr::null_mut()),
                stack_base: AtomicUsize::new(0),
            };
            let slot: &'static Slot = Box::leak(Box::new(slot));
            slots.all.push(slot);
            slot
        });
        CURRENT.set(slot);
        unblock();
        unblock_traps();
        Self { slot }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
        lock(&SLOTS).free.push(self.slot);
    }
}

/// Installs the signal handler and starts to watch, once per process. Without it no call is stopped.
///
/// # Errors
/// If the operating system refuses the handler or the thread.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = lock(&INSTALLED);
    if !*installed {
        install_handler()?;
        ticker::listen(|| {
            signal_overdue_calls();
            true
        })?;
        *installed = true;
    }
    Ok(())
}

fn signal_overdue_calls() {
    let now = ticks();
    // Slots of ended threads have no call.
    for slot in &lock(&SLOTS).all {
        let mut call = lock(&slot.call);
        let Some(call) = call.as_mut().filter(|call| call.next_check <= now) else { continue };
        if let Some(remaining) = call.deadline.remaining_ticks(cpu_time(call.clock)) {
            call.next_check = now + remaining;
            continue;
        }
        slot.is_overdue.store(true, Ordering::SeqCst);
        // SAFETY: the thread is alive: it can't end its call, and so not itself, while the call is locked.
        unsafe { libc::pthread_kill(call.thread, SIGNAL) };
    }
}

/// Returns the clock of a thread's CPU time.
#[cfg(target_os = "linux")]
fn clock_of(thread: libc::pthread_t) -> libc::clockid_t {
    let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
    // SAFETY: the thread is the calling one. Writes to the valid id only.
    unsafe { libc::pthread_getcpuclockid(thread, &mut clock) };
    clock
}

/// Other systems use epochs, see [`Code::of`].
#[cfg(not(target_os = "linux"))]
fn clock_of(_: libc::pthread_t) -> libc::clockid_t {
    libc::CLOCK_THREAD_CPUTIME_ID
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use wasmtime::component::Linker;
    use wasmtime::{Engine, Store, Trap};

    use super::*;

    fn engine() -> Engine {
        install().unwrap();
        Engine::default()
    }

    /// Builds a component whose function `f` has this body, with the helpers that the body calls.
    fn component(engine: &Engine, body: &str) -> (wasmtime::component::Component, Code) {
        let text = format!(
            r#"(component
                (core module $m
                    (memory 1024)
                    (global $turns (mut i64) (i64.const 0))
                    (func $twice (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
                    (func $traps unreachable)
                    (func $down (param i32)
                        (if (i32.eqz (local.get 0))
                            (then (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br 0))))
                        (call $down (i32.sub (local.get 0) (i32.const 1)))
                        (drop (call $twice (local.get 0))))
                    (func $deep (param i32) (result i32)
                        (if (result i32) (i32.eqz (local.get 0))
                            (then (i32.const 1))
                            (else (i32.add
                                (call $deep (i32.sub (local.get 0) (i32.const 1)))
                                (call $deep (i32.sub (local.get 0) (i32.const 1)))))))
                    (func (export "f") (param i32) (result i32) (local i32)
                        {body}
                        local.get 1))
                (core instance $i (instantiate $m))
                (func (export "f") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#
        );
        let component = wasmtime::component::Component::new(engine, wat::parse_str(text).unwrap()).unwrap();
        let code = Code::of(&component).expect("code that can be stopped");
        (component, code)
    }

    /// Calls `f`. Returns its result, and true if the call was overdue.
    fn call(
        engine: &Engine,
        (component, code): &(wasmtime::component::Component, Code),
        limit: Duration,
    ) -> (wasmtime::Result<u32>, bool) {
        let mut store = Store::new(engine, ());
        let instance = Linker::new(engine).instantiate(&mut store, component).unwrap();
        let function = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "f").unwrap();
        let (returned, is_overdue) = run(limit, code, || function.call(&mut store, (3,)));
        (returned.map(|(value,)| value), is_overdue)
    }

    /// Endless loops, and one call that is too slow to end.
    const ENDLESS: [&str; 10] = [
        "(loop (br 0))",
        "(loop (local.set 1 (i32.add (local.get 1) (i32.const 1))) (br 0))",
        "(loop (global.set $turns (i64.add (global.get $turns) (i64.const 1))) (br 0))",
        "(loop (i32.store (i32.const 64) (i32.load (i32.const 128))) (br 0))",
        "(loop (local.set 1 (call $twice (local.get 1))) (br 0))",
        "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br 0))",
        // Spends nearly all of its time in the host.
        "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 67108864)) (br 0))",
        "(loop (drop (memory.grow (i32.const 0))) (br 0))",
        "(local.set 1 (call $deep (i32.const 60)))",
        // In the host, deep in the stack.
        "(call $down (i32.const 5000))",
    ];

    #[test]
    fn stops_endless_calls_anywhere() {
        let engine = engine();
        for body in ENDLESS {
            let component = component(&engine, body);
            for round in 0..20 {
                // Short enough to stop some calls before they reach the loop.
                let limit = Duration::from_micros(round * 500);
                let (returned, is_overdue) = call(&engine, &component, limit);
                let error = returned.expect_err(body);
                assert!(error.downcast_ref::<Trap>().is_some(), "{body}: {error:?}");
                assert!(is_overdue, "{body}");
            }
        }
    }

    #[test]
    fn timely_calls_succeed_while_others_are_stopped() {
        let engine = engine();
        let endless = component(&engine, ENDLESS[3]);
        let counts = component(
            &engine,
            "(loop (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get 1) (i32.const 100000))))",
        );
        let traps = component(&engine, "(call $traps)");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        // Includes the thread whose last call was stopped.
                        assert!(call(&engine, &endless, Duration::from_millis(1)).1);
                        for _ in 0..200 {
                            let (returned, is_overdue) = call(&engine, &counts, Duration::from_secs(60));
                            assert_eq!((returned.unwrap(), is_overdue), (100_000, false));
                        }
                        let (returned, is_overdue) = call(&engine, &traps, Duration::from_secs(60));
                        assert!(returned.is_err() && !is_overdue);
                    }
                });
            }
        });
    }

    #[test]
    fn stops_thread_with_blocked_signals() {
        let engine = engine();
        let endless = component(&engine, ENDLESS[0]);
        let blocked = || {
            // SAFETY: blocks all signals of this thread only.
            unsafe {
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
            }
            call(&engine, &endless, Duration::from_millis(1)).1
        };
        assert!(thread::scope(|scope| scope.spawn(blocked).join().unwrap()));
    }

    #[test]
    fn overflowing_limit_means_no_deadline() {
        let engine = engine();
        let component = component(&engine, "(local.set 1 (local.get 0))");
        assert_eq!(call(&engine, &component, Duration::MAX).0.unwrap(), 3);
    }
}

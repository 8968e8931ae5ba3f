//! Deadlines of calls into components, at no cost to calls that keep them.
//!
//! wasmtime can check a deadline in every loop of a component, and that costs a fifth to a third of its speed. Here no code
//! checks anything. A watcher looks at the running calls a hundred times a second, and sends the thread of one that is
//! overdue a signal. Its handler looks where the thread is:
//!
//! - In a function of the component, it lets the thread go on at an instruction that traps, and so the call ends as with any
//!   other trap: its frames are left, and the host gets an error.
//! - In wasmtime or the host, which fills a memory for the component, say, it lets that end, and has it return to the same
//!   instruction: addresses on the stack at which functions of the component go on become that of the trap.
//! - When the host is at what comes before or behind the component's functions, there are none, and nothing happens. The
//!   watcher sends the next signal a moment later.
//!
//! Go stops goroutines by signals as well, and .NET its threads by the addresses to which they return.
//!
//! What it relies on: between two instructions of a function, all that wasmtime needs to leave the frames stands where it
//! does when one of the instructions traps; only calls that take their caller's frame are an exception, and a component
//! with such calls is not stopped by this means. And the host keeps nothing on its stack that looks like an address behind a
//! call in a component, and counts: but for what it tells of traps it has nothing to do with such.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::code::Code;

/// How often the watcher looks, and so how exactly a deadline is kept.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A signal that nobody else uses, and that does nothing where it is not handled: as Go does.
const SIGNAL: libc::c_int = libc::SIGURG;

/// What a thread is at.
#[derive(Debug)]
struct Slot {
    call: Mutex<Option<Call>>,
    /// Whether its call is overdue.
    is_overdue: AtomicBool,
    /// The code of its call; null between two.
    code: AtomicPtr<Code>,
    /// The address on the stack below which all frames of the call are.
    below: AtomicUsize,
}

#[derive(Debug)]
struct Call {
    thread: libc::pthread_t,
    due: Instant,
}

/// The slots of threads, which are never freed: a signal may come late.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<&'static Slot>,
    /// Those of threads that have ended.
    free: Vec<&'static Slot>,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { all: vec![], free: vec![] });

thread_local! {
    /// The slot of this thread; null before its first call. It needs no destructor, so that the handler may read it whenever it comes.
    static HERE: Cell<*const Slot> = const { Cell::new(ptr::null()) };
    static LEASE: Lease = Lease::take();
}

/// Calls `call`, which calls nothing by this itself, and stops it when it is in a function of `code` after `limit`. Tells
/// whether it was overdue: an error that it returns then may be that it was stopped.
pub(crate) fn within<R>(limit: Duration, code: &Code, call: impl FnOnce() -> R) -> (R, bool) {
    LEASE.with(|lease| {
        // In this frame, so that all of the call are below it.
        let here = 0_u8;
        let running = Running::begin(lease.slot, limit, code, ptr::from_ref(&here).addr());
        let returned = call();
        // What it returned is nobody's code.
        lease.slot.code.store(ptr::null_mut(), Ordering::SeqCst);
        black_box(&here);
        (returned, running.end())
    })
}

/// A call that is watched until this is dropped.
struct Running<'a> {
    slot: &'static Slot,
    _code: &'a Code,
}

impl<'a> Running<'a> {
    fn begin(slot: &'static Slot, limit: Duration, code: &'a Code, below: usize) -> Self {
        // SAFETY: asks who this is.
        let thread = unsafe { libc::pthread_self() };
        // A limit beyond all time is none.
        let due = Instant::now().checked_add(limit);
        slot.is_overdue.store(false, Ordering::SeqCst);
        slot.below.store(below, Ordering::SeqCst);
        slot.code.store(ptr::from_ref(code).cast_mut(), Ordering::SeqCst);
        *lock(&slot.call) = due.map(|due| Call { thread, due });
        Self { slot, _code: code }
    }

    /// Whether the call was overdue.
    fn end(self) -> bool {
        // From then on no signal is sent; one that was may still come, and finds nothing to do.
        *lock(&self.slot.call) = None;
        self.slot.is_overdue.load(Ordering::SeqCst)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *lock(&self.slot.call) = None;
        self.slot.is_overdue.store(false, Ordering::SeqCst);
        self.slot.code.store(ptr::null_mut(), Ordering::SeqCst);
    }
}

/// A thread's hold on its slot.
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
                below: AtomicUsize::new(0),
            };
            let slot: &'static Slot = Box::leak(Box::new(slot));
            slots.all.push(slot);
            slot
        });
        HERE.set(slot);
        unblock();
        Self { slot }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        HERE.set(ptr::null());
        lock(&SLOTS).free.push(self.slot);
    }
}

/// Installs the handler, and starts the watcher; once for a process. Without it nothing is stopped.
///
/// # Errors
/// When the system does not let it.
pub(crate) fn begin() -> io::Result<()> {
    static BEGUN: Mutex<bool> = Mutex::new(false);
    let mut begun = lock(&BEGUN);
    if !*begun {
        handle()?;
        thread::Builder::new().name("deadlines".into()).spawn(watch)?;
        *begun = true;
    }
    Ok(())
}

fn handle() -> io::Result<()> {
    // SAFETY: a zeroed sigaction is a valid one; the handler is one for SA_SIGINFO, and does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (stop as extern "C" fn(_, _, _)) as usize;
        // Calls of the system go on behind it, and it has a stack of its own where there is one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        if libc::sigaction(SIGNAL, &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets the signal come to this thread, also where who started the process kept all back; and those by which wasmtime's
/// code traps, which end the process otherwise.
fn unblock() {
    // SAFETY: a set of signals that is written before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [SIGNAL, libc::SIGILL, libc::SIGSEGV, libc::SIGFPE] {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
    }
}

fn watch() {
    loop {
        thread::sleep(TICK);
        let now = Instant::now();
        // Those of ended threads have no call.
        for slot in &lock(&SLOTS).all {
            if let Some(call) = lock(&slot.call).as_ref().filter(|call| call.due <= now) {
                slot.is_overdue.store(true, Ordering::SeqCst);
                // SAFETY: the thread is there: it can't end its call, and so not itself, while that is locked.
                unsafe { libc::pthread_kill(call.thread, SIGNAL) };
            }
        }
    }
}

/// Lets a thread whose call is overdue go on at a trap, if it is in a function of the component. Runs as a handler of a
/// signal, so it may only look at what is there.
extern "C" fn stop(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the thread has a slot as long as it has a pointer to it, and slots are never freed.
    let Some(slot) = (unsafe { HERE.get().as_ref() }) else { return };
    if !slot.is_overdue.load(Ordering::SeqCst) {
        return;
    }
    // SAFETY: it is there until the call ends, and this interrupts the thread that ends it.
    let Some(code) = (unsafe { slot.code.load(Ordering::SeqCst).as_ref() }) else { return };
    // SAFETY: `context` is what the system passes to a handler for SA_SIGINFO.
    unsafe { divert(context.cast(), slot, code) };
}

/// Lets an interrupted thread go on at the trap: at once if it is in a function of the component, or else when it returns
/// to one.
///
/// # Safety
/// `context` is what a handler for `SA_SIGINFO` was given, in the thread that has the slot.
#[cfg(target_arch = "x86_64")]
unsafe fn divert(context: *mut libc::ucontext_t, slot: &Slot, code: &Code) {
    // SAFETY: as the caller says.
    let (registers, others) = unsafe { (&mut (*context).uc_mcontext.gregs, (*context).uc_stack) };
    let next = &mut registers[libc::REG_RIP as usize];
    if code.has(*next as usize) {
        *next = code.trap() as libc::greg_t;
        return;
    }
    let top = registers[libc::REG_RSP as usize] as usize;
    let below = slot.below.load(Ordering::SeqCst);
    // Handlers have a stack of their own, and one may have been interrupted.
    let of_handlers = others.ss_sp.addr()..others.ss_sp.addr() + others.ss_size;
    if of_handlers.contains(&top) || below < top {
        return;
    }
    for place in (top.next_multiple_of(size_of::<usize>())..below).step_by(size_of::<usize>()) {
        let place: *mut usize = ptr::with_exposed_provenance_mut(place);
        // SAFETY: it is on the stack of this thread, between where that is now and a frame that is still there.
        unsafe {
            if code.returns_to(place.read_volatile()) {
                place.write_volatile(code.trap());
            }
        }
    }
}

/// No code is stopped so on other machines: see [`Code::of`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn divert(_: *mut libc::ucontext_t, _: &Slot, _: &Code) {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Linker;
    use wasmtime::{Engine, Store, Trap};

    use super::*;

    fn engine() -> Engine {
        begin().unwrap();
        Engine::default()
    }

    /// A component whose function `f` does `body`, with what it needs to do it.
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

    /// How a call of `f` ends, and whether it was overdue.
    fn call(
        engine: &Engine,
        (component, code): &(wasmtime::component::Component, Code),
        limit: Duration,
    ) -> (wasmtime::Result<u32>, bool) {
        let mut store = Store::new(engine, ());
        let instance = Linker::new(engine).instantiate(&mut store, component).unwrap();
        let function = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "f").unwrap();
        let (returned, is_overdue) = within(limit, code, || function.call(&mut store, (3,)));
        (returned.map(|(value,)| value), is_overdue)
    }

    /// Loops that never end, and what takes as good as for ever without one.
    const ENDLESS: [&str; 10] = [
        "(loop (br 0))",
        "(loop (local.set 1 (i32.add (local.get 1) (i32.const 1))) (br 0))",
        "(loop (global.set $turns (i64.add (global.get $turns) (i64.const 1))) (br 0))",
        "(loop (i32.store (i32.const 64) (i32.load (i32.const 128))) (br 0))",
        "(loop (local.set 1 (call $twice (local.get 1))) (br 0))",
        "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br 0))",
        // Nearly all of the time is the host's.
        "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 67108864)) (br 0))",
        "(loop (drop (memory.grow (i32.const 0))) (br 0))",
        "(local.set 1 (call $deep (i32.const 60)))",
        // Far down the stack, in the host.
        "(call $down (i32.const 5000))",
    ];

    #[test]
    fn what_does_not_end_is_stopped_wherever_it_is() {
        let engine = engine();
        for body in ENDLESS {
            let component = component(&engine, body);
            for round in 0..20 {
                // So short that some are stopped before they are in the loop.
                let limit = Duration::from_micros(round * 500);
                let (returned, is_overdue) = call(&engine, &component, limit);
                let error = returned.expect_err(body);
                assert!(error.downcast_ref::<Trap>().is_some(), "{body}: {error:?}");
                assert!(is_overdue, "{body}");
            }
        }
    }

    #[test]
    fn what_keeps_its_deadline_gets_its_answer_while_others_are_stopped() {
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
                        // In the thread in which one was just stopped, too.
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
    fn a_thread_that_keeps_signals_back_is_stopped_as_well() {
        let engine = engine();
        let endless = component(&engine, ENDLESS[0]);
        let blocked = || {
            // SAFETY: all signals, for this thread alone.
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
    fn a_limit_beyond_all_time_is_none() {
        let engine = engine();
        let component = component(&engine, "(local.set 1 (local.get 0))");
        assert_eq!(call(&engine, &component, Duration::MAX).0.unwrap(), 3);
    }
}

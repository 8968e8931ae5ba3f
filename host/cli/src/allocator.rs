//! The allocator of the program. It gives memory back when the program is idle.
//!
//! mimalloc keeps freed memory for reuse, because batches of several megabytes are allocated and freed all the time.
//! Each thread has a heap of its own, and only the thread itself can return the heap's free pages. A thread that sleeps
//! after a burst would keep them for ever. So the program counts its idle periods, and each thread returns its free pages
//! when it first frees memory in a new one.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mimalloc::MiMalloc;

unsafe extern "C" {
    /// Returns the free pages of the calling thread's heap to the system. Part of the crate `mimalloc`.
    fn mi_collect(force: bool);
}

/// mimalloc, with heaps that shrink when the program is idle.
#[derive(Debug)]
pub struct Allocator;

/// The number of idle periods so far.
static IDLE_PERIODS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The idle periods in which this thread has returned its free pages. It has no destructor, so that it can be used
    /// at any time.
    static COLLECTED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: mimalloc is a valid allocator, and all calls are passed on to it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { MiMalloc.dealloc(pointer, layout) };
        shrink_heap();
    }
}

/// Returns the free pages of this thread's heap, once per idle period. Threads that rarely free memory call it before they
/// sleep.
pub fn shrink_heap() {
    let periods = IDLE_PERIODS.load(Ordering::Relaxed);
    if COLLECTED.get() != periods {
        COLLECTED.set(periods);
        // SAFETY: may be called at any time.
        unsafe { mi_collect(true) };
    }
}

/// Interval at which the program checks that it is idle.
const INTERVAL: Duration = Duration::from_secs(15);

/// The program is idle if it uses less than one part in this many of a CPU.
const IDLE_SHARE: u32 = 20;

/// Number of times that heaps shrink in an idle period. In between, other threads free memory of a heap.
const SHRINKS: u32 = 2;

/// Returns free memory to the system whenever the program becomes idle. For programs that run for long.
pub fn shrink_when_idle() {
    let watch = || {
        let (mut used, mut idle_intervals) = (cpu_time(), 0_u32);
        loop {
            thread::sleep(INTERVAL);
            let now = cpu_time();
            let is_idle = now.saturating_sub(used) < INTERVAL / IDLE_SHARE;
            used = now;
            idle_intervals = if is_idle { idle_intervals + 1 } else { 0 };
            if (1..=SHRINKS).contains(&idle_intervals) {
                IDLE_PERIODS.fetch_add(1, Ordering::Relaxed);
                trim_c_heap();
            }
        }
    };
    // Without the thread, the program only needs more memory.
    if let Err(error) = thread::Builder::new().name("idle".into()).spawn(watch) {
        tracing::warn!(%error, "memory is not returned when the program is idle");
    }
}

/// Returns the free pages of the C library's heaps, which SQLite uses.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim_c_heap() {
    // SAFETY: may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_c_heap() {}

/// Returns the CPU time of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the valid timespec only.
    match unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

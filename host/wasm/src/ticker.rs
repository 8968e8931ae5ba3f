//! A thread that ticks while calls run, and sleeps otherwise.
//!
//! Deadlines need a clock that interrupts running code. An idle process must not wake up for it: the thread parks
//! when no call has run for a while, and the next call wakes it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Interval of ticks.
pub const TICK: Duration = Duration::from_millis(10);

/// Number of ticks without a call after which the thread parks.
const IDLE_TICKS: u32 = 50;

/// A listener. It returns false when it has nothing more to do.
type Listener = Box<dyn Fn() -> bool + Send>;

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static IS_PARKED: AtomicBool = AtomicBool::new(false);
static TICKS: AtomicU64 = AtomicU64::new(0);
static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(vec![]);
static THREAD: OnceLock<Thread> = OnceLock::new();

/// Calls `listener` at each tick until it returns false. Starts the thread if needed.
///
/// # Errors
/// If the operating system refuses the thread.
pub fn listen(listener: impl Fn() -> bool + Send + 'static) -> io::Result<()> {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    if THREAD.get().is_none() {
        let thread = thread::Builder::new().name("ticks".into()).spawn(run)?;
        // Set only here, under the lock.
        let _ = THREAD.set(thread.thread().clone());
    }
    listeners.push(Box::new(listener));
    Ok(())
}

/// Returns the number of ticks so far. While the process is stopped or starved of CPU time, it hardly grows.
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// Keeps the thread ticking as long as it exists.
#[derive(Debug)]
pub struct Running(());

impl Running {
    /// Begins a call.
    pub fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        // The thread sets the flag before it reads the counter, so one of the two sees the other.
        if IS_PARKED.load(Ordering::SeqCst)
            && let Some(thread) = THREAD.get()
        {
            thread.unpark();
        }
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run() {
    let mut idle_ticks = 0;
    loop {
        thread::sleep(TICK);
        TICKS.fetch_add(1, Ordering::Relaxed);
        LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener| listener());
        let is_idle = RUNNING.load(Ordering::SeqCst) == 0;
        idle_ticks = if is_idle { idle_ticks + 1 } else { 0 };
        if idle_ticks > IDLE_TICKS {
            park();
            idle_ticks = 0;
        }
    }
}

/// Sleeps until a call runs.
fn park() {
    IS_PARKED.store(true, Ordering::SeqCst);
    while RUNNING.load(Ordering::SeqCst) == 0 {
        thread::park();
    }
    IS_PARKED.store(false, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_until(condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain");
            thread::sleep(TICK);
        }
    }

    /// One test, because the ticker is one per process.
    #[test]
    fn ticks_only_while_calls_run() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        listen(|| {
            HEARD.fetch_add(1, Ordering::SeqCst);
            true
        })
        .unwrap();
        for _ in 0..3 {
            let running = Running::begin();
            let heard = HEARD.load(Ordering::SeqCst);
            wait_until(|| HEARD.load(Ordering::SeqCst) > heard + 5);
            drop(running);
            wait_until(|| IS_PARKED.load(Ordering::SeqCst));
            let (ticks, heard) = (ticks(), HEARD.load(Ordering::SeqCst));
            thread::sleep(TICK * 10);
            assert_eq!((super::ticks(), HEARD.load(Ordering::SeqCst)), (ticks, heard), "it sleeps");
        }
    }
}

//! Waits for what another thread does.

use std::time::{Duration, Instant};

/// Waits until `done` returns true. Panics after 30 seconds.
pub(crate) fn wait(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "timed out");
        std::thread::sleep(Duration::from_millis(20));
    }
}

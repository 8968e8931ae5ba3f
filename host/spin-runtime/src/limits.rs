//! Limits of calls, and of the reuse of instances.

use std::time::Duration;

/// Resource limits of a call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Linear memory of each part of an instance, in bytes.
    pub memory: usize,
    /// Timeout of a call, including time in the queue.
    pub timeout: Duration,
    /// The reuse of instances.
    pub reuse: Reuse,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, timeout: Duration::from_secs(60), reuse: Reuse::default() }
    }
}

/// Limits of the reuse of instances for HTTP calls. The defaults are Spin's.
#[derive(Debug, Clone, Copy)]
pub struct Reuse {
    /// Maximum number of calls of an instance.
    pub calls: usize,
    /// Maximum number of concurrent calls of an instance. A call takes a neighbor only while it waits for I/O.
    pub concurrent_calls: usize,
    /// Time until an idle instance is dropped.
    pub idle_timeout: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { calls: 128, concurrent_calls: 16, idle_timeout: Duration::from_secs(1) }
    }
}

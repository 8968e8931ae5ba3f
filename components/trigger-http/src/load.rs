//! The load of an instance. A host such as Spin gives an instance several calls at a time, which share its memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use spin_sdk::wit_bindgen::{backpressure_dec, backpressure_inc};

/// The size of the calls in progress from which the instance takes no further call. A call needs about five times the
/// size of its logs, and an instance has at most 4 GiB.
const MAX_BYTES: usize = 64 << 20;

/// The size of the calls in progress.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The share of a call in the load of its instance, until it is dropped.
pub(crate) struct Load(usize);

impl Load {
    /// Adds a call whose logs have this size in bytes. The host gives further calls to other instances if this is too
    /// much.
    pub(crate) fn add(bytes: usize) -> Self {
        let before = BYTES.fetch_add(bytes, Ordering::Relaxed);
        if before < MAX_BYTES && before + bytes >= MAX_BYTES {
            backpressure_inc();
        }
        Self(bytes)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let before = BYTES.fetch_sub(self.0, Ordering::Relaxed);
        if before >= MAX_BYTES && before - self.0 < MAX_BYTES {
            backpressure_dec();
        }
    }
}

//! The load of an instance. A host such as Spin gives an instance several calls at a time, which share its memory, and
//! which a trap ends all.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use logship_trigger::problem::Problem;
use logship_trigger::rule::optional;
use spin_sdk::wit_bindgen::{backpressure_dec, backpressure_inc};

/// The size of the calls in progress from which the instance takes no further call. A call needs about five times the
/// size of its logs, and an instance has at most 4 GiB.
const MAX_BYTES: usize = 64 << 20;

/// The size of the calls in progress.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The least load of a call. Until the function's variable is known, a call has its instance for itself.
static LEAST: AtomicUsize = AtomicUsize::new(MAX_BYTES);

/// True if the function's variable is known.
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// The share of a call in the load of its instance, until it is dropped.
pub(crate) struct Load(usize);

impl Load {
    /// Adds a call whose logs have this size in bytes. The host gives further calls to other instances if this is too
    /// much.
    pub(crate) fn add(bytes: usize) -> Self {
        let bytes = bytes.max(LEAST.load(Ordering::Relaxed));
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

/// Reads the variable `concurrency` once in an instance: the most calls that it takes at a time.
pub(crate) async fn read_concurrency() -> Result<(), Problem> {
    if IS_KNOWN.load(Ordering::Relaxed) {
        return Ok(());
    }
    let value = optional("concurrency").await?.filter(|value| !value.is_empty());
    let least = match value.as_deref().map(str::parse::<NonZeroUsize>) {
        None => 0,
        Some(Ok(calls)) => MAX_BYTES.div_ceil(calls.get()),
        Some(Err(_)) => {
            let value = value.unwrap_or_default();
            let problem = "use a number of calls from 1, or leave it empty";
            return Err(Problem::settings(format!("the variable concurrency is {value:?}: {problem}")));
        }
    };
    LEAST.store(least, Ordering::Relaxed);
    IS_KNOWN.store(true, Ordering::Relaxed);
    Ok(())
}

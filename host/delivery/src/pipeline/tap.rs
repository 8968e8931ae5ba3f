//! Copies of the bytes that a pipeline encodes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest number of bytes that a tap buffers.
const MAX_TAP_BYTES: usize = 8 << 20;

/// Captures the uncompressed output of a pipeline. Clones share the buffer.
#[derive(Debug, Clone, Default)]
pub struct Tap(Arc<Mutex<Tapped>>);

#[derive(Debug, Default)]
struct Tapped {
    bytes: Vec<u8>,
    /// True if bytes were dropped because the buffer was full.
    is_truncated: bool,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Tapped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds output bytes.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut tapped = self.lock();
        if tapped.bytes.len() + bytes.len() > MAX_TAP_BYTES {
            tapped.is_truncated = true;
        } else {
            tapped.bytes.extend_from_slice(bytes);
        }
    }

    /// Takes the buffered bytes. Also returns true if bytes were dropped because the buffer was full.
    pub(crate) fn take(&self) -> (Vec<u8>, bool) {
        let Tapped { bytes, is_truncated } = std::mem::take(&mut *self.lock());
        (bytes, is_truncated)
    }
}

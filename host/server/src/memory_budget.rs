//! Memory budgets that requests share. A request that needs more memory than is free waits. After a timeout, it fails with
//! "try again".
//!
//! Each step of a request has its own budget: received bodies, decompressed bodies, replies. Requests reserve memory in
//! this order only, so they never deadlock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logship_sls::error::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of a budget: 1 KiB. A semaphore can't count single bytes up to 4 GiB.
const UNIT: usize = 1 << 10;

/// A limit for the memory of one step of all requests.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    units: Arc<Semaphore>,
    total: usize,
    timeout: Duration,
}

impl MemoryBudget {
    pub(crate) fn new(bytes: usize, timeout: Duration) -> Self {
        let total = bytes / UNIT;
        Self { units: Arc::new(Semaphore::new(total)), total, timeout }
    }

    /// Reserves memory. Waits until it is free, up to the timeout. Reserves the whole budget if `bytes` exceeds it.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation, ApiError> {
        let units = (bytes / UNIT + 1).min(self.total) as u32;
        let permits = Arc::clone(&self.units).acquire_many_owned(units);
        let busy = || ApiError::new(ErrorCode::ServerBusy, "too many concurrent requests: try again later");
        let permits = tokio::time::timeout(self.timeout, permits).await.map_err(|_| busy())?;
        permits.map(Reservation).map_err(|_| busy())
    }
}

/// Reserved memory. Dropping it frees the memory.
#[derive(Debug)]
pub(crate) struct Reservation(OwnedSemaphorePermit);

impl Reservation {
    /// Shrinks the reservation to the size of `bytes`, and frees it when the bytes are dropped.
    pub(crate) fn attach_to(mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        let needed = bytes.as_ref().len() / UNIT + 1;
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
        Bytes::from_owner(ReservedBytes { bytes, _reservation: self })
    }
}

struct ReservedBytes<T> {
    bytes: T,
    _reservation: Reservation,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for ReservedBytes<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frees_memory_when_bytes_are_dropped() {
        let budget = MemoryBudget::new(100 * UNIT, Duration::from_millis(10));
        let bytes = budget.reserve(90 * UNIT).await.unwrap().attach_to(vec![0; 40 * UNIT]);
        assert_eq!(budget.reserve(70 * UNIT).await.unwrap_err().code, ErrorCode::ServerBusy);
        let other = budget.reserve(50 * UNIT).await.unwrap();
        drop(other);
        drop(bytes.slice(1..2));
        assert!(budget.reserve(70 * UNIT).await.is_err(), "the bytes still exist");
        drop(bytes);
        budget.reserve(1000 * UNIT).await.expect("the whole budget");
    }
}

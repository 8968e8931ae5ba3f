//! The memory of decompressed bodies, which all requests share. A request that needs more memory than is free waits. After
//! a timeout, it fails with "try again". No client can hold it for long.
//!
//! Each step of a request has its own budget: received bodies, decompressed bodies, replies. Requests reserve memory in
//! this order only, so they never deadlock.

use std::sync::Arc;
use std::time::Duration;

use logship_sls::error::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of a budget: 1 KiB. A semaphore can't count single bytes up to 4 GiB.
const UNIT: usize = 1 << 10;

use crate::fair_budget::busy;

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
        let permits = tokio::time::timeout(self.timeout, permits).await.map_err(|_| busy())?;
        permits.map(|permits| Reservation { _permits: permits }).map_err(|_| busy())
    }
}

/// Reserved memory. Dropping it frees the memory.
#[derive(Debug)]
pub(crate) struct Reservation {
    _permits: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use logship_sls::error::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn waits_for_free_memory() {
        let budget = MemoryBudget::new(100 * UNIT, Duration::from_millis(10));
        let reservation = budget.reserve(50 * UNIT).await.unwrap();
        assert_eq!(budget.reserve(60 * UNIT).await.unwrap_err().code, ErrorCode::ServerBusy);
        drop(reservation);
        budget.reserve(1000 * UNIT).await.expect("the whole budget");
    }
}

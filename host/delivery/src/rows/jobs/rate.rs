//! The largest rate of a run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Spreads bytes over time: all shards of a run share it.
#[derive(Debug)]
pub(super) struct RateLimit {
    bytes_per_second: Option<u64>,
    /// The time at which the bytes so far have passed.
    next: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, next: Mutex::default() }
    }

    /// Waits until `bytes` more may pass.
    pub(super) async fn pass(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.unwrap_or(now).max(now);
            *next = Some(turn + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_pass_at_the_rate() {
        let (limit, begun) = (RateLimit::new(Some(10_000_000)), Instant::now());
        for _ in 0..5 {
            limit.pass(500_000).await;
        }
        // The first bytes pass at once.
        assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
        RateLimit::new(None).pass(u64::MAX).await;
    }
}

//! Memory that clients hold for as long as they send or receive: bodies and replies.
//!
//! A request takes memory as its bytes arrive, not as it declares them. A key holds at most half of the memory, and a
//! project three quarters. When memory is short, a request waits. Slow clients then lose theirs to those that wait. One
//! request at a time may exceed the shares, so that requests always progress. Small requests have an eighth of the memory
//! for themselves, so that they don't wait for large ones.
//!
//! - `shares`: who holds how much; `pace`: the speed of a client.

mod pace;
mod shares;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use logship_sls::error::{ApiError, ErrorCode};
use tokio::sync::Notify;

pub(crate) use shares::Owner;
use shares::Shares;

/// The interval at which a waiting request looks for slow clients.
const RECHECK_INTERVAL: Duration = Duration::from_millis(250);

/// A limit for the memory of one step of all requests.
#[derive(Debug)]
pub(crate) struct FairBudget {
    shares: Mutex<Shares>,
    freed: Notify,
    timeout: Duration,
}

impl FairBudget {
    /// Creates a budget. `largest` is the most memory of a request.
    pub(crate) fn new(bytes: usize, largest: usize, timeout: Duration) -> Arc<Self> {
        // One request may exceed the shares.
        let shares = Mutex::new(Shares::new(bytes.saturating_sub(largest)));
        Arc::new(Self { shares, freed: Notify::new(), timeout })
    }

    /// Begins a request without memory. `evicted` is notified when it loses its memory.
    pub(crate) fn begin(self: &Arc<Self>, owner: Owner, evicted: Arc<Notify>) -> Holding {
        let number = self.shares().add(owner, evicted);
        Holding(Transfer { budget: Arc::clone(self), number })
    }

    /// The memory in use, in bytes, and the number of requests that lost theirs.
    pub(crate) fn usage(&self) -> (usize, u64) {
        let shares = self.shares();
        (shares.used(), shares.evictions())
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of a request. Dropping it frees the memory.
#[derive(Debug)]
pub(crate) struct Holding(Transfer);

/// The client's part of a request: it sends or receives.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    budget: Arc<FairBudget>,
    number: u64,
}

impl Transfer {
    /// Notes that the transfer begins: from now on, the client's speed counts.
    pub(crate) fn begin(&self) {
        self.budget.shares().begin_transfer(self.number, Instant::now());
    }

    /// Notes that the client sent or received so many bytes.
    pub(crate) fn progress(&self, bytes: usize) {
        self.budget.shares().progress(self.number, bytes, Instant::now());
    }

    /// Notes that the transfer ended. Keeps this much memory.
    fn end(&self, bytes: usize) {
        self.budget.shares().end_transfer(self.number, bytes);
        self.budget.freed.notify_waiters();
    }
}

impl Holding {
    /// Takes more memory. Waits until it is free, up to the timeout.
    pub(crate) async fn grow(&self, bytes: usize) -> Result<(), ApiError> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        let Transfer { budget, number } = &self.0;
        let deadline = Instant::now() + budget.timeout;
        budget.shares().pause(*number, true);
        let granted = loop {
            let freed = budget.freed.notified();
            if self.try_grow(bytes) || budget.shares().evict_for(*number, bytes, Instant::now()) {
                break true;
            }
            if Instant::now() >= deadline {
                break false;
            }
            let _ = tokio::time::timeout(RECHECK_INTERVAL, freed).await;
        };
        budget.shares().pause(*number, false);
        if granted { Ok(()) } else { Err(busy()) }
    }

    /// Takes more memory if it is free.
    pub(crate) fn try_grow(&self, bytes: usize) -> bool {
        self.0.budget.shares().grow(self.0.number, bytes)
    }

    /// Returns the client's part.
    pub(crate) fn transfer(&self) -> &Transfer {
        &self.0
    }

    /// Keeps the memory for as long as `bytes` exist. Ends a transfer.
    pub(crate) fn attach_to(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        self.0.end(bytes.as_ref().len());
        Bytes::from_owner(HeldBytes { bytes, _holding: self })
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.budget.shares().remove(self.0.number);
        self.0.budget.freed.notify_waiters();
    }
}

struct HeldBytes<T> {
    bytes: T,
    _holding: Holding,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for HeldBytes<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// The error of a request that found no memory.
pub(crate) fn busy() -> ApiError {
    ApiError::new(ErrorCode::ServerBusy, "too many concurrent requests: try again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn owner(key: &str) -> Owner {
        Owner { key: key.into(), project: key.into() }
    }

    fn budget() -> Arc<FairBudget> {
        FairBudget::new(110 * KIB, 10 * KIB, Duration::from_millis(600))
    }

    #[tokio::test]
    async fn frees_memory_when_bytes_are_dropped() {
        let budget = budget();
        let holding = budget.begin(owner("a"), Arc::default());
        holding.grow(45 * KIB).await.unwrap();
        let bytes = holding.attach_to(vec![0; 40 * KIB]);
        assert_eq!(budget.usage().0, 40 * KIB);
        drop(bytes.slice(1..2));
        assert_eq!(budget.usage().0, 40 * KIB, "the bytes still exist");
        drop(bytes);
        assert_eq!(budget.usage(), (0, 0));
    }

    #[tokio::test]
    async fn waits_for_memory_up_to_the_timeout() {
        let budget = budget();
        // The first that exceeds the share of the key may do so; the second may not.
        let holdings = [budget.begin(owner("a"), Arc::default()), budget.begin(owner("a"), Arc::default())];
        holdings[0].grow(60 * KIB).await.unwrap();
        assert_eq!(holdings[1].grow(40 * KIB).await.unwrap_err().code, ErrorCode::ServerBusy);
        let other = budget.begin(owner("b"), Arc::default());
        other.grow(20 * KIB).await.expect("another key has its own share");
        let [first, second] = holdings;
        let waiting = tokio::spawn(async move { second.grow(40 * KIB).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(first);
        waiting.await.unwrap().expect("the memory is free");
    }

    #[tokio::test]
    async fn slow_client_loses_its_memory_to_one_that_waits() {
        let budget = FairBudget::new(110 * KIB, 10 * KIB, Duration::from_secs(10));
        let evicted = Arc::new(Notify::new());
        let slow = [budget.begin(owner("a"), Arc::clone(&evicted)), budget.begin(owner("a"), Arc::default())];
        slow[0].transfer().begin();
        slow[1].transfer().begin();
        slow[0].grow(49 * KIB).await.unwrap();
        slow[1].grow(10 * KIB).await.unwrap();
        let next = budget.begin(owner("a"), Arc::default());
        next.transfer().begin();
        next.grow(10 * KIB).await.unwrap();
        evicted.notified().await;
        assert_eq!(budget.usage().1, 1);
        assert!(!slow[0].try_grow(1), "an evicted request takes no more memory");
    }
}

//! Memory that requests share: who needs more than is free waits, and is told to come again if it takes too long.
//!
//! There is a room for each step of a request (bodies as they come, bodies unpacked, replies), and a request takes
//! them in that order only. So whoever waits waits for somebody who goes on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logship_sls::error::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: KiB, for a semaphore counts no further than some thousand millions.
const UNIT: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    all: usize,
    patience: Duration,
}

impl Room {
    pub(crate) fn new(bytes: usize, patience: Duration) -> Self {
        let all = bytes / UNIT;
        Self { units: Arc::new(Semaphore::new(all)), all, patience }
    }

    /// Takes room for so many bytes.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Taken, ApiError> {
        let units = (bytes / UNIT + 1).min(self.all) as u32;
        let taken = Arc::clone(&self.units).acquire_many_owned(units);
        let busy = || ApiError::new(ErrorCode::ServerBusy, "too many requests at one time: try again");
        let taken = tokio::time::timeout(self.patience, taken).await.map_err(|_| busy())?;
        taken.map(Taken).map_err(|_| busy())
    }
}

/// Room that was taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken(OwnedSemaphorePermit);

impl Taken {
    /// Keeps no more than what `bytes` need, and that as long as they are there.
    pub(crate) fn hold(mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        let needed = bytes.as_ref().len() / UNIT + 1;
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

struct Held<T> {
    bytes: T,
    _room: Taken,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_free_again_when_the_bytes_are_gone() {
        let room = Room::new(100 * UNIT, Duration::from_millis(10));
        let held = room.take(90 * UNIT).await.unwrap().hold(vec![0; 40 * UNIT]);
        assert_eq!(room.take(70 * UNIT).await.unwrap_err().code, ErrorCode::ServerBusy);
        let other = room.take(50 * UNIT).await.unwrap();
        drop(other);
        drop(held.slice(1..2));
        assert!(room.take(70 * UNIT).await.is_err(), "the bytes are still there");
        drop(held);
        room.take(1000 * UNIT).await.expect("all there is");
    }
}

//! The state that all rules of a destination share: the same instances of functions run their calls.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use logship_source::group_list::ListLimits;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::executor::stalls::Stalls;

/// The functions of a destination.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Held shared by each call, and exclusively by a call that must be alone.
    turn: RwLock<()>,
    limits: Mutex<Option<KnownLimits>>,
    pub(super) stalls: Stalls,
}

/// The limits of calls, as the function described them.
#[derive(Debug, Clone, Copy)]
struct KnownLimits {
    limits: Option<ListLimits>,
    since: Instant,
}

/// The time after which the function is asked for its limits again.
const LIMITS_LIFETIME: Duration = Duration::from_secs(600);

/// The time after which a function that did not describe its limits is asked again.
const RETRY_LIMITS: Duration = Duration::from_secs(60);

/// A call's permission to run.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// Beside other calls.
    Shared { _guard: RwLockReadGuard<'a, ()> },
    /// Alone.
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl Fleet {
    /// Waits until a call may run: beside others, or alone after the calls in progress.
    pub(super) async fn turn(&self, alone: bool) -> Turn<'_> {
        if alone {
            Turn::Alone { _guard: self.turn.write().await }
        } else {
            Turn::Shared { _guard: self.turn.read().await }
        }
    }

    /// Saves the limits in a description, `None` if it has none.
    pub(super) fn save_limits(&self, limits: Option<ListLimits>) {
        let known = KnownLimits { limits, since: Instant::now() };
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Returns the limits of calls, if the function described them.
    pub(super) fn limits(&self) -> Option<ListLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).and_then(|known| known.limits)
    }

    /// Returns true if the function should be asked for its limits.
    pub(super) fn needs_limits(&self) -> bool {
        let known = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_none_or(|KnownLimits { limits, since }| {
            since.elapsed() > if limits.is_some() { LIMITS_LIFETIME } else { RETRY_LIMITS }
        })
    }
}

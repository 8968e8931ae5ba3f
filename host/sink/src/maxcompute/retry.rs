//! The delays between attempts of a request. Pure functions without a clock.

use std::time::Duration;

use super::error::{Class, MaxComputeError};

/// Attempts after a failed one, if the server has an internal error.
const MAX_RETRIES: u32 = 7;

/// The delays of a request: 1, 2, 4 up to 64 seconds.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Number of internal errors.
    failed: u32,
    /// Number of refusals for lack of quota, since the last internal error.
    refused: u32,
}

impl Retries {
    /// Returns the delay before the next attempt; `None` if the request has failed.
    pub(super) fn next(&mut self, error: &MaxComputeError) -> Option<Duration> {
        match error.class() {
            Class::Wait => {
                self.refused += 1;
                Some(error.retry_delay.unwrap_or_else(|| delay(self.refused)))
            }
            Class::Retry if self.failed < MAX_RETRIES => {
                (self.failed, self.refused) = (self.failed + 1, 0);
                Some(error.retry_delay.unwrap_or_else(|| delay(self.failed)))
            }
            _ => None,
        }
    }
}

/// The delay after a number of failures.
fn delay(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(status: u16, most: usize) -> Vec<u64> {
        let error = MaxComputeError::answer("put", status, None, b"");
        let mut retries = Retries::default();
        std::iter::from_fn(|| retries.next(&error)).map(|delay| delay.as_secs()).take(most).collect()
    }

    #[test]
    fn internal_errors_are_retried_seven_times_and_quota_without_end() {
        assert_eq!(delays(500, 100), [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(delays(504, 100).len(), 7);
        assert_eq!(delays(429, 9), [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(delays(308, 50).len(), 50);
        assert!(delays(400, 9).is_empty() && delays(404, 9).is_empty() && delays(403, 9).is_empty());
    }
}

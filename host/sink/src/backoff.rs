//! Retry delays.

use std::time::Duration;

/// Exponential retry delays with jitter.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempts: u32,
}

const INITIAL_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(30);

impl Backoff {
    /// Returns the next delay.
    pub fn next_delay(&mut self) -> Duration {
        let wait = MAX_DELAY.min(INITIAL_DELAY.saturating_mul(1 << self.attempts.min(16)));
        self.attempts += 1;
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Number of failed attempts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_half_a_minute() {
        let mut backoff = Backoff::default();
        for most in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let most = Duration::from_millis(most);
            let wait = backoff.next_delay();
            assert!(wait <= most && wait >= most / 2, "{wait:?} of {most:?}");
        }
        assert_eq!(backoff.attempts(), 9);
    }
}

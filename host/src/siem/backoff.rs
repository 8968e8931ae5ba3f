use std::time::Duration;

/// How long to wait before something that failed is tried again: twice as long each time, and never the same for all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

impl Backoff {
    /// How long to wait this time.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = LONGEST.min(FIRST.saturating_mul(1 << self.tries.min(16)));
        self.tries += 1;
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// How often it failed.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute() {
        let mut backoff = Backoff::default();
        for most in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let most = Duration::from_millis(most);
            let wait = backoff.next();
            assert!(wait <= most && wait >= most / 2, "{wait:?} of {most:?}");
        }
        assert_eq!(backoff.tries(), 9);
    }
}

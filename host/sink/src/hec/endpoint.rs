use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::backoff::Backoff;
use crate::receiver::{Health, ReceiverError};

/// Largest retry delay that a receiver may ask for.
pub(super) const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

pub(super) struct Endpoint {
    pub(super) events: Url,
    pub(super) acknowledgements: Url,
    pub(super) retry: Mutex<RetryState>,
    /// True if the token has indexer acknowledgement, as an earlier request showed.
    pub(super) has_acks: AtomicBool,
}

/// The retry state of an endpoint.
#[derive(Default)]
pub(super) struct RetryState {
    pub(super) backoff: Backoff,
    pub(super) until: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, ReceiverError> {
        let wrong = |problem: &str| ReceiverError::setting("urls", format!("{url:?} {problem}"));
        let parsed =
            Url::parse(url).map_err(|_| wrong("is not a URL such as https://splunk.example.org:8088"))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(wrong("must begin with http:// or https://"));
        }
        let at = |path: &str| {
            let mut url = parsed.clone();
            url.set_path(&format!("{}{path}", parsed.path().trim_end_matches('/')));
            url
        };
        if parsed.path().contains("/services/collector") {
            return Err(wrong("has a path: remove /services/collector and everything after it"));
        }
        Ok(Self {
            events: at("/services/collector/event"),
            acknowledgements: at("/services/collector/ack"),
            retry: Mutex::default(),
            has_acks: AtomicBool::new(false),
        })
    }

    pub(super) fn retry_state(&self) -> MutexGuard<'_, RetryState> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.retry_state().until
    }

    pub(super) fn report_failure(&self, health: &Health, problem: &str, retry_after: Option<Duration>) {
        let wait = self.record_failure(retry_after);
        health.record_failure(format!("{}: {problem}", self.events.origin().ascii_serialization()), wait);
    }

    pub(super) fn record_success(&self) {
        // `until` stays, in case a concurrent request was asked to back off.
        self.retry_state().backoff = Backoff::default();
    }

    /// Backs off: as long as the receiver asks for, or exponentially. Returns the delay.
    pub(super) fn record_failure(&self, retry_after: Option<Duration>) -> Duration {
        let (mut retry, now) = (self.retry_state(), Instant::now());
        if let Some(until) = retry.until.filter(|until| *until > now) {
            // Concurrent requests that fail together count once.
            return until - now;
        }
        let wait = retry_after.unwrap_or_default().min(MAX_RETRY_DELAY).max(retry.backoff.next());
        retry.until = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_honours_retry_after_and_counts_concurrent_failures_once() {
        let endpoint = Endpoint::new("http://h:1/below/").unwrap();
        assert_eq!(endpoint.events.as_str(), "http://h:1/below/services/collector/event");
        let wait = endpoint.record_failure(Some(Duration::from_secs(7)));
        assert_eq!(wait, Duration::from_secs(7));
        assert!(endpoint.record_failure(None) <= wait && endpoint.retry_state().backoff.attempts() == 1);
        endpoint.record_success();
        assert!(
            endpoint.retry_state().backoff.attempts() == 0 && endpoint.next_attempt() > Some(Instant::now())
        );
        endpoint.retry_state().until = None;
        assert_eq!(endpoint.record_failure(Some(Duration::from_secs(9999))), MAX_RETRY_DELAY);
    }
}

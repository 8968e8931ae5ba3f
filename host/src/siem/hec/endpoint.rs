use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::siem::backoff::Backoff;
use crate::siem::receiver::{Health, ReceiverError};

/// The longest that a receiver may ask to be left alone.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(300);

pub(super) struct Endpoint {
    pub(super) events: Url,
    pub(super) acknowledgements: Url,
    pub(super) rest: Mutex<Rest>,
    /// Whether its token was seen to have acknowledgements, if they are wanted.
    pub(super) acknowledges: AtomicBool,
}

/// When an endpoint is tried again.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) backoff: Backoff,
    pub(super) until: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, ReceiverError> {
        let wrong = |problem: &str| ReceiverError::setting("urls", format!("{url:?} {problem}"));
        let parsed =
            Url::parse(url).map_err(|_| wrong("is no URL; as in https://splunk.example.org:8088"))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(wrong("begins with neither http:// nor https://"));
        }
        let at = |path: &str| {
            let mut url = parsed.clone();
            url.set_path(&format!("{}{path}", parsed.path().trim_end_matches('/')));
            url
        };
        if parsed.path().contains("/services/collector") {
            return Err(wrong("has a path: leave out /services/collector and what is behind it"));
        }
        Ok(Self {
            events: at("/services/collector/event"),
            acknowledgements: at("/services/collector/ack"),
            rest: Mutex::default(),
            acknowledges: AtomicBool::new(false),
        })
    }

    pub(super) fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rest().until
    }

    pub(super) fn failed(&self, health: &Health, problem: &str, rest: Option<Duration>) {
        let wait = self.fails(rest);
        health.fails(format!("{}: {problem}", self.events.origin().ascii_serialization()), wait);
    }

    pub(super) fn works(&self) {
        // If it asked meanwhile to be left alone, that holds.
        self.rest().backoff = Backoff::default();
    }

    /// Lets it rest: as long as it asks for, or longer each time. Returns for how long.
    pub(super) fn fails(&self, asked: Option<Duration>) -> Duration {
        let (mut rest, now) = (self.rest(), Instant::now());
        if let Some(until) = rest.until.filter(|until| *until > now) {
            // Others, which were sent at the same time, failed as well.
            return until - now;
        }
        let wait = asked.unwrap_or_default().min(LONGEST_REST).max(rest.backoff.next());
        rest.until = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_rests_as_long_as_it_asks_for_and_once_for_all_that_failed() {
        let endpoint = Endpoint::new("http://h:1/below/").unwrap();
        assert_eq!(endpoint.events.as_str(), "http://h:1/below/services/collector/event");
        let wait = endpoint.fails(Some(Duration::from_secs(7)));
        assert_eq!(wait, Duration::from_secs(7));
        assert!(endpoint.fails(None) <= wait && endpoint.rest().backoff.tries() == 1);
        endpoint.works();
        assert!(endpoint.rest().backoff.tries() == 0 && endpoint.rests_until() > Some(Instant::now()));
        endpoint.rest().until = None;
        assert_eq!(endpoint.fails(Some(Duration::from_secs(9999))), LONGEST_REST);
    }
}

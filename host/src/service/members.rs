//! What members of consumer groups tell of themselves. `logship consume` says in a header of its heartbeats and its
//! checkpoints how much it has sent; it is kept in memory, for who looks at the group. Members of other programs tell
//! nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::siem::Sent;

/// The header that says what a member has sent since it began: a JSON object.
pub(crate) const SENT: &str = "x-logship-sent";

/// How long it is known after it was told last.
const KEPT: Duration = Duration::from_secs(3600);

/// What rates are of, at least.
const WINDOW: Duration = Duration::from_secs(5);

/// What each member told last.
#[derive(Debug, Default)]
pub(crate) struct Members(Mutex<HashMap<Name, Heard>>);

/// A member of a group of a project's logstore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) project: String,
    pub(crate) logstore: String,
    pub(crate) group: String,
    pub(crate) consumer: String,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    sent: Sent,
    /// What it had sent when the time began that rates are of.
    begin: (Instant, Sent),
    /// A second, in that time.
    events: f64,
    bytes: f64,
}

impl Members {
    /// A member says at a time what it has sent.
    pub(crate) fn hear(&self, name: Name, sent: Sent, at: Instant) {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, heard| at - heard.at < KEPT);
        // One that says less began anew.
        let before = members.get(&name).filter(|before| before.sent.messages <= sent.messages);
        let mut heard = match before {
            Some(before) => Heard { at, sent, ..*before },
            None => Heard { at, sent, begin: (at, sent), events: 0.0, bytes: 0.0 },
        };
        let (since, had) = heard.begin;
        let seconds = (at - since).as_secs_f64();
        if at - since >= WINDOW {
            heard.events = (sent.messages - had.messages) as f64 / seconds;
            heard.bytes = sent.raw.saturating_sub(had.raw) as f64 / seconds;
            heard.begin = (at, sent);
        }
        members.insert(name, heard);
    }

    /// What a member told, if it did.
    pub(crate) fn show(&self, name: &Name) -> Value {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Heard { sent, events, bytes, .. }) = members.get(name) else {
            return json!({ "consumer": name.consumer });
        };
        json!({
            "consumer": name.consumer,
            "eventsPerSecond": events.round(),
            "bytesPerSecond": bytes.round(),
            "events": sent.messages,
            "bytes": sent.raw,
            "deadLetters": sent.dead,
            "retries": sent.retries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_as_it_told_last() {
        let (members, begin) = (Members::default(), Instant::now());
        let [project, logstore, group, consumer] = ["p", "l", "g", "c"].map(String::from);
        let name = Name { project, logstore, group, consumer };
        assert_eq!(members.show(&name), json!({ "consumer": "c" }));
        let hear = |seconds, messages, raw| {
            let sent = Sent { messages, raw, dead: 1, retries: 2, ..Sent::default() };
            members.hear(name.clone(), sent, begin + Duration::from_secs(seconds));
            let shown = members.show(&name);
            assert_eq!((&shown["deadLetters"], &shown["retries"]), (&json!(1), &json!(2)));
            ["events", "eventsPerSecond", "bytesPerSecond"].map(|member| shown[member].as_f64().unwrap())
        };
        assert_eq!(hear(0, 10, 1000), [10.0, 0.0, 0.0], "there is nothing to compare with");
        assert_eq!(hear(2, 110, 2000), [110.0, 0.0, 0.0], "the time is too short");
        assert_eq!(hear(10, 1010, 11_000), [1010.0, 100.0, 1000.0]);
        assert_eq!(hear(11, 1020, 12_000), [1020.0, 100.0, 1000.0]);
        assert_eq!(hear(12, 5, 5), [5.0, 0.0, 0.0], "it began anew");
    }
}

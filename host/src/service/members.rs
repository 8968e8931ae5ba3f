//! What members of consumer groups tell of themselves. The heartbeat of `logship consume` says in a header how much it
//! has sent; it is kept in memory, for who looks at the group. Members of other programs tell nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::siem::Sent;

/// The header that says what a member has sent since it began: a JSON object.
pub(crate) const SENT: &str = "x-logship-sent";

/// How long it is known after the last heartbeat.
const KEPT: Duration = Duration::from_secs(3600);

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

#[derive(Debug)]
struct Heard {
    at: Instant,
    sent: Sent,
    /// A second, since the heartbeat before.
    events: f64,
    bytes: f64,
}

impl Members {
    /// A member says what it has sent.
    pub(crate) fn hear(&self, name: Name, sent: Sent) {
        let (mut members, at) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        members.retain(|_, heard| at - heard.at < KEPT);
        // One that says less began anew.
        let before = members.get(&name).filter(|before| before.sent.messages <= sent.messages);
        let rate = |is: u64, was: fn(&Sent) -> u64| match before {
            Some(before) => {
                is.saturating_sub(was(&before.sent)) as f64 / (at - before.at).as_secs_f64().max(0.1)
            }
            None => 0.0,
        };
        let (events, bytes) = (rate(sent.messages, |sent| sent.messages), rate(sent.raw, |sent| sent.raw));
        members.insert(name, Heard { at, sent, events, bytes });
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
        let members = Members::default();
        let [project, logstore, group, consumer] = ["p", "l", "g", "c"].map(String::from);
        let name = Name { project, logstore, group, consumer };
        assert_eq!(members.show(&name), json!({ "consumer": "c" }));
        members.hear(name.clone(), Sent { messages: 10, raw: 1000, ..Sent::default() });
        assert_eq!(members.show(&name)["eventsPerSecond"], 0.0, "there is nothing to compare with");
        std::thread::sleep(Duration::from_millis(110));
        members
            .hear(name.clone(), Sent { messages: 2010, raw: 1000, dead: 1, retries: 2, ..Sent::default() });
        let shown = members.show(&name);
        assert!(shown["eventsPerSecond"].as_f64() > Some(0.0), "{shown}");
        assert_eq!(
            (&shown["bytesPerSecond"], &shown["deadLetters"], &shown["retries"]),
            (&json!(0.0), &json!(1), &json!(2))
        );
        members.hear(name.clone(), Sent { messages: 5, ..Sent::default() });
        assert_eq!(members.show(&name)["eventsPerSecond"], 0.0, "it began anew");
    }
}

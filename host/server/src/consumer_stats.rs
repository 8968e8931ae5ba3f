//! Statistics that the members of consumer groups report. `logship consume` reports the amount that it has sent, in a
//! header of its heartbeats and checkpoints. The service keeps the reports in memory and shows them with the group. Other
//! consumers report nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use logship_delivery::events::Sent;

/// The time that a member's last report is kept.
const RETENTION: Duration = Duration::from_secs(3600);

/// The shortest period that a rate is computed from.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The last report of each member.
#[derive(Debug, Default)]
pub(crate) struct ConsumerStats(Mutex<HashMap<ConsumerId, Report>>);

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConsumerId {
    pub(crate) project: String,
    pub(crate) logstore: String,
    pub(crate) group: String,
    pub(crate) consumer: String,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    at: Instant,
    sent: Sent,
    /// The time and totals at the start of the rate window.
    window_start: (Instant, Sent),
    /// Events per second, in the last full window.
    events: f64,
    /// Bytes per second, in the last full window.
    bytes: f64,
}

impl ConsumerStats {
    /// Records a report of a member.
    pub(crate) fn record(&self, id: ConsumerId, sent: Sent, at: Instant) {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reports.retain(|_, report| at - report.at < RETENTION);
        // Smaller totals mean that the member was restarted.
        let before = reports.get(&id).filter(|before| before.sent.messages <= sent.messages);
        let mut report = match before {
            Some(before) => Report { at, sent, ..*before },
            None => Report { at, sent, window_start: (at, sent), events: 0.0, bytes: 0.0 },
        };
        let (since, previous) = report.window_start;
        let seconds = (at - since).as_secs_f64();
        if at - since >= RATE_WINDOW {
            report.events = (sent.messages - previous.messages) as f64 / seconds;
            report.bytes = sent.raw.saturating_sub(previous.raw) as f64 / seconds;
            report.window_start = (at, sent);
        }
        reports.insert(id, report);
    }

    /// Shows the last report of a member, or only its name if there is no report.
    pub(crate) fn show(&self, id: &ConsumerId) -> Value {
        let reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Report { sent, events, bytes, .. }) = reports.get(id) else {
            return json!({ "consumer": id.consumer });
        };
        json!({
            "consumer": id.consumer,
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
    fn shows_last_report_and_rates() {
        let (stats, begin) = (ConsumerStats::default(), Instant::now());
        let [project, logstore, group, consumer] = ["p", "l", "g", "c"].map(String::from);
        let id = ConsumerId { project, logstore, group, consumer };
        assert_eq!(stats.show(&id), json!({ "consumer": "c" }));
        let record = |seconds, messages, raw| {
            let sent = Sent { messages, raw, dead: 1, retries: 2, ..Sent::default() };
            stats.record(id.clone(), sent, begin + Duration::from_secs(seconds));
            let shown = stats.show(&id);
            assert_eq!((&shown["deadLetters"], &shown["retries"]), (&json!(1), &json!(2)));
            ["events", "eventsPerSecond", "bytesPerSecond"].map(|field| shown[field].as_f64().unwrap())
        };
        assert_eq!(record(0, 10, 1000), [10.0, 0.0, 0.0], "no earlier report");
        assert_eq!(record(2, 110, 2000), [110.0, 0.0, 0.0], "the window is too short");
        assert_eq!(record(10, 1010, 11_000), [1010.0, 100.0, 1000.0]);
        assert_eq!(record(11, 1020, 12_000), [1020.0, 100.0, 1000.0]);
        assert_eq!(record(12, 5, 5), [5.0, 0.0, 0.0], "the member was restarted");
    }
}

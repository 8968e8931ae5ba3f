//! When a task is due: pure rules, without a clock of their own. Times are Unix seconds.

use logship_logstore::{Measured, Place};

/// Bytes of logs that are encoded to see what becomes of them.
pub(super) const SAMPLE: u64 = 4 << 20;

/// A task is as large as can be guessed, and this part more: what an object does not take is left for the next.
const MARGIN: f64 = 1.05;

/// What a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    /// The largest object, in bytes.
    pub(super) size: u64,
    /// How long logs wait for an object to fill.
    pub(super) seconds: u64,
    /// Bytes of logs that an object can be made of.
    pub(super) most: u64,
}

/// What waits in a shard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    /// Where the next task begins.
    pub(super) next: Place,
    /// What there is from there on, as far as it was looked at.
    pub(super) measured: Measured,
    /// Bytes of an object for each byte of logs, once it is known.
    pub(super) growth: Option<f64>,
}

/// Why a task is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// An object can be filled.
    Size,
    /// The first log has waited long enough.
    Time,
    /// There is enough to see how large an object it makes.
    Sample,
}

impl Waiting {
    /// A shard of which nothing was looked at yet.
    pub(super) fn from(next: Place, growth: Option<f64>) -> Self {
        Self { next, measured: Measured { next: next.cursor, ..Measured::default() }, growth }
    }

    /// Bytes of logs that fill an object.
    pub(super) fn enough(&self, wanted: Wanted) -> u64 {
        let enough = match self.growth {
            Some(growth) => (wanted.size as f64 * MARGIN / growth) as u64,
            None => SAMPLE.min(wanted.size),
        };
        enough.min(wanted.most)
    }

    /// Takes in what else there is. What seems to be received in the future was received now: clocks are set back.
    pub(super) fn add(&mut self, more: Measured, now: u64) {
        self.measured.next = more.next.max(self.measured.next);
        self.measured.bytes += more.bytes;
        if more.bytes > 0 {
            self.measured.newest = more.newest;
            if self.measured.oldest == 0 {
                self.measured.oldest = more.oldest.min(now);
            }
        }
    }

    /// Whether a task is due, and why.
    pub(super) fn due(&self, wanted: Wanted, now: u64) -> Option<Due> {
        let Measured { bytes, oldest, .. } = self.measured;
        let is_enough = bytes >= self.enough(wanted);
        if bytes == 0 {
            None
        } else if is_enough && self.growth.is_none() {
            // Also where time is over: no more was measured yet.
            Some(Due::Sample)
        } else if now >= oldest + wanted.seconds {
            Some(Due::Time)
        } else {
            is_enough.then_some(Due::Size)
        }
    }
}

/// When a task that failed for the `attempts`th time is tried again: `first` seconds later, twice as long each time
/// after, unless that is more than `within` seconds after its creation.
pub(super) fn next_try(attempts: u32, created: u64, now: u64, first: u64, within: u64) -> Option<u64> {
    let wait = first
        .checked_shl(attempts.saturating_sub(1))
        .filter(|wait| wait >> attempts.saturating_sub(1) == first)?;
    let next = now.checked_add(wait)?;
    (next <= created.saturating_add(within)).then_some(next)
}

/// The same, where the destination asked for so many seconds of `rest`: the first time it is tried again then, which
/// may be sooner, and twice as long after each time too; but never before.
pub(super) fn next_try_after(
    rest: u64,
    attempts: u32,
    created: u64,
    now: u64,
    first: u64,
    within: u64,
) -> Option<u64> {
    let next = next_try(attempts, created, now, rest.clamp(1, first), within)?;
    let next = next.max(now.checked_add(rest)?);
    (next <= created.saturating_add(within)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { size: 10_000_000, seconds: 300, most: u64::MAX };

    fn waiting(bytes: u64, oldest: u64, growth: Option<f64>) -> Waiting {
        let mut waiting = Waiting::from(Place::at(7), growth);
        waiting.add(Measured { next: 9, bytes, oldest, newest: oldest }, u64::MAX);
        waiting
    }

    #[test]
    fn a_task_is_due_by_size_or_by_time_whichever_is_first() {
        let due = |bytes, age: u64| waiting(bytes, 1000, Some(2.0)).due(WANTED, 1000 + age);
        assert_eq!(due(5_249_999, 0), None, "half of the size, for it doubles, and the margin");
        assert_eq!(due(5_250_000, 0), Some(Due::Size));
        assert_eq!(due(1, 299), None);
        assert_eq!(due(1, 300), Some(Due::Time));
        assert_eq!(due(0, 10_000), None, "nothing is never due");
    }

    #[test]
    fn what_becomes_of_logs_is_seen_before_they_are_taken_for_enough() {
        assert_eq!(waiting(SAMPLE - 1, 1000, None).due(WANTED, 1000), None);
        assert_eq!(waiting(SAMPLE, 1000, None).due(WANTED, 1000), Some(Due::Sample));
        assert_eq!(waiting(SAMPLE, 1000, None).due(WANTED, 1300), Some(Due::Sample));
        assert_eq!(waiting(SAMPLE - 1, 1000, None).due(WANTED, 1300), Some(Due::Time));
    }

    #[test]
    fn no_task_waits_for_more_than_an_object_can_be_made_of() {
        let wanted = Wanted { most: 6_000_000, ..WANTED };
        assert_eq!(waiting(5_999_999, 1000, Some(1.0)).due(wanted, 1000), None);
        assert_eq!(waiting(6_000_000, 1000, Some(1.0)).due(wanted, 1000), Some(Due::Size));
    }

    #[test]
    fn the_oldest_log_decides() {
        let mut waiting = waiting(10, 1000, Some(1.0));
        waiting.add(Measured { next: 12, bytes: 10, oldest: 1250, newest: 1260 }, 1260);
        assert_eq!(waiting.due(WANTED, 1299), None);
        assert_eq!(waiting.due(WANTED, 1300), Some(Due::Time));
        assert_eq!((waiting.measured.next, waiting.measured.newest), (12, 1260));
    }

    #[test]
    fn a_task_that_fails_is_tried_after_15_30_60_minutes_and_so_on_for_two_days() {
        let (created, mut now, mut waits) = (1_000_000, 1_000_010, vec![]);
        for attempts in 1.. {
            match next_try(attempts, created, now, 900, 172_800) {
                Some(next) => waits.push((next - now) / 60),
                None => break,
            }
            now += waits.last().unwrap() * 60 + 5;
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960]);
        assert!(now - created <= 172_800, "the last one is within the two days");
    }

    #[test]
    fn who_asks_for_rest_gets_it_and_is_asked_again_soon() {
        let after = |rest, attempts| next_try_after(rest, attempts, 0, 1000, 900, 172_800);
        assert_eq!([after(7, 1), after(7, 2), after(7, 3)], [Some(1007), Some(1014), Some(1028)]);
        assert_eq!([after(3600, 1), after(0, 1)], [Some(4600), Some(1001)]);
        assert_eq!([after(200_000, 1), after(u64::MAX, 1)], [None, None]);
    }

    #[test]
    fn a_task_that_was_tried_very_often_is_not_tried_at_once() {
        for attempts in [60, 63, 64, 65, u32::MAX] {
            assert_eq!(next_try(attempts, 0, 10, 900, u64::MAX), None, "{attempts}");
        }
    }
}

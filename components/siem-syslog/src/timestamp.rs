use chrono::{DateTime, FixedOffset};

use crate::Rfc;

/// The length of `hh:mm:ss`, in bytes.
const CLOCK: usize = 8;

/// Formats timestamps. Consecutive logs often have the same second or at least the same day, so the last second and
/// day are cached.
#[derive(Debug, Clone)]
pub(crate) struct Timestamps {
    rfc: Rfc,
    /// Seconds east of UTC.
    east: i64,
    /// The offset after the time.
    zone: Vec<u8>,
    /// The day of `text`, in days since 1970.
    day: Option<i64>,
    seconds: Option<u32>,
    /// The last timestamp without fraction and offset.
    text: Vec<u8>,
    /// The last complete timestamp.
    timestamp: Vec<u8>,
}

impl Timestamps {
    pub(crate) fn new(rfc: Rfc, offset: FixedOffset) -> Self {
        let east = offset.local_minus_utc();
        let zone = match (rfc, east) {
            (Rfc::Rfc3164, _) => String::new(),
            (Rfc::Rfc5424, 0) => "Z".into(),
            (Rfc::Rfc5424, _) => offset.to_string(),
        };
        let (text, timestamp) = (vec![], vec![]);
        Self { rfc, east: east.into(), zone: zone.into(), day: None, seconds: None, text, timestamp }
    }

    /// Formats a time, given in Unix seconds and nanoseconds.
    #[inline(always)]
    pub(crate) fn of(&mut self, seconds: u32, nanos: u32) -> &[u8] {
        if self.seconds != Some(seconds) {
            self.set(seconds);
        }
        // RFC 5424 has at most microseconds; RFC 3164 has no fractions.
        if nanos > 0 && self.rfc == Rfc::Rfc5424 {
            return self.with_fraction(nanos / 1000);
        }
        &self.timestamp
    }

    #[inline(never)]
    fn with_fraction(&mut self, micros: u32) -> &[u8] {
        self.seconds = None;
        let start = self.text.len();
        self.timestamp.truncate(start);
        // The extra leading digit keeps the fraction's leading zeros; the point replaces it.
        self.timestamp.extend_from_slice(itoa::Buffer::new().format(1_000_000 + micros).as_bytes());
        self.timestamp[start] = b'.';
        self.timestamp.extend_from_slice(&self.zone);
        &self.timestamp
    }

    #[inline(never)]
    fn set(&mut self, seconds: u32) {
        let local = i64::from(seconds) + self.east;
        if self.day != Some(local.div_euclid(86_400)) {
            self.set_day(local.div_euclid(86_400));
        }
        let clock = local.rem_euclid(86_400);
        self.text.truncate(self.text.len() - CLOCK);
        let two = |number: i64| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        let [[h, i], [m, n], [s, t]] = [two(clock / 3600), two(clock / 60 % 60), two(clock % 60)];
        self.text.extend_from_slice(&[h, i, b':', m, n, b':', s, t]);
        self.timestamp.clear();
        self.timestamp.extend_from_slice(&self.text);
        self.timestamp.extend_from_slice(&self.zone);
        self.seconds = Some(seconds);
    }

    /// Sets the day of the text. The caller overwrites the clock.
    #[cold]
    fn set_day(&mut self, day: i64) {
        let time = DateTime::from_timestamp(day * 86_400, 0).unwrap_or_default();
        let format = match self.rfc {
            Rfc::Rfc3164 => "%b %e %H:%M:%S",
            Rfc::Rfc5424 => "%Y-%m-%dT%H:%M:%S",
        };
        self.text = time.format(format).to_string().into();
        self.day = Some(day);
    }
}

/// Parses an offset from UTC: `Z`, `+08:00` or `+0800`.
pub(crate) fn offset(text: &str) -> Option<FixedOffset> {
    if text == "Z" {
        return FixedOffset::east_opt(0);
    }
    let (sign, clock) = match text.as_bytes() {
        [b'+', clock @ ..] => (1, clock),
        [b'-', clock @ ..] => (-1, clock),
        _ => return None,
    };
    let &([h, i, m, n] | [h, i, b':', m, n]) = clock else { return None };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i32::from(byte - b'0'));
    let (hours, minutes) = (digit(h)? * 10 + digit(i)?, digit(m)? * 10 + digit(n)?);
    (hours < 24 && minutes < 60).then(|| FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_follow_the_rfcs() {
        let of = |rfc, east, seconds, nanos| {
            let mut timestamps = Timestamps::new(rfc, FixedOffset::east_opt(east).unwrap());
            String::from_utf8(timestamps.of(seconds, nanos).to_vec()).unwrap()
        };
        assert_eq!(of(Rfc::Rfc5424, 0, 1_484_913_043, 0), "2017-01-20T11:50:43Z");
        assert_eq!(of(Rfc::Rfc5424, 28_800, 1_484_913_043, 1_999), "2017-01-20T19:50:43.000001+08:00");
        assert_eq!(of(Rfc::Rfc5424, 0, u32::MAX, 0), "2106-02-07T06:28:15Z");
        assert_eq!(of(Rfc::Rfc5424, -3600, 0, 999_999_999), "1969-12-31T23:00:00.999999-01:00");
        assert_eq!(of(Rfc::Rfc3164, 0, 1_483_228_800, 5), "Jan  1 00:00:00");
        assert_eq!(of(Rfc::Rfc3164, -3600, 1_484_913_043, 0), "Jan 20 10:50:43");
    }

    #[test]
    fn parses_offsets_of_hours_and_minutes() {
        let seconds = |text| offset(text).map(|offset| offset.local_minus_utc());
        assert_eq!(["Z", "+0000", "-00:00"].map(seconds), [Some(0); 3]);
        assert_eq!(["+08:00", "+0800", "-03:30"].map(seconds), [Some(28_800), Some(28_800), Some(-12_600)]);
        for invalid in ["", "8", "+8", "+08", "0800", "+24:00", "+08:60", "+08:001", "+08:00 ", "UTC", "+0é0"]
        {
            assert_eq!(seconds(invalid), None, "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn consecutive_timestamps_match_chrono(
            times in prop::collection::vec((0..3u32, prop_oneof![0..100u32, any::<u32>()], prop_oneof![Just(0), 0..1_000_000_000u32]), 0..20),
            minutes in -1439..1440i32,
        ) {
            let offset = FixedOffset::east_opt(minutes * 60).unwrap();
            let mut new = Timestamps::new(Rfc::Rfc5424, offset);
            let mut old = Timestamps::new(Rfc::Rfc3164, offset);
            let mut seconds = 0u32;
            for (step, far, nanos) in times {
                // Repeats the same second, or takes the next or any second.
                seconds = [seconds, seconds.wrapping_add(1), far][step as usize];
                let time = DateTime::from_timestamp(seconds.into(), nanos).unwrap().with_timezone(&offset);
                let format = if nanos == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
                let zone = if minutes == 0 { "Z".into() } else { offset.to_string() };
                prop_assert_eq!(std::str::from_utf8(new.of(seconds, nanos)).unwrap(), format!("{}{zone}", time.format(format)));
                let expected = time.format("%b %e %H:%M:%S").to_string();
                prop_assert_eq!(std::str::from_utf8(old.of(seconds, nanos)).unwrap(), expected);
            }
        }
    }
}

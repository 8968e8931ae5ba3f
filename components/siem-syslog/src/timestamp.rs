use chrono::{DateTime, FixedOffset};

use crate::Rfc;

/// Writes times. Logs of the same second follow one another, so the last one is kept.
#[derive(Debug, Clone)]
pub(crate) struct Timestamps {
    rfc: Rfc,
    offset: FixedOffset,
    last: Option<(u32, u32)>,
    text: String,
}

impl Timestamps {
    pub(crate) fn new(rfc: Rfc, offset: FixedOffset) -> Self {
        Self { rfc, offset, last: None, text: String::new() }
    }

    /// A time, in Unix seconds and nanoseconds.
    #[inline(always)]
    pub(crate) fn of(&mut self, seconds: u32, nanos: u32) -> &[u8] {
        if self.last != Some((seconds, nanos)) {
            self.write(seconds, nanos);
        }
        self.text.as_bytes()
    }

    #[cold]
    fn write(&mut self, seconds: u32, nanos: u32) {
        let time = DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
        let time = time.with_timezone(&self.offset);
        self.text = match self.rfc {
            Rfc::Rfc3164 => time.format("%b %e %H:%M:%S").to_string(),
            Rfc::Rfc5424 => {
                let zone =
                    if self.offset.local_minus_utc() == 0 { "Z".into() } else { self.offset.to_string() };
                // RFC 5424 has no more than microseconds.
                let fraction = if nanos == 0 { String::new() } else { format!(".{:06}", nanos / 1000) };
                format!("{}{fraction}{zone}", time.format("%Y-%m-%dT%H:%M:%S"))
            }
        };
        self.last = Some((seconds, nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_rfcs() {
        let of = |rfc, east, seconds, nanos| {
            let mut timestamps = Timestamps::new(rfc, FixedOffset::east_opt(east).unwrap());
            String::from_utf8(timestamps.of(seconds, nanos).to_vec()).unwrap()
        };
        assert_eq!(of(Rfc::Rfc5424, 0, 1_484_913_043, 0), "2017-01-20T11:50:43Z");
        assert_eq!(of(Rfc::Rfc5424, 28_800, 1_484_913_043, 1_999), "2017-01-20T19:50:43.000001+08:00");
        assert_eq!(of(Rfc::Rfc5424, 0, u32::MAX, 0), "2106-02-07T06:28:15Z");
        assert_eq!(of(Rfc::Rfc3164, 0, 1_483_228_800, 5), "Jan  1 00:00:00");
        assert_eq!(of(Rfc::Rfc3164, -3600, 1_484_913_043, 0), "Jan 20 10:50:43");
    }
}

//! The time zone in which partitions are rendered.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone as _, Utc,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time zone: an IANA name, or a fixed offset such as `+08:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeZone {
    /// A fixed offset from UTC.
    Fixed(FixedOffset),
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
}

impl TimeZone {
    /// Returns the offset at `time`, in seconds east of UTC.
    pub fn offset(self, time: DateTime<Utc>) -> i32 {
        match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => time.with_timezone(&zone).offset().fix().local_minus_utc(),
        }
    }

    /// Returns the local time at `time`.
    pub fn local(self, time: DateTime<Utc>) -> NaiveDateTime {
        time.naive_utc() + TimeDelta::seconds(self.offset(time).into())
    }

    /// Returns the moments with a local time: none if daylight saving skips it, two if it repeats it.
    pub fn moments(self, local: NaiveDateTime) -> MappedLocalTime<DateTime<Utc>> {
        match self {
            Self::Fixed(offset) => offset.from_local_datetime(&local).map(|time| time.to_utc()),
            Self::Named(zone) => zone.from_local_datetime(&local).map(|time| time.to_utc()),
        }
    }

    /// Returns the moment of a local time: the first one of two, or the first moment after a gap that skips it. Never
    /// decreases when the local time increases.
    pub fn moment(self, local: NaiveDateTime) -> DateTime<Utc> {
        self.moments(local).earliest().unwrap_or_else(|| {
            let day_before = (local - TimeDelta::days(1)).and_utc();
            let mut low = day_before.timestamp();
            let mut high = (local + TimeDelta::days(1)).and_utc().timestamp();
            // The local time jumps over `local` exactly once between the two.
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                let time = DateTime::from_timestamp(middle, 0).unwrap_or(day_before);
                if self.local(time) < local { low = middle } else { high = middle }
            }
            DateTime::from_timestamp(high, 0).unwrap_or(day_before)
        })
    }

    /// Returns the start of a day: midnight, or the first later moment if daylight saving skips midnight.
    pub fn start_of_day(self, date: NaiveDate) -> DateTime<Utc> {
        self.moment(date.and_time(NaiveTime::MIN))
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::Named(chrono_tz::UTC)
    }
}

impl FromStr for TimeZone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fixed = text.parse().map(Self::Fixed);
        fixed.or_else(|_| text.parse().map(Self::Named)).map_err(|_| {
            format!(
                "{text:?} is no time zone: use an IANA name such as Asia/Shanghai, or an offset such as +08:00"
            )
        })
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(offset) => offset.fmt(formatter),
            Self::Named(zone) => zone.fmt(formatter),
        }
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

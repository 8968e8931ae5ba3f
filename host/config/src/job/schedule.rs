//! Schedules: the times at which a job runs.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, NaiveTime, TimeDelta, Utc};
use logship_batch::time_zone::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::JobError;
use crate::limit::Limit;

/// The number of missed runs that are caught up.
pub const CATCH_UP: Limit = Limit::new(0, 10_000);

/// The minutes of an hour and of a day.
const HOUR: u64 = 60;
const DAY: u64 = 1440;

/// The least interval, in minutes.
const MIN_MINUTES: u64 = 5;

/// The times at which a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// The interval, in minutes: 5 to 60 that divide an hour, or whole hours that divide a day.
    #[serde(alias = "every-minutes")]
    pub every_minutes: u64,
    /// The time of the first run of a day.
    #[serde(default = "TimeOfDay::midnight", skip_serializing_if = "TimeOfDay::is_midnight")]
    pub from: TimeOfDay,
    /// The time of the last run of a day.
    #[serde(default = "TimeOfDay::last", skip_serializing_if = "TimeOfDay::is_last")]
    pub until: TimeOfDay,
    /// The first day.
    #[serde(default)]
    pub start: ScheduleStart,
    /// The number of missed runs that are caught up after the service was down.
    #[serde(default = "default_catch_up", alias = "catch-up")]
    pub catch_up: u64,
}

fn default_catch_up() -> u64 {
    288
}

/// The first day of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleStart {
    /// At once.
    #[default]
    Now,
    /// The day after the job is created.
    NextDay,
}

/// A time of the day, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u64);

impl TimeOfDay {
    fn midnight() -> Self {
        Self(0)
    }

    fn last() -> Self {
        Self(DAY - 1)
    }

    fn is_midnight(&self) -> bool {
        *self == Self::midnight()
    }

    fn is_last(&self) -> bool {
        *self == Self::last()
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time of the day: use 00:00 to 23:59");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| {
            let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| is_number)
        };
        match (number(hour), number(minute)) {
            (Some(hour @ 0..=23), Some(minute @ 0..=59)) => Ok(Self(hour * HOUR + minute)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / HOUR, self.0 % HOUR)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Schedule {
    /// Returns a schedule that begins at once and runs the whole day.
    pub fn every(every_minutes: u64) -> Self {
        let (from, until) = (TimeOfDay::midnight(), TimeOfDay::last());
        Self { every_minutes, from, until, start: ScheduleStart::Now, catch_up: default_catch_up() }
    }

    /// Checks the interval and the window of the day.
    ///
    /// # Errors
    /// The first invalid member.
    pub fn check(&self) -> Result<(), JobError> {
        let every = self.every_minutes;
        let is_valid = match every {
            MIN_MINUTES..=HOUR => HOUR.is_multiple_of(every),
            _ => every > HOUR && every.is_multiple_of(HOUR) && DAY.is_multiple_of(every),
        };
        if !is_valid {
            let allowed = "use 5, 6, 10, 12, 15, 20, 30 or 60 minutes, or 2, 3, 4, 6, 8, 12 or 24 hours: others leave gaps at the end of an hour or a day";
            return Err(JobError::member(
                "schedule.everyMinutes",
                format!("{every} is no valid interval: {allowed}"),
            ));
        }
        if self.from > self.until {
            let problem = format!("{} is before `from`, {}", self.until, self.from);
            return Err(JobError::member("schedule.until", problem));
        }
        if !CATCH_UP.contains(self.catch_up) {
            let problem = format!("{} is out of range: {CATCH_UP} runs", self.catch_up);
            return Err(JobError::member("schedule.catchUp", problem));
        }
        Ok(())
    }

    /// Returns the first scheduled time of a job that is created at `created`.
    pub fn first(&self, zone: TimeZone, created: DateTime<Utc>) -> DateTime<Utc> {
        let after = match self.start {
            ScheduleStart::Now => created,
            ScheduleStart::NextDay => {
                let tomorrow = zone.local(created).date() + TimeDelta::days(1);
                zone.start_of_day(tomorrow) - TimeDelta::seconds(1)
            }
        };
        self.next(zone, after)
    }

    /// Returns the first scheduled time after `after`. The schedule must be [checked](Self::check).
    ///
    /// Intervals up to an hour follow elapsed time, so an hour that daylight saving repeats has its runs twice. Longer
    /// intervals follow the clock: a skipped time runs at the end of the gap, a repeated one the first time.
    pub fn next(&self, zone: TimeZone, after: DateTime<Utc>) -> DateTime<Utc> {
        let today = zone.local(after).date();
        let mut day = today - TimeDelta::days(1);
        loop {
            let midnight = day.and_time(NaiveTime::MIN);
            let mut first: Option<DateTime<Utc>> = None;
            let mut minute = self.from.0;
            while minute <= self.until.0 {
                let local = midnight + TimeDelta::minutes(minute as i64);
                let moments = zone.moments(local);
                let candidates = match moments {
                    _ if self.every_minutes > HOUR => [Some(zone.moment(local)), None],
                    MappedLocalTime::Single(moment) => [Some(moment), None],
                    MappedLocalTime::Ambiguous(earliest, latest) => [Some(earliest), Some(latest)],
                    MappedLocalTime::None => [None, None],
                };
                let later = candidates.into_iter().flatten().filter(|moment| *moment > after);
                first = first.into_iter().chain(later).min();
                minute += self.every_minutes;
            }
            // A repeated hour mixes the order of the times within a day, but not across days.
            if let Some(first) = first {
                return first;
            }
            day += TimeDelta::days(1);
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every_minutes {
            DAY => return write!(formatter, "daily at {}", self.from),
            minutes if minutes > HOUR => write!(formatter, "every {} hours", minutes / HOUR)?,
            HOUR => formatter.write_str("every hour")?,
            minutes => write!(formatter, "every {minutes} minutes")?,
        }
        if !(self.from.is_midnight() && self.until.is_last()) {
            write!(formatter, " from {} to {}", self.from, self.until)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::template::{Context, Template};

    fn times(schedule: Schedule, zone: &str, begin: &str, count: usize) -> Vec<DateTime<Utc>> {
        let (zone, mut time) = (zone.parse().unwrap(), begin.parse().unwrap());
        let next = |_| {
            time = schedule.next(zone, time);
            time
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn day_has_288_runs_each_five_minutes() {
        let times = times(Schedule::every(5), "Asia/Shanghai", "2026-11-30T15:59:59Z", 288);
        assert_eq!(times[0].to_rfc3339(), "2026-11-30T16:00:00+00:00");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(5)));
        assert_eq!(times[287].to_rfc3339(), "2026-12-01T15:55:00+00:00");
    }

    #[test]
    fn runs_only_in_the_window_of_the_day() {
        let (from, until) = ("09:30".parse().unwrap(), "18:00".parse().unwrap());
        let schedule = Schedule { from, until, ..Schedule::every(240) };
        let times = times(schedule, "UTC", "2026-11-30T12:00:00Z", 4);
        let shown: Vec<_> = times.iter().map(|time| time.format("%d %H:%M").to_string()).collect();
        assert_eq!(shown, ["30 13:30", "30 17:30", "01 09:30", "01 13:30"]);
    }

    #[test]
    fn daily_run_survives_daylight_saving() {
        let schedule = Schedule { from: "02:30".parse().unwrap(), ..Schedule::every(1440) };
        let shown = |begin| {
            times(schedule, "America/New_York", begin, 3)
                .iter()
                .map(|time| time.to_rfc3339())
                .collect::<Vec<_>>()
        };
        // 02:30 does not exist on March 8: the clock goes on at 03:00, 07:00 UTC.
        assert_eq!(
            shown("2026-03-07T12:00:00Z"),
            ["2026-03-08T07:00:00+00:00", "2026-03-09T06:30:00+00:00", "2026-03-10T06:30:00+00:00"]
        );
        let schedule = Schedule { from: "01:30".parse().unwrap(), ..Schedule::every(1440) };
        let repeated = times(schedule, "America/New_York", "2026-10-31T12:00:00Z", 2);
        assert_eq!(repeated[0].to_rfc3339(), "2026-11-01T05:30:00+00:00");
        assert_eq!(repeated[1].to_rfc3339(), "2026-11-02T06:30:00+00:00");
    }

    #[test]
    fn starts_now_or_on_the_next_day() {
        let zone = "Asia/Shanghai".parse().unwrap();
        let created = "2026-12-01T01:02:03Z".parse().unwrap();
        let first = |start| Schedule { start, ..Schedule::every(5) }.first(zone, created).to_rfc3339();
        assert_eq!(first(ScheduleStart::Now), "2026-12-01T01:05:00+00:00");
        assert_eq!(first(ScheduleStart::NextDay), "2026-12-01T16:00:00+00:00");
    }

    #[test]
    fn rejects_intervals_with_gaps() {
        for minutes in [0, 1, 4, 7, 25, 45, 61, 90, 300, 1439, 2880, u64::MAX] {
            let problem = Schedule::every(minutes).check().unwrap_err().to_string();
            assert!(problem.contains(&minutes.to_string()), "{problem}");
        }
        for minutes in [5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440] {
            Schedule::every(minutes).check().unwrap();
        }
        for wrong in ["", "24:00", "1", "1:60", "-1:00", "01:00:00", "+1:00"] {
            assert!(wrong.parse::<TimeOfDay>().is_err(), "{wrong}");
        }
    }

    proptest! {
        /// The windows of successive runs join, in any zone and over any change of daylight saving.
        #[test]
        fn windows_join(
            zone in prop::sample::select(vec!["UTC", "Asia/Shanghai", "America/New_York", "Europe/London", "+05:30", "Asia/Kathmandu", "America/Sao_Paulo"]),
            minutes in prop::sample::select(vec![5_u64, 10, 15, 30, 60]),
            delay in 0_u64..90,
            begin in 0_i64..4_000_000_000,
        ) {
            let zone: TimeZone = zone.parse().unwrap();
            let template = |minutes: u64| Template::parse(&format!("$[yyyymmddhh24miss-{minutes}/24/60]")).unwrap();
            let (start, end) = (template(delay + minutes), template(delay));
            let parameters = Default::default();
            let mut scheduled = DateTime::from_timestamp(begin, 0).unwrap() + TimeDelta::days(1);
            let mut last = None;
            for _ in 0..40 {
                scheduled = Schedule::every(minutes).next(zone, scheduled);
                let context = Context { scheduled, zone, parameters: &parameters };
                let window = (start.evaluate_time(context).unwrap(), end.evaluate_time(context).unwrap());
                prop_assert_eq!(window.1 - window.0, TimeDelta::minutes(minutes as i64));
                prop_assert!(last.is_none_or(|last| last == window.0));
                last = Some(window.1);
            }
        }

        /// A local time has a moment in every zone, and later times have no earlier ones.
        #[test]
        fn moments_never_decrease(
            zone in prop::sample::select(vec!["America/New_York", "Europe/London", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca"]),
            begin in 0_i64..2_000_000_000,
            step in 1_i64..7200,
        ) {
            let zone: TimeZone = zone.parse().unwrap();
            let local = DateTime::from_timestamp(begin, 0).unwrap().naive_utc();
            prop_assert!(zone.moment(local) <= zone.moment(local + TimeDelta::seconds(step)));
        }
    }
}

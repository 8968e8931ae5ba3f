//! Partitions by the time of logs: the hour or the day of a time zone that a log is of.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::time_zone::TimeZone;

/// What decides which partition a log is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    /// When the task of its object was created: all logs of an object are in the same.
    #[default]
    Created,
    /// The hour of its own time.
    Hour,
    /// The day of its own time.
    Day,
}

impl PartitionBy {
    /// Whether logs are where their task is, whatever their own time.
    pub fn is_created(&self) -> bool {
        *self == Self::Created
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl fmt::Display for PartitionBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for PartitionBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Created, Self::Hour, Self::Day];
        let found = known.into_iter().find(|by| by.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not one of created, hour, day"))
    }
}

/// An hour or a day of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// When it begins, in Unix seconds. Of one that began before 1970, what came first.
    pub begin: u64,
    /// Seconds east of UTC: of an hour, at all its logs; of a day, at its beginning.
    ///
    /// An hour that the clock goes through twice is two: they differ in this.
    pub utc_offset: i32,
}

/// The logs of a batch that are in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The partition.
    pub partition: Partition,
    /// Which they are, in order. None: all of the batch.
    pub logs: Option<Vec<u32>>,
}

/// Seconds of which it is found out once what they are in: zones change their offset at most once in them.
const BLOCK: u32 = 900;

/// Blocks that are remembered: those of six weeks.
const KEPT: usize = 4096;

/// Finds the partitions of logs. Use one for many: it remembers.
#[derive(Debug, Clone)]
pub struct Partitioner {
    by: PartitionBy,
    zone: TimeZone,
    /// The partitions of blocks, by their numbers. None: such a block has logs of two.
    blocks: HashMap<u32, Option<Partition>, RandomState>,
    last: Option<(u32, Partition)>,
}

impl Partitioner {
    /// By hours or days of a zone. None where logs are not told apart by their time.
    pub fn new(by: PartitionBy, zone: TimeZone) -> Option<Self> {
        (!by.is_created()).then(|| Self { by, zone, blocks: HashMap::default(), last: None })
    }

    /// The partition of a log of this time, in Unix seconds.
    pub fn of(&mut self, time: u32) -> Partition {
        let block = time / BLOCK;
        match self.last {
            Some((last, partition)) if last == block => partition,
            _ => self.look_up(block, time),
        }
    }

    fn look_up(&mut self, block: u32, time: u32) -> Partition {
        if self.blocks.len() >= KEPT {
            self.blocks.clear();
        }
        let (by, zone) = (self.by, self.zone);
        let whole = *self.blocks.entry(block).or_insert_with(|| {
            let first = exact(by, zone, block * BLOCK);
            let last = exact(by, zone, (block * BLOCK).saturating_add(BLOCK - 1));
            (first == last).then_some(first)
        });
        match whole {
            Some(partition) => {
                self.last = Some((block, partition));
                partition
            }
            None => exact(by, zone, time),
        }
    }

    /// Which logs are in which partition, given the times of all, in Unix seconds.
    pub fn shares(&mut self, times: &[u32]) -> Vec<Share> {
        let Some(&first) = times.first() else { return vec![] };
        let partition = self.of(first);
        // The usual case, in which no log has to be moved.
        if times.iter().all(|&time| self.of(time) == partition) {
            return vec![Share { partition, logs: None }];
        }
        let mut index: HashMap<Partition, usize, RandomState> = HashMap::default();
        let mut shares: Vec<(Partition, Vec<u32>)> = vec![];
        let mut last = 0;
        for (log, &time) in times.iter().enumerate() {
            let partition = self.of(time);
            if shares.get(last).is_none_or(|(of_last, _)| *of_last != partition) {
                last = *index.entry(partition).or_insert(shares.len());
                if last == shares.len() {
                    shares.push((partition, vec![]));
                }
            }
            shares[last].1.push(log as u32);
        }
        shares.into_iter().map(|(partition, logs)| Share { partition, logs: Some(logs) }).collect()
    }
}

fn exact(by: PartitionBy, zone: TimeZone, time: u32) -> Partition {
    let utc_offset = zone.offset(utc(time.into()));
    let local = i64::from(time) + i64::from(utc_offset);
    match by {
        PartitionBy::Created | PartitionBy::Hour => {
            // By what the clock shows, also in an hour in which it is set: the name of the partition is what it shows.
            let begin = local - local.rem_euclid(3600) - i64::from(utc_offset);
            Partition { begin: begin.max(0) as u64, utc_offset }
        }
        PartitionBy::Day => {
            let date = NaiveDate::from_epoch_days(local.div_euclid(86_400) as i32).unwrap_or_default();
            let begin = zone.begin_of(date).timestamp().max(0);
            Partition { begin: begin as u64, utc_offset: zone.offset(utc(begin)) }
        }
    }
}

fn utc(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> u32 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp().try_into().unwrap()
    }

    /// How the partition of a log is called, as a renderer does it.
    fn name(by: PartitionBy, zone: &str, at: &str) -> String {
        let partition = Partitioner::new(by, zone.parse().unwrap()).unwrap().of(time(at));
        let local = utc(partition.begin as i64 + i64::from(partition.utc_offset));
        local.format("%Y-%m-%d %H:%M").to_string()
    }

    #[test]
    fn hours_and_days_are_those_of_the_zone() {
        let hour = |zone, at| name(PartitionBy::Hour, zone, at);
        assert_eq!(hour("UTC", "2026-11-23T17:59:59Z"), "2026-11-23 17:00");
        assert_eq!(hour("+08:00", "2026-11-23T16:00:00Z"), "2026-11-24 00:00");
        assert_eq!(hour("Asia/Kolkata", "2026-11-23T17:29:59Z"), "2026-11-23 22:00");
        assert_eq!(hour("Asia/Kolkata", "2026-11-23T17:30:00Z"), "2026-11-23 23:00");
        assert_eq!(hour("+05:37", "2026-11-23T17:22:59Z"), "2026-11-23 22:00");
        assert_eq!(hour("+05:37", "2026-11-23T17:23:00Z"), "2026-11-23 23:00");
        let day = |zone, at| name(PartitionBy::Day, zone, at);
        assert_eq!(day("Asia/Shanghai", "2026-11-23T15:59:59Z"), "2026-11-23 00:00");
        assert_eq!(day("Asia/Shanghai", "2026-11-23T16:00:00Z"), "2026-11-24 00:00");
        assert_eq!(
            day("America/New_York", "1970-01-01T00:00:00Z"),
            "1969-12-31 19:00",
            "none begins before 1970"
        );
    }

    #[test]
    fn an_hour_that_the_clock_goes_through_twice_is_two_and_a_day_is_one() {
        let of = |by, at| Partitioner::new(by, "Europe/Berlin".parse().unwrap()).unwrap().of(time(at));
        let [summer, winter] = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
        let [first, second] = [summer, winter].map(|at| of(PartitionBy::Hour, at));
        assert_ne!(first, second);
        assert_eq!((first.begin, first.utc_offset), (u64::from(time("2026-10-25T00:00:00Z")), 7200));
        assert_eq!((second.begin, second.utc_offset), (u64::from(time("2026-10-25T01:00:00Z")), 3600));
        assert_eq!(name(PartitionBy::Hour, "Europe/Berlin", summer), "2026-10-25 02:00");
        assert_eq!(name(PartitionBy::Hour, "Europe/Berlin", winter), "2026-10-25 02:00");
        let days =
            ["2026-10-24T22:00:00Z", winter, "2026-10-25T22:59:59Z"].map(|at| of(PartitionBy::Day, at));
        assert!(days.iter().all(|day| *day == days[0]), "{days:?}: it has 25 hours");
        assert_ne!(of(PartitionBy::Day, "2026-10-25T23:00:00Z"), days[0]);
    }

    #[test]
    fn clocks_that_are_set_by_half_an_hour_or_at_midnight_are_followed() {
        // Lord Howe: at 02:00 by half an hour to 02:30, so this hour has half of it.
        let howe = |at| name(PartitionBy::Hour, "Australia/Lord_Howe", at);
        assert_eq!(howe("2026-10-03T15:29:59Z"), "2026-10-04 01:00");
        assert_eq!(howe("2026-10-03T15:30:00Z"), "2026-10-04 02:00");
        assert_eq!(howe("2026-10-03T15:59:59Z"), "2026-10-04 02:00");
        assert_eq!(howe("2026-10-03T16:00:00Z"), "2026-10-04 03:00");
        // Beirut: this day begins at 01:00.
        let day = |zone, at| name(PartitionBy::Day, zone, at);
        assert_eq!(day("Asia/Beirut", "2026-03-28T21:59:59Z"), "2026-03-28 00:00");
        assert_eq!(day("Asia/Beirut", "2026-03-28T22:00:00Z"), "2026-03-29 01:00");
        // St. John's, until 2011: one minute behind midnight the clock goes back to the day before.
        let newfoundland = |at| day("America/St_Johns", at);
        assert_eq!(newfoundland("2008-11-02T02:30:30Z"), "2008-11-02 00:00");
        assert_eq!(newfoundland("2008-11-02T02:31:00Z"), "2008-11-01 00:00");
        assert_eq!(newfoundland("2008-11-02T03:30:00Z"), "2008-11-02 00:00");
    }

    #[test]
    fn logs_of_one_partition_are_not_moved() {
        let mut hours = Partitioner::new(PartitionBy::Hour, TimeZone::default()).unwrap();
        assert_eq!(hours.shares(&[]), []);
        let [eleven, twelve] = [0, 3600].map(|begin| Partition { begin, utc_offset: 0 });
        assert_eq!(hours.shares(&[3599]), [Share { partition: eleven, logs: None }]);
        assert_eq!(hours.shares(&[0, 3599, 7]), [Share { partition: eleven, logs: None }]);
        assert_eq!(
            hours.shares(&[3600, 3599, 7199, 0]),
            [
                Share { partition: twelve, logs: Some(vec![0, 2]) },
                Share { partition: eleven, logs: Some(vec![1, 3]) }
            ]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut days = Partitioner::new(PartitionBy::Day, TimeZone::default()).unwrap();
        (0..3 * KEPT as u32).for_each(|block| {
            days.of(block * BLOCK);
        });
        assert!(days.blocks.len() <= KEPT);
        assert_eq!(days.of(u32::MAX).begin % 86_400, 0);
    }

    #[test]
    fn names_are_read_and_others_are_refused() {
        for by in [PartitionBy::Created, PartitionBy::Hour, PartitionBy::Day] {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        assert_eq!("week".parse::<PartitionBy>().unwrap_err(), "\"week\" is not one of created, hour, day");
    }

    proptest! {
        #[test]
        fn every_log_is_in_one_share_in_order_and_in_its_own_partition(
            times in prop::collection::vec(prop_oneof![any::<u32>(), 1_700_000_000..1_700_020_000_u32], 0..200),
            zone in prop::sample::select(vec!["UTC", "+05:37", "America/St_Johns", "Australia/Lord_Howe"]),
            by in prop::sample::select(vec![PartitionBy::Hour, PartitionBy::Day]),
        ) {
            let zone = zone.parse().unwrap();
            let mut partitioner = Partitioner::new(by, zone).unwrap();
            let mut seen = vec![];
            for Share { partition, logs } in partitioner.shares(&times) {
                let logs = logs.unwrap_or_else(|| (0..times.len() as u32).collect());
                prop_assert!(logs.is_sorted() && !logs.is_empty());
                for &log in &logs {
                    prop_assert_eq!(exact(by, zone, times[log as usize]), partition);
                }
                seen.extend(logs);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..times.len() as u32).collect::<Vec<_>>());
        }
    }
}

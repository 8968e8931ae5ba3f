//! Partitions logs by their own time: by hour or by day in a time zone.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::time_zone::TimeZone;

/// The partition key of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    /// The creation time of the task: all logs of an object are in the same partition.
    #[default]
    Created,
    /// The hour of the log's own time.
    Hour,
    /// The day of the log's own time.
    Day,
}

impl PartitionBy {
    /// Returns true if partitions follow the task's creation time, not the logs' own times.
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

/// An hour or a day in a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The start, in Unix seconds; 0 if it starts before 1970.
    pub begin: u64,
    /// The offset in seconds east of UTC: that of all logs of an hour, or that at the start of a day.
    ///
    /// When daylight saving repeats an hour, the two hours are two partitions that differ in the offset.
    pub utc_offset: i32,
}

/// The logs of a batch that belong to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLogs {
    /// The partition.
    pub partition: Partition,
    /// The ascending indices of the logs. `None` means all logs of the batch.
    pub logs: Option<Vec<u32>>,
}

/// The granularity of the cache, in seconds. A zone changes its offset at most once within a block.
const BLOCK: u32 = 900;

/// The capacity of the cache, in blocks: six weeks.
const CACHED_BLOCKS: usize = 4096;

/// Finds the partitions of logs. Reuse it: it caches partitions.
#[derive(Debug, Clone)]
pub struct Partitioner {
    by: PartitionBy,
    zone: TimeZone,
    /// The partition of each cached block, by block number. `None` marks a block that spans two partitions.
    blocks: HashMap<u32, Option<Partition>, RandomState>,
    last: Option<(u32, Partition)>,
}

impl Partitioner {
    /// Creates a partitioner by hour or day. Returns `None` if the rule does not partition by the logs' own time.
    pub fn new(by: PartitionBy, zone: TimeZone) -> Option<Self> {
        (!by.is_created()).then(|| Self { by, zone, blocks: HashMap::default(), last: None })
    }

    /// Returns the partition of a log with this time, in Unix seconds.
    pub fn partition_of(&mut self, time: u32) -> Partition {
        let block = time / BLOCK;
        match self.last {
            Some((last, partition)) if last == block => partition,
            _ => self.look_up(block, time),
        }
    }

    fn look_up(&mut self, block: u32, time: u32) -> Partition {
        if self.blocks.len() >= CACHED_BLOCKS {
            self.blocks.clear();
        }
        let (by, zone) = (self.by, self.zone);
        let partition = *self.blocks.entry(block).or_insert_with(|| {
            let first = compute_partition(by, zone, block * BLOCK);
            let last = compute_partition(by, zone, (block * BLOCK).saturating_add(BLOCK - 1));
            (first == last).then_some(first)
        });
        match partition {
            Some(partition) => {
                self.last = Some((block, partition));
                partition
            }
            None => compute_partition(by, zone, time),
        }
    }

    /// Groups logs by partition, given the times of all logs in Unix seconds. Partitions are in the order of their
    /// first logs.
    pub fn split(&mut self, times: &[u32]) -> Vec<PartitionLogs> {
        let Some(&first) = times.first() else { return vec![] };
        let partition = self.partition_of(first);
        // The usual case: all logs are in one partition, so no log is copied.
        if times.iter().all(|&time| self.partition_of(time) == partition) {
            return vec![PartitionLogs { partition, logs: None }];
        }
        let mut index: HashMap<Partition, usize, RandomState> = HashMap::default();
        let mut groups: Vec<(Partition, Vec<u32>)> = vec![];
        let mut last = 0;
        for (log, &time) in times.iter().enumerate() {
            let partition = self.partition_of(time);
            if groups.get(last).is_none_or(|(current, _)| *current != partition) {
                last = *index.entry(partition).or_insert(groups.len());
                if last == groups.len() {
                    groups.push((partition, vec![]));
                }
            }
            groups[last].1.push(log as u32);
        }
        groups.into_iter().map(|(partition, logs)| PartitionLogs { partition, logs: Some(logs) }).collect()
    }
}

fn compute_partition(by: PartitionBy, zone: TimeZone, time: u32) -> Partition {
    let utc_offset = zone.offset(utc(time.into()));
    let local = i64::from(time) + i64::from(utc_offset);
    match by {
        PartitionBy::Created | PartitionBy::Hour => {
            // By local time, also in an hour with a clock change: the name of the partition shows local time.
            let begin = local - local.rem_euclid(3600) - i64::from(utc_offset);
            Partition { begin: begin.max(0) as u64, utc_offset }
        }
        PartitionBy::Day => {
            let date = NaiveDate::from_epoch_days(local.div_euclid(86_400) as i32).unwrap_or_default();
            let begin = zone.start_of_day(date).timestamp().max(0);
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

    /// Renders the partition of a log as a renderer names it.
    fn name(by: PartitionBy, zone: &str, at: &str) -> String {
        let partition = Partitioner::new(by, zone.parse().unwrap()).unwrap().partition_of(time(at));
        let local = utc(partition.begin as i64 + i64::from(partition.utc_offset));
        local.format("%Y-%m-%d %H:%M").to_string()
    }

    #[test]
    fn hours_and_days_follow_time_zone() {
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
            "no partition begins before 1970"
        );
    }

    #[test]
    fn repeated_hour_is_two_partitions_and_day_is_one() {
        let of =
            |by, at| Partitioner::new(by, "Europe/Berlin".parse().unwrap()).unwrap().partition_of(time(at));
        let [summer, winter] = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
        let [first, second] = [summer, winter].map(|at| of(PartitionBy::Hour, at));
        assert_ne!(first, second);
        assert_eq!((first.begin, first.utc_offset), (u64::from(time("2026-10-25T00:00:00Z")), 7200));
        assert_eq!((second.begin, second.utc_offset), (u64::from(time("2026-10-25T01:00:00Z")), 3600));
        assert_eq!(name(PartitionBy::Hour, "Europe/Berlin", summer), "2026-10-25 02:00");
        assert_eq!(name(PartitionBy::Hour, "Europe/Berlin", winter), "2026-10-25 02:00");
        let days =
            ["2026-10-24T22:00:00Z", winter, "2026-10-25T22:59:59Z"].map(|at| of(PartitionBy::Day, at));
        assert!(days.iter().all(|day| *day == days[0]), "{days:?}: the day has 25 hours");
        assert_ne!(of(PartitionBy::Day, "2026-10-25T23:00:00Z"), days[0]);
    }

    #[test]
    fn follows_half_hour_and_midnight_clock_changes() {
        // Lord Howe: at 02:00 the clock goes forward to 02:30, so the hour from 02:00 has 30 minutes.
        let howe = |at| name(PartitionBy::Hour, "Australia/Lord_Howe", at);
        assert_eq!(howe("2026-10-03T15:29:59Z"), "2026-10-04 01:00");
        assert_eq!(howe("2026-10-03T15:30:00Z"), "2026-10-04 02:00");
        assert_eq!(howe("2026-10-03T15:59:59Z"), "2026-10-04 02:00");
        assert_eq!(howe("2026-10-03T16:00:00Z"), "2026-10-04 03:00");
        // Beirut: the clock skips midnight, so this day begins at 01:00.
        let day = |zone, at| name(PartitionBy::Day, zone, at);
        assert_eq!(day("Asia/Beirut", "2026-03-28T21:59:59Z"), "2026-03-28 00:00");
        assert_eq!(day("Asia/Beirut", "2026-03-28T22:00:00Z"), "2026-03-29 01:00");
        // St. John's, until 2011: one minute after midnight the clock goes back to the previous day.
        let newfoundland = |at| day("America/St_Johns", at);
        assert_eq!(newfoundland("2008-11-02T02:30:30Z"), "2008-11-02 00:00");
        assert_eq!(newfoundland("2008-11-02T02:31:00Z"), "2008-11-01 00:00");
        assert_eq!(newfoundland("2008-11-02T03:30:00Z"), "2008-11-02 00:00");
    }

    #[test]
    fn single_partition_needs_no_indices() {
        let mut hours = Partitioner::new(PartitionBy::Hour, TimeZone::default()).unwrap();
        assert_eq!(hours.split(&[]), []);
        let [eleven, twelve] = [0, 3600].map(|begin| Partition { begin, utc_offset: 0 });
        assert_eq!(hours.split(&[3599]), [PartitionLogs { partition: eleven, logs: None }]);
        assert_eq!(hours.split(&[0, 3599, 7]), [PartitionLogs { partition: eleven, logs: None }]);
        assert_eq!(
            hours.split(&[3600, 3599, 7199, 0]),
            [
                PartitionLogs { partition: twelve, logs: Some(vec![0, 2]) },
                PartitionLogs { partition: eleven, logs: Some(vec![1, 3]) }
            ]
        );
    }

    #[test]
    fn cache_is_bounded() {
        let mut days = Partitioner::new(PartitionBy::Day, TimeZone::default()).unwrap();
        (0..3 * CACHED_BLOCKS as u32).for_each(|block| {
            days.partition_of(block * BLOCK);
        });
        assert!(days.blocks.len() <= CACHED_BLOCKS);
        assert_eq!(days.partition_of(u32::MAX).begin % 86_400, 0);
    }

    #[test]
    fn parses_known_names_only() {
        for by in [PartitionBy::Created, PartitionBy::Hour, PartitionBy::Day] {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        assert_eq!("week".parse::<PartitionBy>().unwrap_err(), "\"week\" is not one of created, hour, day");
    }

    proptest! {
        #[test]
        fn split_assigns_every_log_once_and_in_order(
            times in prop::collection::vec(prop_oneof![any::<u32>(), 1_700_000_000..1_700_020_000_u32], 0..200),
            zone in prop::sample::select(vec!["UTC", "+05:37", "America/St_Johns", "Australia/Lord_Howe"]),
            by in prop::sample::select(vec![PartitionBy::Hour, PartitionBy::Day]),
        ) {
            let zone = zone.parse().unwrap();
            let mut partitioner = Partitioner::new(by, zone).unwrap();
            let mut seen = vec![];
            for PartitionLogs { partition, logs } in partitioner.split(&times) {
                let logs = logs.unwrap_or_else(|| (0..times.len() as u32).collect());
                prop_assert!(logs.is_sorted() && !logs.is_empty());
                for &log in &logs {
                    prop_assert_eq!(compute_partition(by, zone, times[log as usize]), partition);
                }
                seen.extend(logs);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..times.len() as u32).collect::<Vec<_>>());
        }
    }
}

//! Creates the runs of schedules.

use chrono::{DateTime, Utc};
use logship_config::job::Job;
use logship_config::job::schedule::Schedule;
use logship_logstore::{NewRun, RunTrigger, Store, StoreError, SyncJob};
use serde_json::json;

use super::target::stored_job;

/// The due runs of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// The scheduled times, in Unix seconds.
    pub times: Vec<u64>,
    /// The next scheduled time, which is not due yet.
    pub next: u64,
    /// The number of earlier times that are too many to catch up.
    pub skipped: u64,
}

/// Returns the runs that are due at `now`, from the scheduled time `next` on.
pub fn due(schedule: &Schedule, job: &Job, next: u64, now: u64) -> Due {
    let (mut times, mut skipped) = (std::collections::VecDeque::new(), 0);
    // The newest run is not late: only those before it are caught up.
    let most = schedule.catch_up as usize + 1;
    let mut time = moment(next);
    while time <= moment(now) {
        times.push_back(seconds(time));
        if times.len() > most {
            times.pop_front();
            skipped += 1;
        }
        time = schedule.next(job.time_zone, time);
    }
    Due { times: times.into(), next: seconds(time), skipped }
}

/// Returns the scheduled times from `from` to `to`, exclusive, but not more than `most` and one.
pub fn times(schedule: &Schedule, job: &Job, from: u64, to: u64, most: usize) -> Vec<u64> {
    let first = schedule.next(job.time_zone, moment(from) - chrono::TimeDelta::seconds(1));
    let all = std::iter::successors(Some(first), |time| Some(schedule.next(job.time_zone, *time)));
    all.map(seconds).take_while(|time| *time < to).take(most + 1).collect()
}

/// Creates the due runs of all jobs. Returns the time of the next one, in Unix seconds.
pub(super) async fn create_due(store: &Store, jobs: &[SyncJob], now: u64) -> Result<Option<u64>, StoreError> {
    let mut first: Option<u64> = None;
    for job in jobs.iter().filter(|job| !job.waits) {
        let parsed = match stored_job(job) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::error!(job = job.name, %error, "a job can't be scheduled");
                continue;
            }
        };
        let Some(schedule) = parsed.schedule else { continue };
        let Some(next) = job.next else {
            let next = seconds(schedule.first(parsed.time_zone, moment(now)));
            store.begin_schedule(job.number(), next).await?;
            first = first.into_iter().chain([next]).min();
            continue;
        };
        let mut next_time = next;
        if next <= now {
            let Due { times, next, skipped } = due(&schedule, &parsed, next, now);
            next_time = next;
            if skipped > 0 {
                tracing::warn!(
                    job = job.name,
                    skipped,
                    "missed runs are too many to catch up: run them with `logship job backfill`"
                );
            }
            let run = |scheduled| NewRun {
                scheduled,
                trigger: RunTrigger::Schedule,
                parameters: json!({}),
                plan: None,
            };
            store.schedule_runs(job, times.into_iter().map(run).collect(), next, skipped).await?;
        }
        first = first.into_iter().chain([next_time]).min();
    }
    Ok(first)
}

fn moment(seconds: u64) -> DateTime<Utc> {
    i64::try_from(seconds).ok().and_then(|time| DateTime::from_timestamp(time, 0)).unwrap_or_default()
}

fn seconds(time: DateTime<Utc>) -> u64 {
    time.timestamp().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_796_126_400;

    fn job() -> Job {
        let text = include_str!("tests/job.json");
        Job::parse(text, std::path::Path::new("job.json")).unwrap()
    }

    #[test]
    fn missed_runs_are_caught_up_to_a_bound() {
        let schedule = Schedule { catch_up: 2, ..Schedule::every(5) };
        let due = |next, now| due(&schedule, &job(), next, now);
        assert_eq!(due(NOON, NOON), Due { times: vec![NOON], next: NOON + 300, skipped: 0 });
        assert_eq!(due(NOON, NOON - 1), Due { times: vec![], next: NOON, skipped: 0 });
        assert_eq!(due(NOON, NOON + 601).times, [NOON, NOON + 300, NOON + 600]);
        let late = due(NOON, NOON + 3000);
        assert_eq!((late.times, late.skipped), (vec![NOON + 2400, NOON + 2700, NOON + 3000], 8));
    }

    #[test]
    fn backfill_has_the_times_of_the_schedule() {
        let found = times(&Schedule::every(5), &job(), NOON, NOON + 900, 10);
        assert_eq!(found, [NOON, NOON + 300, NOON + 600]);
        assert_eq!(times(&Schedule::every(5), &job(), NOON + 1, NOON + 86_400, 3).len(), 4);
    }
}

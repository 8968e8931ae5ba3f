//! The target of a run: its window, its table and its partition, from the job and the values of its parameters.

use std::collections::BTreeMap;

use chrono::DateTime;
use logship_config::job::template::{Context, Template};
use logship_config::job::{Job, JobError};
use logship_logstore::{JobRun, SyncJob};
use logship_sink::maxcompute::{TableRef, check_name};
use serde_json::Value;

use super::plan::Window;

/// The window and the place of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The window.
    pub window: Window,
    /// The table and the partition.
    pub table: TableRef,
}

/// Parses the configuration of a stored job.
///
/// # Errors
/// If another version of logship wrote it.
pub fn stored_job(job: &SyncJob) -> Result<Job, JobError> {
    serde_json::from_value(job.configuration.clone())
        .map_err(|error| JobError::member("configuration", format!("can't be read: {error}")))
}

/// Returns the parameters of a run: those of its job, and its own, which override them.
///
/// # Errors
/// If a value is invalid.
pub fn parameters(job: &Job, own: &Value) -> Result<BTreeMap<String, Template>, JobError> {
    let mut parameters = job.parameters.clone();
    for (name, value) in own.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = Template::parse_value(&text)
            .map_err(|problem| JobError::member(format!("parameters.{name}"), problem))?;
        parameters.insert(name.clone(), value);
    }
    Ok(parameters)
}

/// Returns the context of a run at its scheduled time, in Unix seconds.
pub fn context<'a>(job: &Job, scheduled: u64, parameters: &'a BTreeMap<String, Template>) -> Context<'a> {
    let scheduled = i64::try_from(scheduled).ok().and_then(|time| DateTime::from_timestamp(time, 0));
    Context { scheduled: scheduled.unwrap_or_default(), zone: job.time_zone, parameters }
}

impl Target {
    /// Evaluates the target of a run.
    ///
    /// # Errors
    /// If a parameter has no value, or a value is invalid.
    pub fn evaluate(job: &Job, context: Context<'_>) -> Result<Self, JobError> {
        let (reader, writer) = (job.reader(), job.writer());
        let time = |member: &str, template: &Template| {
            let time =
                template.evaluate_time(context).map_err(|problem| JobError::member(member, problem))?;
            u64::try_from(time.timestamp()).map_err(|_| JobError::member(member, "is before 1970"))
        };
        let window = Window {
            begin: time("reader.beginDateTime", &reader.begin_date_time)?,
            end: time("reader.endDateTime", &reader.end_date_time)?,
        };
        if window.begin > window.end {
            let problem = format!(
                "the window ends before it begins: {} to {}",
                shown(window.begin, job),
                shown(window.end, job)
            );
            return Err(JobError::member("reader.endDateTime", problem));
        }
        let text = |member: &str, template: &Template| {
            template.evaluate(context).map_err(|problem| JobError::member(member, problem))
        };
        let partition = partition(&text("writer.partition", &writer.partition)?)?;
        let table = TableRef {
            table: table_name(text("writer.table", &writer.table)?)?,
            partition,
            overwrite: writer.truncate,
            create_partition: true,
        };
        Ok(Self { window, table })
    }

    /// Evaluates the target of a stored run.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn of_run(job: &Job, run: &JobRun) -> Result<Self, JobError> {
        let parameters = parameters(job, &run.parameters)?;
        Self::evaluate(job, context(job, run.scheduled, &parameters))
    }
}

/// Shows a time of a job, as its script would have it.
pub fn shown(time: u64, job: &Job) -> String {
    let time = i64::try_from(time).ok().and_then(|time| DateTime::from_timestamp(time, 0));
    time.map_or_else(String::new, |time| job.time_zone.local(time).format("%Y%m%d%H%M%S").to_string())
}

/// Checks the name of a table. It becomes a part of paths and statements, with the permissions of the data source: a name
/// such as `../t` must not reach another project.
pub(super) fn table_name(name: String) -> Result<String, JobError> {
    match check_name("the table", &name) {
        Ok(()) => Ok(name),
        Err(_) => {
            let problem = format!("{name:?} is no name of a table: use letters, digits and `_`");
            Err(JobError::member("writer.table", problem))
        }
    }
}

/// Normalizes a partition: `pt='1'/hh=01` is `pt=1,hh=01`. Empty for a table without partitions.
fn partition(text: &str) -> Result<Option<String>, JobError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let wrong = |problem: String| JobError::member("writer.partition", problem);
    let mut levels: Vec<String> = vec![];
    for level in text.split([',', '/']) {
        let (name, value) = level.split_once('=').ok_or_else(|| {
            wrong(format!("{level:?} has no `=`: write all levels, as in pt=20261201,hh=01"))
        })?;
        let (name, value) = (name.trim(), unquoted(value.trim()));
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !is_name(name) {
            return Err(wrong(format!("{name:?} is no name of a partition column")));
        }
        if value.is_empty() || value.contains(['\'', '"']) || value.chars().any(char::is_control) {
            return Err(wrong(format!("{name} has no valid value: {value:?}")));
        }
        levels.push(format!("{name}={value}"));
    }
    Ok(Some(levels.join(",")))
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    within('\'').or_else(|| within('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_plain_names() {
        assert_eq!(table_name("t_2026".into()).unwrap(), "t_2026");
        for wrong in ["", "../t", "p.t", "a b", "a`b", "t?x", "é", "t/../../q/tables/u"] {
            assert!(
                table_name(wrong.into()).unwrap_err().to_string().contains("is no name of a table"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn normalizes_partitions() {
        let normal = |text: &str| partition(text).map_err(|error| error.to_string());
        assert_eq!(normal("").unwrap(), None);
        assert_eq!(normal("pt=1").unwrap().as_deref(), Some("pt=1"));
        assert_eq!(normal(" pt = '20261201' / hh=\"01\"").unwrap().as_deref(), Some("pt=20261201,hh=01"));
        for (wrong, problem) in [
            ("pt", "has no `=`"),
            ("pt=", "no valid value"),
            ("=1", "no name"),
            ("pt=1,", "has no `=`"),
            ("pt=a'b", "no valid value"),
            ("p t=1", "no name"),
        ] {
            assert!(normal(wrong).unwrap_err().contains(problem), "{wrong}");
        }
    }
}

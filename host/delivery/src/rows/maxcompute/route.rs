//! The partition of each log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use logship_batch::batch::LogBatch;
use logship_config::maxcompute_rule::{MaxComputeRule, PARTITION_TIME, PartitionFormat, is_partition_value};
use logship_runtime::stage::DirtyValue;
use logship_sink::maxcompute::{TableColumn, TableSchema};

use super::error::RowError;

/// Finds the partitions of logs.
#[derive(Debug)]
pub(crate) struct Route {
    /// The partition columns and their values.
    levels: Vec<(String, LevelValue)>,
    /// The partition of the last log's time.
    last_time: Option<(u32, String)>,
}

/// The value of a partition column.
#[derive(Debug)]
enum LevelValue {
    Time(PartitionFormat),
    Field(String),
}

/// The logs of a batch by partition, and those that have none with the reasons.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) partitions: BTreeMap<String, Vec<u32>>,
    pub(crate) dirty: Vec<(u32, String, String)>,
}

impl Routed {
    /// Logs that all have the partition of their table.
    pub(crate) fn whole(logs: usize) -> Self {
        Self { partitions: BTreeMap::from([(String::new(), (0..logs as u32).collect())]), dirty: vec![] }
    }

    /// Returns the logs without a partition as dirty values.
    pub(crate) fn dirty_values(&self) -> Vec<DirtyValue> {
        let value = |(log, column, reason): &(u32, String, String)| DirtyValue {
            log: *log,
            column: column.clone(),
            reason: reason.clone(),
        };
        self.dirty.iter().map(value).collect()
    }
}

impl Route {
    /// Checks that a rule names a value for each partition column of a table.
    pub(super) fn new(rule: &MaxComputeRule, schema: &TableSchema) -> Result<Self, RowError> {
        let keys = &schema.partition_keys;
        if keys.len() != rule.partition.len() {
            let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
            return Err(RowError::Table(format!(
                "table {} has {} partition columns ({}), and the rule names {} values: set `partition` (partitionColumn)",
                rule.table,
                keys.len(),
                names.join(", "),
                rule.partition.len()
            )));
        }
        let level = |(key, field): (&TableColumn, &String)| {
            let value = match field.as_str() {
                PARTITION_TIME => LevelValue::Time(
                    rule.partition_format().map_err(|error| RowError::Table(error.to_string()))?,
                ),
                field => LevelValue::Field(field.to_owned()),
            };
            Ok((key.name.clone(), value))
        };
        let levels = keys.iter().zip(&rule.partition).map(level).collect::<Result<_, RowError>>()?;
        Ok(Self { levels, last_time: None })
    }

    /// Finds the partitions of the logs of a batch.
    pub(crate) fn route(&mut self, batch: &LogBatch) -> Routed {
        if self.levels.is_empty() {
            return Routed::whole(batch.len());
        }
        let mut routed = Routed::default();
        let needs_only_time = self.levels.iter().all(|(_, value)| matches!(value, LevelValue::Time(_)));
        let mut from = 0;
        while from < batch.len() {
            let time = batch.times[from];
            let same_time = batch.times[from..].iter().take_while(|other| **other == time).count();
            let to = from + if needs_only_time { same_time } else { 1 };
            let logs = from as u32..to as u32;
            match self.partition(batch, from) {
                Ok(partition) => routed.partitions.entry(partition).or_default().extend(logs),
                Err((column, reason)) => {
                    routed.dirty.extend(logs.map(|log| (log, column.clone(), reason.clone())));
                }
            }
            from = to;
        }
        routed
    }

    fn partition(&mut self, batch: &LogBatch, log: usize) -> Result<String, (String, String)> {
        let mut partition = String::new();
        for (column, value) in &self.levels {
            let text = match value {
                LevelValue::Time(format) => {
                    let time = batch.times[log];
                    match &self.last_time {
                        Some((last, text)) if *last == time => text.clone(),
                        _ => {
                            let text = format.value(time);
                            self.last_time = Some((time, text.clone()));
                            text
                        }
                    }
                }
                LevelValue::Field(field) => field_text(batch, log, field)
                    .ok_or_else(|| (column.clone(), format!("the log has no field {field}")))?,
            };
            if !is_partition_value(&text) {
                let shown: String = text.chars().take(50).collect();
                return Err((column.clone(), format!("{shown:?} can't be the value of a partition")));
            }
            let comma = if partition.is_empty() { "" } else { "," };
            let _ = write!(partition, "{comma}{column}={text}");
        }
        Ok(partition)
    }
}

/// Returns a field of a log, or a property of its group.
fn field_text(batch: &LogBatch, log: usize, field: &str) -> Option<String> {
    let group = &batch.groups[batch.log_groups[log] as usize];
    match field {
        "__topic__" => return Some(group.topic.clone()),
        "__source__" => return Some(group.source.clone()),
        "__time__" => return Some(batch.times[log].to_string()),
        _ => {}
    }
    if let Some(tag) = field.strip_prefix("__tag__:") {
        return group.tags.iter().find(|known| known.key == tag).map(|known| known.value.clone());
    }
    let found = batch.log_fields(log).find(|(key, _)| *key == field);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use logship_batch::batch::{BatchBuilder, LogGroup, Tag};

    fn schema(keys: &[&str]) -> TableSchema {
        let column = |name: &&str| TableColumn {
            name: (*name).into(),
            data_type: "string".into(),
            nullable: true,
            comment: String::new(),
        };
        TableSchema { columns: vec![], partition_keys: keys.iter().map(column).collect() }
    }

    fn batch(logs: &[(u32, Option<&str>)]) -> LogBatch {
        let mut builder = BatchBuilder::default();
        let group = LogGroup {
            topic: "web".into(),
            source: "h".into(),
            tags: vec![Tag { key: "k".into(), value: "v".into() }],
        };
        let group = builder.group(&group);
        for (time, status) in logs {
            if let Some(status) = status {
                builder.field("status", status.as_bytes());
            }
            builder.end_log(group, *time, 0);
        }
        builder.take()
    }

    #[test]
    fn logs_of_a_time_share_their_partition() {
        let partition = vec!["__partition_time__".into()];
        let rule = MaxComputeRule { partition_time_format: "%H_%M".into(), partition, ..Default::default() };
        let mut route = Route::new(&rule, &schema(&["pt"])).unwrap();
        let times = [1800, 1800, 3600, 1800].map(|time| (time, None));
        let logs: Vec<_> = route.route(&batch(&times)).partitions.into_iter().collect();
        assert_eq!(logs, [("pt=00_30".to_owned(), vec![0, 1, 3]), ("pt=01_00".to_owned(), vec![2])]);
    }

    #[test]
    fn partitions_have_times_and_fields() {
        let partition = vec!["__partition_time__".into(), "status".into(), "__tag__:k".into()];
        let rule = MaxComputeRule { partition_time_format: "%H_%M".into(), partition, ..Default::default() };
        let mut route = Route::new(&rule, &schema(&["pt", "st", "tag"])).unwrap();
        let routed = route.route(&batch(&[
            (1800, Some("200")),
            (3599, Some("200")),
            (3600, Some("200")),
            (0, Some("a/b")),
            (0, None),
        ]));
        let logs: Vec<_> = routed.partitions.into_iter().collect();
        let expected =
            [("pt=00_30,st=200,tag=v".to_owned(), vec![0, 1]), ("pt=01_00,st=200,tag=v".to_owned(), vec![2])];
        assert_eq!(logs, expected);
        assert_eq!(
            routed.dirty.iter().map(|(log, column, _)| (*log, column.as_str())).collect::<Vec<_>>(),
            [(3, "st"), (4, "st")]
        );
        assert!(
            Route::new(&rule, &schema(&["pt"])).unwrap_err().to_string().contains("1 partition columns (pt)")
        );
    }
}

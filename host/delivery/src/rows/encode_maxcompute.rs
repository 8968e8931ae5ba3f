//! The table and the settings that rules and jobs give the row encoder of MaxCompute.

use chrono::{DateTime, FixedOffset, Utc};
use logship_batch::time_zone::TimeZone;
use logship_config::maxcompute::Protocol;
use logship_runtime::stage::{RowColumn, Table};
use logship_sink::maxcompute::{TableColumn, TableSchema};
use serde_json::{Map, Value};

/// Returns the table of a schema, without its partition columns.
pub(super) fn table(schema: &TableSchema) -> Table {
    let column = |TableColumn { name, data_type, nullable, .. }: &TableColumn| RowColumn {
        name: name.clone(),
        data_type: data_type.clone(),
        nullable: *nullable,
    };
    Table { key: vec![], columns: schema.columns.iter().map(column).collect() }
}

/// Returns the setting of the blocks' format.
pub(super) fn settings(protocol: Protocol) -> Map<String, Value> {
    let protocol = match protocol {
        Protocol::Arrow => "maxcompute-arrow",
        Protocol::Stream => "maxcompute-stream",
    };
    Map::from_iter([("protocol".to_owned(), protocol.into())])
}

/// Returns the offset of a time zone at a time, in whole minutes: `+08:00`.
pub(super) fn utc_offset(zone: TimeZone, time: DateTime<Utc>) -> String {
    let whole_minutes = zone.offset(time) / 60 * 60;
    FixedOffset::east_opt(whole_minutes).map_or_else(|| "+00:00".into(), |offset| offset.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_whole_minutes() {
        let offset =
            |zone: &str, time| utc_offset(zone.parse().unwrap(), DateTime::from_timestamp(time, 0).unwrap());
        assert_eq!(offset("+08:00", 0), "+08:00");
        assert_eq!(offset("-03:30", 0), "-03:30");
        // Local mean time, 8:05:43.
        assert_eq!(offset("Asia/Shanghai", -3_000_000_000), "+08:05");
    }
}

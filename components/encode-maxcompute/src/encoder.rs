use logship_stage::mapping::Mapping;
use logship_stage::rows::{Column as TableColumn, Description, DirtyValue, Positions, Rows, Table};
use logship_stage::{Batch, Error, Result, RowEncoder, config};

use crate::block::{Block, Column};
use crate::config::{Config, Protocol};
use crate::convert::Rules;
use crate::types::Type;

/// Encodes logs as a block of MaxCompute Tunnel.
#[derive(Debug)]
pub struct MaxComputeRows {
    mapping: Mapping,
    block: Block,
}

impl RowEncoder for MaxComputeRows {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocols: Protocol::NAMES.map(str::to_owned).into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str, table: &Table) -> Result<Self> {
        let config: Config = config::parse(text)?;
        if let Some(key) = table.key.first() {
            return Err(Error::table(&key.name, "a table of MaxCompute has no primary key"));
        }
        let rules = Rules {
            offset: config.offset()?,
            empty_is_null: config.empty_as_null,
            bad_date_is_null: config.invalid_dates_as_null,
            decimal_is_text: config.protocol == Protocol::MaxcomputeStream,
            is_utf8: false,
        };
        let mapping = Mapping::new(&config.columns, table, str::eq_ignore_ascii_case)?;
        let column = |(index, column): (usize, &TableColumn)| {
            let data_type = column_type(column, config.protocol)?;
            if !column.nullable && !mapping.is_mapped(index) {
                return Err(Error::table(&column.name, "it accepts no null, and has no mapping"));
            }
            Ok(Column::new(&rules, &column.name, data_type, column.nullable))
        };
        let columns = table.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
        let constants = config.columns.iter().filter_map(|column| column.constant.as_ref());
        let constants = constants.map(String::len).sum();
        Ok(Self { mapping, block: Block::new(config.protocol, rules, columns, constants) })
    }

    fn push(&mut self, batch: &Batch, positions: &Positions) -> Result<Rows> {
        let values = self.mapping.read(batch, positions);
        let (bytes, dirty) = self.block.push(batch, &values);
        Ok(rows(batch.len(), bytes, dirty))
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.block.finish())
    }
}

/// Parses the type of a column.
fn column_type(column: &TableColumn, protocol: Protocol) -> Result<Type> {
    let data_type = Type::parse(&column.data_type).map_err(|reason| Error::table(&column.name, reason))?;
    match data_type.without_arrow_form() {
        Some(name) if protocol == Protocol::MaxcomputeArrow => {
            let reason =
                format!("{name} has no form in Arrow record batches: set protocol = \"maxcompute-stream\"");
            Err(Error::table(&column.name, reason))
        }
        _ => Ok(data_type),
    }
}

/// Returns the rows of a batch of `logs` logs.
fn rows(logs: usize, bytes: Vec<u8>, dirty: Vec<DirtyValue>) -> Rows {
    let origins = if dirty.is_empty() {
        vec![]
    } else {
        let has_row = |log: &u32| dirty.binary_search_by_key(log, |value| value.log).is_err();
        (0..logs as u32).filter(has_row).collect()
    };
    let count = if dirty.is_empty() { logs } else { origins.len() } as u32;
    Rows { bytes, count, ends: vec![], key_ends: vec![], logs: origins, dirty }
}

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TYPES: [&str; 9] = [
        "bigint",
        "double",
        "boolean",
        "datetime",
        "string",
        "decimal(10,2)",
        "array<string>",
        "timestamp",
        "date",
    ];

    fn table(types: &[&str]) -> Table {
        let column = |(index, data_type): (usize, &&str)| TableColumn {
            name: format!("c{index}"),
            data_type: (*data_type).into(),
            nullable: true,
        };
        Table { key: vec![], columns: types.iter().enumerate().map(column).collect() }
    }

    fn mapped(count: usize, protocol: &str) -> serde_json::Value {
        let columns: Vec<_> = (0..count)
            .map(|index| json!({ "column": format!("C{index}"), "field": format!("f{index}") }))
            .collect();
        json!({ "columns": columns, "protocol": protocol })
    }

    /// Builds a batch of rows: the value of each column, or none.
    fn batch(rows: &[Vec<Option<&str>>]) -> Batch {
        let mut builder = BatchBuilder::new();
        for row in rows {
            let keys: Vec<String> = (0..row.len()).map(|index| format!("f{index}")).collect();
            let fields: Vec<_> =
                keys.iter().zip(row).filter_map(|(key, value)| Some((key.as_str(), (*value)?))).collect();
            builder = builder.log(1_796_083_200, &fields);
        }
        builder.build()
    }

    fn positions(logs: usize) -> Positions {
        Positions {
            shard: 1,
            cursors: vec![7; logs],
            indexes: (0..logs as u32).collect(),
            receive_times: vec![9; logs],
        }
    }

    /// Encodes batches as one block. Returns its bytes, and the dirty values as text.
    fn block(config: &serde_json::Value, table: &Table, batches: &[Batch]) -> (Vec<u8>, Vec<String>) {
        let mut encoder = MaxComputeRows::open(&config.to_string(), table).unwrap();
        let (mut bytes, mut dirty) = (vec![], vec![]);
        for batch in batches {
            let rows = encoder.push(batch, &positions(batch.len())).unwrap();
            let lost: std::collections::HashSet<_> = rows.dirty.iter().map(|value| value.log).collect();
            assert_eq!(rows.count as usize + lost.len(), batch.len());
            bytes.extend(rows.bytes);
            dirty.extend(
                rows.dirty
                    .into_iter()
                    .map(|value| format!("{} {}: {}", value.log, value.column, value.reason)),
            );
        }
        bytes.extend(encoder.finish().unwrap());
        (bytes, dirty)
    }

    #[test]
    fn record_stream_is_that_of_the_vendors_client() {
        let rows = [
            vec![
                Some("1"),
                Some("1.5"),
                Some("true"),
                Some("2026-12-01 00:00:00.123"),
                Some("héllo"),
                Some("12.3"),
                Some(r#"["x",null,""]"#),
                None,
                Some("2026-12-01"),
            ],
            vec![Some("-1"), None, Some("false"), None, Some(""), None, Some("[]"), None, None],
            vec![None; 9],
        ];
        let (bytes, dirty) = block(&mapped(9, "maxcompute-stream"), &table(&TYPES), &[batch(&rows)]);
        assert_eq!(
            hex::encode(bytes),
            "080211000000000000f83f180120f6c1b5eec5682a0668c3a96c6c6f320531322e33303a0300017801000048e8c40280c0ff7fe9c9e3dc02080118002a003a0080c0ff7fcaf0963b80c0ff7f00f0ffff7f06f8ffff7fc588f1b702"
        );
        assert_eq!(dirty, Vec::<String>::new());
    }

    #[test]
    fn checksums_are_signed_numbers() {
        let (bytes, _) =
            block(&mapped(1, "maxcompute-stream"), &table(&["bigint"]), &[batch(&[vec![Some("2")]])]);
        assert_eq!(
            hex::encode(bytes),
            "080480c0ff7fa3b6a6c3f8ffffffff01f0ffff7f02f8ffff7ff4fefc94fdffffffff01"
        );
    }

    #[test]
    fn record_batch_is_that_of_the_vendors_client() {
        // The message of pyarrow, in a chunk that isn't full.
        let message = "ffffffffc800000014000000000000000c0016000600050008000c000c00000000030400180000004000000000000000\
             00000a0018000c00040008000a0000006c00000010000000030000000000000000000000050000000000000000000000\
             010000000000000008000000000000001800000000000000200000000000000001000000000000002800000000000000\
             100000000000000038000000000000000300000000000000000000000200000003000000000000000100000000000000\
             030000000000000001000000000000000500000000000000010000000000000000000000000000000300000000000000\
             0500000000000000000000000200000002000000030000006162630000000000";
        let rows = [vec![Some("1"), Some("ab")], vec![None, None], vec![Some("3"), Some("c")]];
        let (bytes, _) =
            block(&mapped(2, "maxcompute-arrow"), &table(&["bigint", "string"]), &[batch(&rows)]);
        let message = hex::decode(message).unwrap();
        let checksum = crc32c::crc32c(&message).to_be_bytes();
        assert_eq!(bytes, [&65_536u32.to_be_bytes()[..], &message, &checksum].concat());
    }

    #[test]
    fn each_value_that_does_not_convert_is_named() {
        let types = ["tinyint", "decimal(4,2)", "date", "map<string,bigint>", "struct<a:int>", "varchar(2)"];
        let good = vec![
            Some("-128"),
            Some("99.994"),
            Some("2026-12-01"),
            Some(r#"{"a":1}"#),
            Some(r#"{"A":1}"#),
            Some("abc"),
        ];
        let bad = vec![
            Some("128"),
            Some("99.995"),
            Some("2026-13-01"),
            Some(r#"{"a":"x"}"#),
            Some(r#"{"a":[]}"#),
            Some("ok"),
        ];
        for protocol in Protocol::NAMES {
            let config = mapped(types.len(), protocol);
            let rows = [good.clone(), bad.clone(), good.clone()];
            let (bytes, dirty) = block(&config, &table(&types), &[batch(&rows)]);
            let expected = [
                r#"1 c0: "128" is not a whole number of 8 bits"#,
                r#"1 c1: "99.995" has more digits before the point than decimal(4,2)"#,
                r#"1 c2: "2026-13-01" is not a date, such as 2026-12-01"#,
                r#"1 c3: "x" is not a whole number of 64 bits"#,
                r#"1 c4: field a: "[]" is not a whole number of 32 bits"#,
            ];
            assert_eq!(dirty, expected, "{protocol}");
            let (without, _) = block(&config, &table(&types), &[batch(&[good.clone(), good.clone()])]);
            assert_eq!(bytes, without, "{protocol}: a dirty row leaves no trace");
        }
    }

    #[test]
    fn options_turn_values_into_null() {
        let types = ["string", "bigint", "datetime"];
        let rows = [vec![Some(""), Some(""), Some("yesterday")]];
        let mut config = mapped(3, "maxcompute-stream");
        let (_, dirty) = block(&config, &table(&types), &[batch(&rows)]);
        assert_eq!(dirty.len(), 2, "{dirty:?}");
        config["empty-as-null"] = true.into();
        config["invalid-dates-as-null"] = true.into();
        let (bytes, dirty) = block(&config, &table(&types), &[batch(&rows)]);
        let (nulls, _) = block(&config, &table(&types), &[batch(&[vec![None; 3]])]);
        assert_eq!((bytes, dirty), (nulls, vec![]));
    }

    #[test]
    fn properties_of_logs_convert_to_their_columns() {
        let types = ["datetime", "bigint", "string", "date", "timestamp", "int", "string", "bigint"];
        let properties = ["time", "time", "receive_time", "time", "time", "shard", "cursor", "index"];
        let columns: Vec<_> = (0..)
            .zip(properties)
            .map(|(index, property)| json!({ "column": format!("c{index}"), "system": property }))
            .collect();
        let config = json!({ "columns": columns, "protocol": "maxcompute-stream", "utc-offset": "+08:00" });
        let logs = BatchBuilder::new().log(1_796_083_200, &[]).build();
        let (bytes, dirty) = block(&config, &table(&types), &[logs]);
        let texts =
            ["2026-12-01 08:00:00", "1796083200", "9", "2026-12-01", "2026-12-01T00:00:00Z", "1", "7", "0"];
        let mut config = mapped(8, "maxcompute-stream");
        config["utc-offset"] = "+08:00".into();
        let (expected, _) = block(&config, &table(&types), &[batch(&[texts.map(Some).to_vec()])]);
        assert_eq!((bytes, dirty), (expected, vec![]));
    }

    #[test]
    fn null_is_dirty_where_none_may_be() {
        let mut strict = table(&["string", "string"]);
        strict.columns[1].nullable = false;
        let rows = [vec![None, Some("")], vec![Some("x"), None]];
        let (_, dirty) = block(&mapped(2, "maxcompute-arrow"), &strict, &[batch(&rows)]);
        assert_eq!(dirty, ["1 c1: it is null, and the column accepts no null"]);
        let error = MaxComputeRows::open(&mapped(1, "maxcompute-arrow").to_string(), &strict).unwrap_err();
        assert_eq!(error.to_string(), "the table: column c1: it accepts no null, and has no mapping");
    }

    #[test]
    fn rejects_types_without_an_arrow_form() {
        let open = |protocol: &str, data_type: &str| {
            MaxComputeRows::open(&mapped(1, protocol).to_string(), &table(&[data_type])).map(drop)
        };
        for data_type in ["json", "array<json>", "interval_year_month"] {
            assert!(
                matches!(open("maxcompute-arrow", data_type), Err(Error::InvalidTable { .. })),
                "{data_type}"
            );
            assert!(open("maxcompute-stream", data_type).is_ok(), "{data_type}");
        }
        assert!(
            open("maxcompute-stream", "blob")
                .unwrap_err()
                .to_string()
                .contains("the type \"blob\" is unknown")
        );
    }

    proptest! {
        #[test]
        fn blocks_do_not_depend_on_chunks(
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of("[0-9a-z.-]{0,5}"), 4..5), 1..60),
            cut in 1usize..9,
        ) {
            let types = ["bigint", "string", "decimal(5,1)", "boolean"];
            let rows: Vec<Vec<Option<&str>>> =
                rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
            for protocol in Protocol::NAMES {
                let config = mapped(4, protocol);
                let (whole, all) = block(&config, &table(&types), &[batch(&rows)]);
                let parts: Vec<Batch> = rows.chunks(cut).map(batch).collect();
                let (cut, some) = block(&config, &table(&types), &parts);
                prop_assert_eq!((whole, all.len()), (cut, some.len()));
            }
        }
    }
}

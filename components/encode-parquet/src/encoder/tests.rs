use std::collections::HashMap;

use bytes::Bytes;
use logship_stage::BatchBuilder;
use parquet::basic::{Compression as Codec, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::record::{Field, Row};
use proptest::prelude::*;

use super::*;

mod losses;

fn encode(config: &str, batches: &[Batch]) -> Vec<u8> {
    let mut encoder = ParquetEncoder::open(config).unwrap();
    let mut bytes = Vec::new();
    for batch in batches {
        bytes.extend(encoder.push(batch).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

fn reader(bytes: Vec<u8>) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(Bytes::from(bytes)).unwrap()
}

fn rows(bytes: Vec<u8>) -> Vec<Vec<Field>> {
    let fields = |row: parquet::errors::Result<Row>| {
        row.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect()
    };
    reader(bytes).get_row_iter(None).unwrap().map(fields).collect()
}

fn text(text: &str) -> Field {
    Field::Str(text.into())
}

const ALL_TYPES: &str = r#"{"columns": [
    {"key": "s"},
    {"key": "b", "type": "boolean"},
    {"key": "i", "type": "int32"},
    {"key": "l", "type": "int64"},
    {"key": "f", "type": "float"},
    {"key": "d", "type": "double"}
]}"#;

#[test]
fn values_convert_or_become_null() {
    let batch = BatchBuilder::new()
        .log(1, &[("s", "x"), ("b", "True"), ("i", "-7"), ("l", "5000000000"), ("f", "1.5"), ("d", "1e300")])
        .log(2, &[("s", ""), ("b", ""), ("i", ""), ("l", ""), ("f", ""), ("d", "")])
        .log(3, &[("other", "1")])
        .log(4, &[("i", "1"), ("i", "2"), ("b", "0"), ("b", "maybe")])
        .log_bytes(5, &[("s", b"a\xffb"), ("i", b"\xff")])
        .build();
    let null = || Field::Null;
    let expected = vec![
        vec![
            text("x"),
            Field::Bool(true),
            Field::Int(-7),
            Field::Long(5_000_000_000),
            Field::Float(1.5),
            Field::Double(1e300),
        ],
        vec![text(""), null(), null(), null(), null(), null()],
        vec![null(), null(), null(), null(), null(), null()],
        vec![null(), null(), Field::Int(2), null(), null(), null()],
        vec![text("a\u{fffd}b"), null(), null(), null(), null(), null()],
    ];
    assert_eq!(rows(encode(ALL_TYPES, &[batch])), expected);
}

#[test]
fn reserved_keys_convert_like_fields() {
    let column = |key: &str, kind: &str| format!(r#"{{"key": "{key}", "type": "{kind}"}}"#);
    let config = |columns: [String; 4]| format!(r#"{{"columns": [{}]}}"#, columns.join(","));
    let batch = BatchBuilder::new()
        .group("12", "10.0.0.1", &[("zone", "0.5")])
        .log(2_147_483_647, &[])
        .log(2_147_483_648, &[])
        .build();
    let batch = std::slice::from_ref(&batch);
    let time = |kind: &str| {
        let rest = ["a", "b", "c"].map(|key| column(key, "string"));
        let [a, b, c] = rest;
        let rows = rows(encode(&config([column("__time__", kind), a, b, c]), batch));
        rows.into_iter().map(|mut row| row.swap_remove(0)).collect::<Vec<_>>()
    };
    assert_eq!(time("int32"), [Field::Int(i32::MAX), Field::Null]);
    assert_eq!(time("int64"), [Field::Long(2_147_483_647), Field::Long(2_147_483_648)]);
    assert_eq!(time("string"), [text("2147483647"), text("2147483648")]);
    assert_eq!(time("double"), [Field::Double(2_147_483_647.0), Field::Double(2_147_483_648.0)]);
    assert_eq!(time("boolean"), [Field::Null, Field::Null]);

    let shared = [
        column("__topic__", "int32"),
        column("__source__", "string"),
        column("__tag__:zone", "float"),
        column("__tag__:none", "string"),
    ];
    let row = vec![Field::Int(12), text("10.0.0.1"), Field::Float(0.5), Field::Null];
    assert_eq!(rows(encode(&config(shared), batch)), [row.clone(), row]);
}

#[test]
fn schema_matches_readers_expectations() {
    let file = reader(encode(ALL_TYPES, &[]));
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, file.metadata().file_metadata().schema());
    let expected = "message log {\n  OPTIONAL BYTE_ARRAY s (STRING);\n  OPTIONAL BOOLEAN b;\n  OPTIONAL INT32 i;\n  OPTIONAL INT64 l;\n  OPTIONAL FLOAT f;\n  OPTIONAL DOUBLE d;\n}\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let column = file.metadata().file_metadata().schema_descr().column(0);
    assert_eq!(column.converted_type(), parquet::basic::ConvertedType::UTF8);
    assert_eq!(file.metadata().file_metadata().num_rows(), 0);
    let created_by = file.metadata().file_metadata().created_by().unwrap();
    assert_eq!(created_by, format!("logship version {} (build encode-parquet)", env!("CARGO_PKG_VERSION")));
}

#[test]
fn rejects_invalid_configurations_by_setting() {
    for (config, expected) in [
        ("", "missing field `columns`"),
        (r#"{"columns": []}"#, "columns: no columns; name the keys to ship"),
        (r#"{"columns": [{"key": "a"}, {"key": "a", "type": "int32"}]}"#, "columns[1]: key \"a\""),
        (r#"{"columns": [{"key": ""}]}"#, "columns[0]: empty key"),
        (r#"{"columns": [{"key": "a", "kind": "int32"}]}"#, "columns[0].kind: unknown field"),
        (r#"{"columns": [{"key": "a", "type": "int8"}]}"#, "columns[0].type: unknown variant `int8`"),
        (r#"{"columns": [{"key": "a"}], "compression": "gzip"}"#, "compression: unknown variant `gzip`"),
        (r#"{"columns": [{"key": "a"}], "page": 1}"#, "page: unknown field"),
        (
            r#"{"columns": [{"key": "a"}], "row_group_bytes": 1}"#,
            "row_group_bytes: 1 bytes is out of range; use 1048576",
        ),
    ] {
        let error = ParquetEncoder::open(config).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{config}: {error}");
    }
}

/// Columns of every kind: few, many, long, sorted or no values, and nulls.
const MIXED: &str = r#"{"columns": [
    {"key": "__time__", "type": "int64"},
    {"key": "__topic__"},
    {"key": "few"},
    {"key": "many"},
    {"key": "some", "type": "int32"},
    {"key": "late"},
    {"key": "number", "type": "double"},
    {"key": "flag", "type": "boolean"},
    {"key": "gone"}
], "row_group_bytes": 1048576, "compression": "COMPRESSION"}"#;

type Log = Vec<(&'static str, String)>;

fn mixed(count: u64) -> Vec<Log> {
    let log = |index: u64| {
        let noise = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut log = vec![
            ("few", ["GET", "POST", "PUT"][(noise >> 60) as usize % 3].to_owned()),
            ("many", format!("{noise:016x}{:016x}", noise.rotate_left(17))),
            ("number", format!("0.{}", noise >> 52)),
        ];
        if noise >> 40 & 3 > 0 {
            log.push(("some", (noise >> 50).to_string()));
        }
        if noise >> 33 & 7 > 2 {
            log.push(("flag", (noise >> 45 & 1).to_string()));
        }
        if index > count / 3 {
            // A dictionary that saves space at first and becomes full later.
            log.push((
                "late",
                if index < count / 2 { "same".into() } else { format!("{noise:x}").repeat(5) },
            ));
        }
        log
    };
    (0..count).map(log).collect()
}

fn batches(logs: &[Log], cuts: impl Iterator<Item = usize>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut rest = logs;
    let mut time = 1_484_913_043;
    for cut in cuts {
        let (chunk, others) = rest.split_at(cut.min(rest.len()));
        rest = others;
        let mut batch = BatchBuilder::new().group("nginx", "", &[]);
        for log in chunk {
            time += 1;
            let fields: Vec<_> = log.iter().map(|(key, value)| (*key, value.as_str())).collect();
            batch = batch.log(time, &fields);
        }
        batches.push(batch.build());
        if rest.is_empty() {
            break;
        }
    }
    batches
}

#[test]
fn files_with_several_row_groups_round_trip_with_statistics() {
    let logs = mixed(60_000);
    for (compression, codec) in [("none", Codec::UNCOMPRESSED), ("snappy", Codec::SNAPPY)] {
        let bytes =
            encode(&MIXED.replace("COMPRESSION", compression), &batches(&logs, std::iter::repeat(5000)));
        let file = reader(bytes.clone());
        assert!(file.num_row_groups() > 3);
        for group in file.metadata().row_groups() {
            for chunk in group.columns() {
                assert_eq!(chunk.compression(), codec);
                let statistics = chunk.statistics().unwrap();
                assert!(statistics.null_count_opt().is_some());
                let all_null = statistics.null_count_opt() == Some(chunk.num_values() as u64);
                assert_eq!(statistics.min_bytes_opt().is_none(), all_null);
            }
            let encodings = |column: usize| group.column(column).encodings().collect::<Vec<_>>();
            assert!(encodings(2).contains(&Encoding::PLAIN_DICTIONARY));
            assert!(!encodings(3).contains(&Encoding::PLAIN_DICTIONARY));
        }
        let rows = rows(bytes);
        assert_eq!(rows.len(), logs.len());
        for (index, (row, log)) in rows.iter().zip(&logs).enumerate() {
            let fields: HashMap<_, _> = log.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let get = |key: &str| fields.get(key).map_or(Field::Null, |value| text(value));
            let expected = [
                Field::Long(1_484_913_044 + index as i64),
                text("nginx"),
                get("few"),
                get("many"),
                fields.get("some").map_or(Field::Null, |some| Field::Int(some.parse().unwrap())),
                get("late"),
                Field::Double(fields["number"].parse().unwrap()),
                fields.get("flag").map_or(Field::Null, |&flag| Field::Bool(flag == "1")),
                Field::Null,
            ];
            assert_eq!(*row, expected, "log {index}");
        }
    }
}

#[test]
fn statistics_bound_the_values() {
    let batch = BatchBuilder::new()
        .log(1, &[("s", "b"), ("i", "3"), ("d", "-0.5"), ("b", "true")])
        .log(2, &[("s", "abc"), ("i", "-3")])
        .log(3, &[("i", "10"), ("d", "2")])
        .build();
    let file = reader(encode(ALL_TYPES, &[batch]));
    let group = file.metadata().row_group(0);
    let both = |column: usize| group.column(column).statistics().unwrap().clone();
    assert_eq!(
        both(0),
        Statistics::byte_array(Some("abc".into()), Some("b".into()), None, Some(1), false).clone()
    );
    match both(2) {
        Statistics::Int32(both) => assert_eq!((both.min_opt(), both.max_opt()), (Some(&-3), Some(&10))),
        other => panic!("{other:?}"),
    }
    match both(5) {
        Statistics::Double(both) => {
            assert_eq!((both.min_opt(), both.max_opt()), (Some(&-0.5), Some(&2.0)));
            assert_eq!(both.null_count_opt(), Some(1));
        }
        other => panic!("{other:?}"),
    }
    match both(1) {
        Statistics::Boolean(both) => {
            assert_eq!((both.min_opt(), both.max_opt()), (Some(&true), Some(&true)))
        }
        other => panic!("{other:?}"),
    }
}

/// Returns `size` and the file's length for each prefix of the logs.
fn sizes(logs: &[Log], cuts: &[usize]) -> Vec<(u64, u64)> {
    let config = MIXED.replace("COMPRESSION", "none");
    let mut sizes = Vec::new();
    for end in 0..cuts.len() {
        let mut encoder = ParquetEncoder::open(&config).unwrap();
        let mut len = 0;
        for batch in batches(logs, cuts[..=end].iter().copied()) {
            len += encoder.push(&batch).unwrap().len() as u64;
        }
        let size = encoder.size();
        sizes.push((size, len + encoder.finish().unwrap().len() as u64));
    }
    sizes
}

#[test]
fn size_is_a_close_upper_bound_of_the_file() {
    let cuts: Vec<_> = [1, 10, 100, 500, 2000].into_iter().chain([3001; 16]).collect();
    for (size, len) in sizes(&mixed(50_000), &cuts) {
        assert!(size >= len, "{size} < {len}");
        assert!(len < 4_000_000 || size as f64 <= len as f64 * 1.3, "{size} > 1.3 * {len}");
    }
    let empty = ParquetEncoder::open(&MIXED.replace("COMPRESSION", "none")).unwrap();
    assert!(empty.size() >= empty.finish().unwrap().len() as u64);
}

#[test]
fn size_includes_the_footer_of_small_files_with_long_keys() {
    let value = "x".repeat(200);
    for key_len in [1, 100, 1000, 50_000] {
        let keys: Vec<_> = (0..20).map(|index| format!("{index:x<key_len$}")).collect();
        let columns: Vec<_> = keys.iter().map(|key| format!(r#"{{"key": "{key}"}}"#)).collect();
        let fields: Vec<_> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
        let config = format!(r#"{{"columns": [{}]}}"#, columns.join(","));
        let mut encoder = ParquetEncoder::open(&config).unwrap();
        let mut len = encoder.push(&BatchBuilder::new().log(1, &fields).build()).unwrap().len() as u64;
        let size = encoder.size();
        len += encoder.finish().unwrap().len() as u64;
        assert!(size >= len, "keys of {key_len} bytes: {size} < {len}");
    }
}

#[test]
fn size_of_compressed_objects_is_uncompressed() {
    let batches = batches(&mixed(20_000), std::iter::repeat(1000));
    let sizes = ["none", "snappy"].map(|compression| {
        let mut encoder = ParquetEncoder::open(&MIXED.replace("COMPRESSION", compression)).unwrap();
        batches.iter().for_each(|batch| drop(encoder.push(batch).unwrap()));
        encoder.size()
    });
    assert!(sizes[0].abs_diff(sizes[1]) < 1000, "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn output_is_independent_of_chunks(cuts in prop::collection::vec(0..9000usize, 1..12)) {
        let logs = mixed(30_000);
        let config = MIXED.replace("COMPRESSION", "snappy");
        let at_once = encode(&config, &batches(&logs, std::iter::once(usize::MAX)));
        let cut = encode(&config, &batches(&logs, cuts.into_iter().chain([usize::MAX])));
        prop_assert!(at_once == cut);
    }
}

proptest! {
    #[test]
    fn output_round_trips_through_another_reader(
        topic: String,
        logs in prop::collection::vec(
            (any::<u32>(), prop::collection::vec(("[abc]", prop_oneof![any::<Vec<u8>>(), "-?[0-9]{1,20}".prop_map(Vec::from)]), 0..6)),
            0..40,
        ),
    ) {
        let config = r#"{"columns": [{"key": "a"}, {"key": "b", "type": "int64"}, {"key": "c", "type": "double"},
            {"key": "__topic__"}, {"key": "__time__", "type": "int32"}], "compression": "snappy"}"#;
        let mut builder = BatchBuilder::new().group(&topic, "s", &[]);
        for (time, fields) in &logs {
            let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            builder = builder.log_bytes(*time, &fields);
        }
        let rows = rows(encode(config, &[builder.build()]));
        let expected: Vec<_> = logs.iter().map(|(time, fields)| {
            let get = |key: &str| {
                let value = fields.iter().rev().find(|(name, _)| name == key);
                value.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            vec![
                get("a").map_or(Field::Null, Field::Str),
                get("b").and_then(|b| b.parse().ok()).map_or(Field::Null, Field::Long),
                get("c").and_then(|c| c.parse().ok()).filter(|c: &f64| c.is_finite()).map_or(Field::Null, Field::Double),
                text(&topic),
                i32::try_from(*time).map_or(Field::Null, Field::Int),
            ]
        }).collect();
        prop_assert_eq!(rows, expected);
    }
}

#[test]
fn table_with_many_columns_needs_little_memory() {
    let columns: Vec<_> = (0..3_000).map(|column| format!(r#"{{"key":"k{column}"}}"#)).collect();
    let config = format!(r#"{{"columns":[{}]}}"#, columns.join(","));
    let fields: Vec<_> = (0..3_000).map(|column| format!("k{column}")).collect();
    let fields: Vec<_> = fields.iter().map(|key| (key.as_str(), "v")).collect();
    let batch = BatchBuilder::new().log(1, &fields).log(2, &[("k1", "v")]).build();
    let found = rows(encode(&config, &[batch]));
    assert_eq!((found.len(), &found[0][2_999], &found[1][2_999]), (2, &text("v"), &Field::Null));
}

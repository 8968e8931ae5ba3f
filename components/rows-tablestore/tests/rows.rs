//! The rows of logs, read back.

use logship_stage::rows::{Column, Positions, Rows, Table};
use logship_stage::{Batch, BatchBuilder, RowEncoder};
use rows_tablestore::TableStoreRows;

fn column(name: &str, data_type: &str) -> Column {
    Column { name: name.into(), data_type: data_type.into(), nullable: true }
}

fn table(columns: &[(&str, &str)]) -> Table {
    let columns = columns.iter().map(|(name, data_type)| column(name, data_type)).collect();
    Table { key: vec![column("id", "integer")], columns }
}

fn open(config: &str, table: &Table) -> logship_stage::Result<TableStoreRows> {
    TableStoreRows::open(config, table)
}

fn positions(batch: &Batch) -> Positions {
    let count = batch.len();
    let indexes = (0..count as u32).collect();
    Positions { shard: 3, cursors: vec![7; count], indexes, receive_times: vec![9; count] }
}

/// The cells of a row: name and value.
fn cells(row: &[u8]) -> Vec<(String, String)> {
    let mut at = 4;
    let mut cells = vec![];
    let number = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().unwrap()) as usize;
    while row[at] != 0x09 {
        match row[at] {
            0x01..=0x03 => at += 1,
            0x04 => {
                let end = at + 5 + number(at + 1);
                let name = String::from_utf8(row[at + 5..end].to_vec()).unwrap();
                let length = number(end + 1);
                let value = &row[end + 5..end + 5 + length];
                let shown = match value[0] {
                    0 => i64::from_le_bytes(value[1..].try_into().unwrap()).to_string(),
                    1 => f64::from_le_bytes(value[1..].try_into().unwrap()).to_string(),
                    2 => (value[1] == 1).to_string(),
                    _ => String::from_utf8_lossy(&value[5..]).into_owned(),
                };
                cells.push((name, shown));
                at = end + 5 + length;
            }
            0x07 => {
                let (_, value) = cells.last_mut().unwrap();
                *value += &format!("@{}", i64::from_le_bytes(row[at + 1..at + 9].try_into().unwrap()));
                at += 9;
            }
            0x0a => at += 2,
            other => panic!("tag {other}"),
        }
    }
    assert_eq!(at + 2, row.len());
    cells
}

fn rows(config: &str, table: &Table, batch: &Batch) -> (Vec<Vec<(String, String)>>, Rows) {
    let rows = open(config, table).unwrap().push(batch, &positions(batch)).unwrap();
    let begins = [0].into_iter().chain(rows.ends.iter().copied());
    let read = begins
        .zip(&rows.ends)
        .map(|(begin, &end)| cells(&rows.bytes[begin as usize..end as usize]))
        .collect();
    assert_eq!((rows.ends.len(), rows.key_ends.len()), (rows.count as usize, rows.count as usize));
    (read, rows)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const BY_INDEX: &str = r#"{"columns":[{"column":"id","system":"index"}]}"#;

#[test]
fn other_fields_and_properties_are_texts_of_their_own() {
    let batch = BatchBuilder::new()
        .group("topic", "", &[("host", "a"), ("host", "b")])
        .log(5, &[("user-agent", "x"), ("a", "1"), ("a", "2")])
        .log(6, &[])
        .build();
    let (read, rows) = rows(BY_INDEX, &table(&[]), &batch);
    let properties =
        |id, time| [("id", id), ("__time__", time), ("__topic__", "topic"), ("__tag___host", "b")];
    assert_eq!(read[0], pairs(&[&properties("0", "5")[..], &[("user_agent", "x"), ("a", "2")]].concat()));
    assert_eq!(read[1], pairs(&properties("1", "6")));
    assert!(rows.dirty.is_empty() && rows.logs.is_empty());
}

#[test]
fn mapped_columns_have_types_and_use_up_their_keys() {
    let config = r#"{"columns":[{"column":"id","field":"key"},{"column":"n","field":"number"},{"column":"d","field":"d"},
        {"column":"ok","field":"ok"},{"column":"raw","field":"raw"},{"column":"at","field":"__time__"},
        {"column":"kind","constant":"web"},{"column":"cursor","system":"cursor"}],
        "bases":{"n":16},"exclude":["secret","__topic__"]}"#;
    let table = table(&[
        ("n", "integer"),
        ("d", "double"),
        ("ok", "boolean"),
        ("raw", "binary"),
        ("at", "string"),
        ("kind", "string"),
        ("cursor", "integer"),
    ]);
    let fields: &[(&str, &[u8])] = &[
        ("key", b"12"),
        ("number", b"ff"),
        ("d", b"1.5"),
        ("ok", b"True"),
        ("raw", b"z"),
        ("secret", b"s"),
        ("rest", b"r"),
    ];
    let batch = BatchBuilder::new().group("topic", "", &[]).log_bytes(5, fields).build();
    let (read, _) = rows(config, &table, &batch);
    let expected = [
        ("id", "12"),
        ("n", "255"),
        ("d", "1.5"),
        ("ok", "true"),
        ("raw", "z"),
        ("at", "5"),
        ("kind", "web"),
        ("cursor", "7"),
        ("rest", "r"),
    ];
    assert_eq!(read, [pairs(&expected)]);
}

#[test]
fn versions_are_the_times_of_logs() {
    let config =
        r#"{"columns":[{"column":"id","system":"index"}],"version":"log-time","exclude":["__time__"]}"#;
    let batch = BatchBuilder::new().group("", "", &[]).log(5, &[("a", "1")]).build();
    let (read, _) = rows(config, &table(&[]), &batch);
    assert_eq!(read, [pairs(&[("id", "0"), ("a", "1@5000")])]);
}

#[test]
fn dirty_rows_name_column_and_problem() {
    let config = r#"{"columns":[{"column":"id","field":"key"},{"column":"n","field":"n"}]}"#;
    let long = "x".repeat((2 << 20) + 1);
    let batch = BatchBuilder::new()
        .group("", "", &[])
        .log(1, &[("key", "1"), ("n", "2")])
        .log(2, &[("n", "2")])
        .log(3, &[("key", "x"), ("n", "y")])
        .log(4, &[("key", "1"), ("long", &long)])
        .log(5, &[("key", "1"), ("a-b", "1"), ("a_b", "2")])
        .log(6, &[("key", "1"), ("id", "1")])
        .log(7, &[("key", "7")])
        .log_bytes(8, &[("key", b"8"), ("bytes", b"\xff")])
        .build();
    let (read, rows) = rows(config, &table(&[("n", "integer")]), &batch);
    assert_eq!(read[1], pairs(&[("id", "7"), ("__time__", "7")]));
    assert_eq!((rows.logs.as_slice(), rows.count), (&[0, 6][..], 2));
    let dirty: Vec<_> =
        rows.dirty.iter().map(|dirty| (dirty.log, dirty.column.as_str(), dirty.reason.as_str())).collect();
    for (found, (log, column, problem)) in dirty.iter().zip([
        (1, "id", "is missing"),
        (2, "id", "\"x\" is no integer"),
        (2, "n", "\"y\" is no integer"),
        (3, "long", "has 2097153 bytes"),
        (4, "a_b", "several keys"),
        (5, "id", "several keys"),
        (7, "bytes", "not UTF-8"),
    ]) {
        assert!(found.0 == log && found.1 == column && found.2.contains(problem), "{found:?}");
    }
    assert_eq!(dirty.len(), 7);
}

#[test]
fn limits_of_rows_make_them_dirty() {
    let wide: Vec<_> = (0..1025).map(|number| (format!("c{number}"), "1")).collect();
    let wide: Vec<_> = wide.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let large = "x".repeat(2 << 20);
    let batch = BatchBuilder::new()
        .group("", "", &[])
        .log(1, &wide)
        .log(2, &wide[..1023])
        .log(3, &[("a", &large), ("b", &large)])
        .log(4, &[("a", &large)])
        .build();
    let (_, rows) = rows(BY_INDEX, &table(&[]), &batch);
    assert_eq!(rows.logs, [1, 3]);
    assert!(rows.dirty[0].reason.contains("columns are too many") && rows.dirty[1].reason.contains("bytes"));
}

#[test]
fn rejects_invalid_configurations_and_tables() {
    let problem = |config: &str, table: &Table| open(config, table).unwrap_err().to_string();
    let right = table(&[("n", "integer")]);
    open(BY_INDEX, &right).unwrap();
    assert!(problem(r#"{"columns":[]}"#, &right).contains("column id: is a column of the primary key"));
    assert!(problem(BY_INDEX, &table(&[("n", "decimal")])).contains("unknown type \"decimal\""));
    assert!(problem(BY_INDEX, &table(&[("a-b", "string")])).contains("column a-b: is no name"));
    let without_key = Table { key: vec![], columns: vec![] };
    assert!(problem(r#"{"columns":[]}"#, &without_key).contains("no primary key"));
    let double = Table { key: vec![column("id", "double")], columns: vec![] };
    assert!(problem(BY_INDEX, &double).contains("a column of the primary key is"));
    for (bases, expected) in
        [(r#"{"n":1}"#, "bases.n: 1 is no base"), (r#"{"x":8}"#, "bases.x: is no integer")]
    {
        let config = format!(r#"{{"columns":[{{"column":"id","system":"index"}}],"bases":{bases}}}"#);
        assert!(problem(&config, &right).contains(expected));
    }
}

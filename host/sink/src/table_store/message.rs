//! The messages of Table Store.

use super::protobuf::{Malformed, Value, Writer, fields};
use super::table::{KeyColumn, KeyType, TableSchema};

/// The kind of a write in a request.
const PUT: i64 = 1;
const UPDATE: i64 = 2;

/// Rows are written whether they exist or not.
const IGNORE: i64 = 0;

/// The value of `option` for auto-increment.
const AUTO_INCREMENT: u64 = 1;

/// An error in an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorMessage {
    pub(super) code: String,
    pub(super) message: String,
}

/// Returns the body of `CreateTable`.
pub(super) fn create_table(name: &str, schema: &TableSchema) -> Vec<u8> {
    let mut meta = Writer::default().bytes(1, name);
    for column in &schema.key {
        let column = Writer::default().bytes(1, &column.name).number(2, column.data_type.number());
        meta.push_bytes(2, column.as_ref());
    }
    let capacity = Writer::default().number(1, 0).number(2, 0);
    let throughput = Writer::default().bytes(1, capacity);
    let options = Writer::default()
        .number(1, -1)
        .number(2, schema.max_versions as i64)
        .number(5, schema.version_deviation as i64);
    Writer::default().bytes(1, meta).bytes(2, throughput).bytes(3, options).finish()
}

/// Returns the body of `DescribeTable`.
pub(super) fn describe_table(name: &str) -> Vec<u8> {
    Writer::default().bytes(1, name).finish()
}

/// Reads the answer to `DescribeTable`.
pub(super) fn table_schema(answer: &[u8]) -> Result<TableSchema, Malformed> {
    let mut schema = TableSchema { key: vec![], max_versions: 1, version_deviation: 86_400 };
    for field in fields(answer) {
        match field? {
            (1, meta) => schema.key = key_columns(meta.bytes())?,
            (3, options) => {
                for option in fields(options.bytes()) {
                    match option? {
                        (2, versions) => schema.max_versions = versions.number(),
                        (5, deviation) => schema.version_deviation = deviation.number(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if schema.key.is_empty() { Err(Malformed) } else { Ok(schema) }
}

fn key_columns(meta: &[u8]) -> Result<Vec<KeyColumn>, Malformed> {
    let mut key = vec![];
    for field in fields(meta) {
        if let (2, column) = field? {
            let mut made = KeyColumn::new("", "integer");
            for part in fields(column.bytes()) {
                match part? {
                    (1, name) => made.name = name.text(),
                    (2, number) => made.data_type = KeyType::from_number(number.number()),
                    (3, option) => made.is_auto_increment = option.number() == AUTO_INCREMENT,
                    _ => {}
                }
            }
            key.push(made);
        }
    }
    Ok(key)
}

/// Reads the answer to `ListTable`.
pub(super) fn table_names(answer: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut names = vec![];
    for field in fields(answer) {
        if let (1, name) = field? {
            names.push(name.text());
        }
    }
    Ok(names)
}

/// Returns the body of `BatchWriteRow` for rows of a table.
pub(super) fn batch_write_row<'a>(
    table: &str,
    is_update: bool,
    rows: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let condition = Writer::default().number(1, IGNORE);
    let kind = if is_update { UPDATE } else { PUT };
    let mut of_table = Writer::default().bytes(1, table);
    for row in rows {
        let row = Writer::default().number(1, kind).bytes(2, row).bytes(3, &condition);
        of_table.push_bytes(2, row.as_ref());
    }
    Writer::default().bytes(1, of_table).finish()
}

/// Reads the answer to `BatchWriteRow` for one table: the error of each row, in order.
pub(super) fn row_results(answer: &[u8]) -> Result<Vec<Option<ErrorMessage>>, Malformed> {
    let mut results = vec![];
    for table in fields(answer) {
        if let (1, table) = table? {
            for row in fields(table.bytes()) {
                if let (2, row) = row? {
                    results.push(row_result(row.bytes())?);
                }
            }
        }
    }
    Ok(results)
}

fn row_result(row: &[u8]) -> Result<Option<ErrorMessage>, Malformed> {
    let (mut is_ok, mut error) = (None, None);
    for field in fields(row) {
        match field? {
            (1, Value::Number(value)) => is_ok = Some(value != 0),
            (2, message) => error = Some(error_message(message.bytes())?),
            _ => {}
        }
    }
    match is_ok {
        Some(true) => Ok(None),
        Some(false) => Ok(Some(error.unwrap_or_default())),
        None => Err(Malformed),
    }
}

/// Reads an error.
pub(super) fn error_message(body: &[u8]) -> Result<ErrorMessage, Malformed> {
    let mut error = ErrorMessage::default();
    for field in fields(body) {
        match field? {
            (1, code) => error.code = code.text(),
            (2, message) => error.message = message.text(),
            _ => {}
        }
    }
    Ok(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_a_request_reads_as_the_one_of_an_answer() {
        let schema = TableSchema {
            key: vec![
                KeyColumn::new("a", "string"),
                KeyColumn::new("b", "binary"),
                KeyColumn::new("c", "integer"),
            ],
            max_versions: 1,
            version_deviation: 9,
        };
        // Both have the table's meta in field 1, and its options in field 3.
        assert_eq!(table_schema(&create_table("t", &schema)), Ok(schema));
        assert_eq!(table_schema(b""), Err(Malformed));
    }

    #[test]
    fn results_of_rows_keep_their_order() {
        let failed = Writer::default().bytes(1, "OTSServerBusy").bytes(2, "later");
        let table = Writer::default()
            .bytes(1, "t")
            .bytes(2, Writer::default().number(1, 1))
            .bytes(2, Writer::default().number(1, 0).bytes(2, failed))
            .bytes(2, Writer::default().number(1, 0));
        let answer = Writer::default().bytes(1, table).finish();
        let busy = ErrorMessage { code: "OTSServerBusy".into(), message: "later".into() };
        assert_eq!(row_results(&answer), Ok(vec![None, Some(busy), Some(ErrorMessage::default())]));
        let without_result = Writer::default().bytes(1, Writer::default().bytes(2, b"")).finish();
        assert_eq!(row_results(&without_result), Err(Malformed));
    }
}

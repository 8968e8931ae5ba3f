//! The stage `{{name}}`: encodes each log as a row in ClickHouse's format JSONEachRow.
//!
//! | type | values |
//! |---|---|
//! | `String` | any text |
//! | `Int64`, `UInt32`… | decimal digits in the type's range |
//! | `Float64` | a finite number |
//! | `DateTime` | the log's time (`__time__`), or Unix seconds |
//!
//! Each column has the value of the field with its name. A value that does not convert makes its log a dirty row: it has
//! no row, and the host keeps it with the reason.

mod batch;
mod config;
mod value;

use std::cell::RefCell;

use exports::logship::rows::row_encoder::{
    Description, DirtyValue, Error, Guest, GuestSession, Positions, Rows, Session, Table,
    TableProblem,
};
use logship::batch::types::LogBatch;
use serde_json::{Map, Value};
use value::Type;

wit_bindgen::generate!({ path: "wit", world: "logship:stages/row-encoder", generate_all });

/// The protocol of the rows.
const PROTOCOL: &str = "clickhouse-json-each-row";

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": { "protocol": { "const": "clickhouse-json-each-row" } }
}"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    protocol: Option<String>,
}

struct Stage;

impl Guest for Stage {
    type Session = Block;

    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocols: vec![PROTOCOL.into()],
            config_schema: SCHEMA.into(),
        }
    }
}

/// A column of the table.
struct Column {
    name: String,
    data_type: Type,
    nullable: bool,
}

/// An open block of rows.
struct Block {
    columns: Vec<Column>,
    /// A buffer, reused by all batches.
    row: RefCell<Map<String, Value>>,
}

impl GuestSession for Block {
    fn open(config: String, table: Table) -> Result<Session, Error> {
        let config: Config = config::parse(&config)?;
        if config.protocol.is_some_and(|protocol| protocol != PROTOCOL) {
            return Err(config::invalid("protocol", format!("use {PROTOCOL}")));
        }
        Ok(Session::new(Self::of(&table)?))
    }

    fn push(&self, batch: LogBatch, positions: Positions) -> Result<Rows, Error> {
        if let Some(invariant) = batch::broken_invariant(&batch) {
            return Err(Error::InvalidBatch(invariant.into()));
        }
        let logs = batch.times.len();
        if [
            positions.cursors.len(),
            positions.indexes.len(),
            positions.receive_times.len(),
        ] != [logs; 3]
        {
            return Err(Error::InvalidBatch(
                "positions must have one element per log".into(),
            ));
        }
        Ok(self.rows(&batch))
    }

    fn finish(_: Session) -> Result<Vec<u8>, Error> {
        // A row is a line, so a block has no footer.
        Ok(vec![])
    }
}

impl Block {
    fn of(table: &Table) -> Result<Self, Error> {
        let column = |column: &exports::logship::rows::row_encoder::Column| {
            let data_type = Type::parse(&column.data_type).ok_or_else(|| {
                Error::InvalidTable(TableProblem {
                    column: column.name.clone(),
                    reason: format!("the type {:?} is unknown", column.data_type),
                })
            })?;
            Ok(Column {
                name: column.name.clone(),
                data_type,
                nullable: column.nullable,
            })
        };
        let columns = table.key.iter().chain(&table.columns).map(column);
        Ok(Self {
            columns: columns.collect::<Result<_, Error>>()?,
            row: RefCell::default(),
        })
    }

    fn rows(&self, batch: &LogBatch) -> Rows {
        let mut rows = Rows {
            bytes: vec![],
            count: 0,
            ends: vec![],
            key_ends: vec![],
            logs: vec![],
            dirty: vec![],
        };
        let mut row = self.row.borrow_mut();
        for log in 0..batch.times.len() {
            row.clear();
            let dirty = self.fill(&mut row, batch, log);
            if dirty.is_empty() {
                serde_json::to_writer(&mut rows.bytes, &*row).expect("memory is written to");
                rows.bytes.push(b'\n');
                rows.ends.push(rows.bytes.len() as u32);
                rows.logs.push(log as u32);
            }
            rows.dirty.extend(dirty);
        }
        rows.count = rows.ends.len() as u32;
        rows
    }

    /// Fills in the row of a log. Returns the values that do not convert.
    fn fill(&self, row: &mut Map<String, Value>, batch: &LogBatch, log: usize) -> Vec<DirtyValue> {
        let mut dirty = vec![];
        for Column {
            name,
            data_type,
            nullable,
        } in &self.columns
        {
            // Of a repeated key the last value counts.
            let field = batch::fields(batch, log)
                .filter(|(key, _)| batch::field_name(&batch.keys[*key]) == *name)
                .last();
            let converted = match field {
                _ if name == "__time__" => Ok(batch.times[log].into()),
                Some((_, value)) => data_type.convert(value),
                None if *nullable => Ok(Value::Null),
                None => Err("the log lacks the field, and the column accepts no null".into()),
            };
            match converted {
                Ok(value) => drop(row.insert(name.clone(), value)),
                Err(reason) => dirty.push(DirtyValue {
                    log: log as u32,
                    column: name.clone(),
                    reason,
                }),
            }
        }
        dirty
    }
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logship::batch::types::LogGroup;

    #[test]
    fn logs_become_rows_or_dirty_rows() {
        let column = |name: &str, data_type: &str| exports::logship::rows::row_encoder::Column {
            name: name.into(),
            data_type: data_type.into(),
            nullable: true,
        };
        let columns = vec![
            column("__time__", "DateTime"),
            column("path", "String"),
            column("status", "UInt16"),
        ];
        let block = Block::of(&Table {
            key: vec![],
            columns,
        })
        .ok()
        .unwrap();
        let batch = LogBatch {
            groups: vec![LogGroup {
                topic: String::new(),
                source: String::new(),
                tags: vec![],
            }],
            keys: vec!["path".into(), "status".into()],
            times: vec![7, 8],
            nanos: vec![],
            log_groups: vec![0, 0],
            field_ends: vec![1, 3],
            field_keys: vec![0, 0, 1],
            value_ends: vec![2, 4, 6],
            values: b"/a/bno".to_vec(),
        };
        let rows = block.rows(&batch);
        assert_eq!(
            rows.bytes,
            b"{\"__time__\":7,\"path\":\"/a\",\"status\":null}\n"
        );
        assert_eq!((rows.count, rows.logs), (1, vec![0]));
        assert_eq!(
            (rows.dirty[0].log, rows.dirty[0].column.as_str()),
            (1, "status")
        );
        assert_eq!(
            rows.dirty[0].reason,
            "\"no\" is not a whole number of 0 to 65535"
        );
    }
}

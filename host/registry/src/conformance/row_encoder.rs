use std::io::Write;
use std::sync::Arc;

use serde_json::json;
use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::batches::{self, COLUMNS};
use crate::conformance::contract;
use crate::conformance::description::with_member;
use crate::conformance::encoder::{refuses_broken, takes_hostile};
use crate::conformance::stream::{Baseline, Chunk, ChunkedInstance, Stream};
use crate::conformance::suite::{At, Checked, Problem, Suite};
use logship_batch::batch::LogBatch;
use logship_runtime::stage::{
    Positions, RowColumn, RowEncoderInstance, RowEncoderStage, Rows, StageError, Table,
};

/// The names of text types, in the words of known databases.
const TEXT_TYPES: [&str; 5] = ["string", "String", "text", "varchar(65535)", "VARCHAR"];

/// The column of the primary key.
const KEY: &str = "id";

/// An instance of a row encoder whose blocks have rows of one table.
struct Blocks {
    instance: RowEncoderInstance,
    table: Table,
    /// The dirty values of open blocks, as text.
    dirty: Vec<(ResourceAny, Vec<u8>)>,
}

impl Blocks {
    fn new(stage: &RowEncoderStage, table: &Table) -> Result<Self, StageError> {
        Ok(Self { instance: stage.instance()?, table: table.clone(), dirty: vec![] })
    }
}

impl ChunkedInstance for Blocks {
    type Chunk = LogBatch;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        let session = self.instance.open(config, &self.table)?;
        self.dirty.push((session, vec![]));
        Ok(session)
    }

    /// Returns the block's bytes, and if rows are separable, each row after the number of its log.
    fn push(&mut self, session: ResourceAny, batch: &LogBatch, first: usize) -> Result<Vec<u8>, StageError> {
        let rows = self.instance.push(session, batch, &positions(batch, first))?;
        if let Some((_, dirty)) = self.dirty.iter_mut().find(|(open, _)| *open == session) {
            for value in &rows.dirty {
                let log = first + value.log as usize;
                writeln!(dirty, "{log} {} {}", value.column, value.reason).expect("memory is written to");
            }
        }
        if rows.ends.is_empty() {
            return Ok(rows.bytes);
        }
        let mut out = Vec::with_capacity(rows.bytes.len() + 16 * rows.ends.len());
        for (log, key, row) in each(&rows) {
            write!(out, "{} {key} ", first + log).expect("memory is written to");
            out.extend_from_slice(row);
            out.push(b'\n');
        }
        Ok(out)
    }

    fn finish(&mut self, session: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        let mut bytes = self.instance.finish(session)?;
        if let Some(at) = self.dirty.iter().position(|(open, _)| *open == session) {
            bytes.extend(self.dirty.swap_remove(at).1);
        }
        Ok((vec![], bytes))
    }

    fn discard(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.dirty.retain(|(open, _)| *open != session);
        self.instance.discard(session)
    }

    fn memory(&self) -> usize {
        self.instance.memory()
    }
}

/// Returns the rows, each with the index of its log in the batch and the length of its key.
fn each(rows: &Rows) -> impl Iterator<Item = (usize, u32, &[u8])> {
    let begins = std::iter::once(0).chain(rows.ends.iter().copied());
    begins.zip(&rows.ends).enumerate().map(|(number, (begin, &end))| {
        let log = rows.logs.get(number).map_or(number, |&log| log as usize);
        let key = rows.key_ends.get(number).map_or(0, |key| key - begin);
        (log, key, &rows.bytes[begin as usize..end as usize])
    })
}

/// Returns positions of the logs of a batch, the first of which is log `first` of a shard.
fn positions(batch: &LogBatch, first: usize) -> Positions {
    let logs = first..first + batch.len();
    Positions {
        shard: 3,
        cursors: logs.clone().map(|log| 1_000 + log as u64 / 10).collect(),
        indexes: logs.map(|log| log as u32 % 10).collect(),
        receive_times: batch.times.iter().map(|time| time.saturating_add(1)).collect(),
    }
}

/// Returns the table and the configuration of the checks: those of the settings, or the first that the stage accepts, of
/// columns for ordinary logs.
pub(super) fn table_and_config(stage: &RowEncoderStage, settings: &Settings) -> (Table, String) {
    let fields = |keys: &[&str]| keys.iter().map(|key| json!({ "column": key, "field": key })).collect();
    let mapped: Vec<_> = fields(&COLUMNS);
    let mut keyed: Vec<_> = fields(&identifiers());
    keyed.push(json!({ "column": KEY, "system": "cursor" }));
    let [mapped, keyed] = [mapped, keyed].map(|columns| json!({ "columns": columns }).to_string());
    let configs =
        settings.config.clone().map_or_else(|| vec![mapped, keyed, String::new()], |config| vec![config]);
    let tables = settings.table.clone().map_or_else(text_tables, |table| vec![table]);
    let mut pairs = tables.iter().flat_map(|table| configs.iter().map(move |config| (table, config)));
    let first = (tables[0].clone(), configs[0].clone());
    let accepted = pairs.find(|(table, config)| stage.open(config, table).is_ok());
    accepted.map_or(first, |(table, config)| (table.clone(), config.clone()))
}

/// Returns the columns whose names are identifiers, which some databases ask for.
fn identifiers() -> Vec<&'static str> {
    COLUMNS.into_iter().filter(|name| !name.contains(':')).collect()
}

/// Returns tables of text columns, without and with a primary key.
fn text_tables() -> Vec<Table> {
    let with_type = |keys: &[&str], data_type: &str| {
        let column = move |name: &&str| RowColumn {
            name: (*name).into(),
            data_type: data_type.into(),
            nullable: true,
        };
        keys.iter().map(column).collect::<Vec<_>>()
    };
    let identifiers = identifiers();
    let names: [(&[&str], &[&str]); 3] = [(&[], &COLUMNS), (&[KEY], &COLUMNS), (&[KEY], &identifiers)];
    let tables = TEXT_TYPES.iter().flat_map(|data_type| {
        names.map(|(key, columns)| Table {
            key: with_type(key, data_type),
            columns: with_type(columns, data_type),
        })
    });
    tables.collect()
}

/// Checks a row encoder and compares it with a built-in one.
pub(super) fn check(
    suite: &mut Suite,
    stage: &RowEncoderStage,
    (table, config): (&Table, &str),
    built_in: &Arc<RowEncoderStage>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let new_instance = || Blocks::new(stage, table);
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&chunks);
    stream.finishes_without_a_chunk();
    let all_logs = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    refuses_broken_positions(stream.suite, stage, table, config);
    opens_its_protocols(stream.suite, stage, table, config);
    refuses_unknown_types(stream.suite, stage, table, config);
    reports_null(stream.suite, stage, table, config);
    stream.gives_the_same_bytes(all_logs.clone(), &[all_logs.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    let defaults = Settings { config: None, table: None, ..settings.clone() };
    let (table, config) = table_and_config(built_in, &defaults);
    let other = || Blocks::new(built_in, &table);
    let baseline = Baseline { name: built_in.identity().name(), config: &config, new_instance: &other };
    stream.is_fast(&chunks, &baseline, settings);
}

fn refuses_broken_positions(suite: &mut Suite, stage: &RowEncoderStage, table: &Table, config: &str) {
    suite.check("refuses-missing-positions", contract::POSITIONS, || {
        let batch = batches::access_logs(3);
        let mut broken = positions(&batch, 0);
        broken.indexes.pop();
        match stage.open(config, table)?.push(&batch, &broken) {
            Err(StageError::InvalidBatch { invariant, .. }) => Ok(invariant),
            Err(error) => Err(error).at(|| "two indexes for three logs".into()),
            Ok(_) => Err(Problem::new("two indexes for three logs: taken")),
        }
    });
}

/// Checks that the key `protocol` of the configuration selects each described protocol, and no other.
fn opens_its_protocols(suite: &mut Suite, stage: &RowEncoderStage, table: &Table, config: &str) {
    let protocols = &stage.description().protocols;
    suite.check("opens-its-protocols", contract::PROTOCOLS, || {
        for protocol in protocols {
            let config = with_member(config, "protocol", protocol.as_str());
            stage.open(&config, table).at(|| format!("the protocol {protocol:?}, with {config}"))?;
        }
        let config = with_member(config, "protocol", "no-such-protocol");
        match stage.open(&config, table) {
            Err(StageError::Config { .. }) => Ok(protocols.join(", ")),
            Err(error) => Err(error).at(|| config),
            Ok(_) => Err(Problem::new(format!("accepts {config}"))),
        }
    });
}

fn refuses_unknown_types(suite: &mut Suite, stage: &RowEncoderStage, table: &Table, config: &str) {
    suite.check("refuses-an-unknown-type", contract::TABLE_CHECKED, || {
        let Some(last) = table.columns.last() else { return Ok("the table has no columns".into()) };
        let mut unknown = table.clone();
        let name = last.name.clone();
        unknown.columns.last_mut().expect("it has a last column").data_type = "no-such-type(3)".into();
        match stage.open(config, &unknown) {
            Err(StageError::Table { column, reason, .. }) if column == name => Ok(reason),
            Err(StageError::Table { column, .. }) => {
                Err(Problem::new(format!("blames the column {column:?}, and {name:?} has an unknown type")))
            }
            Err(error) => Err(error).at(|| format!("column {name:?} of the type no-such-type(3)")),
            Ok(_) => Err(Problem::new(format!("accepts column {name:?} of the type no-such-type(3)"))),
        }
    });
}

/// Checks that a log without a value for a column that accepts no null is a dirty row.
fn reports_null(suite: &mut Suite, stage: &RowEncoderStage, table: &Table, config: &str) {
    suite.check("reports-null-where-none-may-be", contract::DIRTY, || -> Checked {
        let mut strict = table.clone();
        strict.columns.iter_mut().for_each(|column| column.nullable = false);
        let logs = batches::empty_logs(2);
        let mut session = stage.open(config, &strict)?;
        let rows = session.push(&logs, &positions(&logs, 0))?;
        let known = |name: &str| strict.columns.iter().any(|column| column.name == name);
        match rows.dirty.first() {
            None if rows.count == 2
                && stage.open(config, table)?.push(&logs, &positions(&logs, 0))?.count == 2 =>
            {
                Err(Problem::new("a log without fields has a row, and its columns accept no null"))
            }
            Some(value) if !known(&value.column) => {
                Err(Problem::new(format!("blames the column {:?}, which the table lacks", value.column)))
            }
            Some(value) => Ok(format!("{}: {}", value.column, value.reason)),
            None => Ok("its rows have no empty columns".into()),
        }
    });
}

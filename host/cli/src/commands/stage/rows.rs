use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::super::{EngineOptions, Failure, WasiOption};
use super::row_table::{config, table};
use crate::commands::ship::count;
use crate::print::{errln, outln};
use logship_batch::batch::LogBatch;
use logship_batch::parser::{Parser, Settings};
use logship_registry::Registry;
use logship_runtime::stage::{Positions, Rows, Table};

/// Encodes a file of logs as one block of rows, without a service or a destination.
///
/// The block is written to a file as it would be uploaded. Values that don't convert are shown by the number of their
/// log, from 0, and by column.
#[derive(Debug, Args)]
pub(in crate::commands) struct RowsCommand {
    /// A row encoder: a component file (a path with `/` or ending in `.wasm`), or the name of a built-in stage.
    stage: String,
    /// The logs, as JSON lines.
    file: PathBuf,
    /// The table: JSON with `columns` and optionally `key`, lists of {"name", "type", "nullable"}, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", value_parser = table)]
    table: Table,
    /// The configuration of the row encoder: a JSON object, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", value_parser = config)]
    config: Option<String>,
    /// Writes the block to this file.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    wasi: WasiOption,
}

/// The bytes of logs that are encoded at a time.
const CHUNK_BYTES: usize = 512 << 10;
/// The most values that are shown.
const MAX_SHOWN: usize = 20;

impl RowsCommand {
    pub(super) fn run(&self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?).with_wasi_allowlist(self.wasi.allowlist());
        let stage = registry.row_encoder(&self.stage)?;
        let mut session = stage.open(self.config.as_deref().unwrap_or_default(), &self.table)?;
        let lines =
            fs::read(&self.file).map_err(|error| format!("can't read {}: {error}", self.file.display()))?;
        let unwritten = |error| format!("can't write {}: {error}", self.to.display());
        let mut block = BufWriter::new(File::create(&self.to).map_err(unwritten)?);
        let mut totals = Totals::default();
        for batch in batches(&lines, &mut totals) {
            let rows = session.push(&batch, &positions(totals.logs, &batch))?;
            block.write_all(&rows.bytes).map_err(unwritten)?;
            totals.add(&batch, &rows);
        }
        let end = session.finish()?;
        block.write_all(&end).and_then(|()| block.flush()).map_err(unwritten)?;
        totals.show();
        Ok(())
    }
}

/// Parses JSON lines into batches.
fn batches(lines: &[u8], totals: &mut Totals) -> Vec<LogBatch> {
    let settings = Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: String::new() };
    let (mut parser, mut batches, mut rest) = (Parser::new(settings), vec![], lines);
    while !rest.is_empty() {
        let least = rest.len().min(CHUNK_BYTES);
        let end = rest[least - 1..].iter().position(|&byte| byte == b'\n');
        let (block, after) = rest.split_at(end.map_or(rest.len(), |end| least + end));
        let parsed = parser.parse(block);
        totals.malformed += parsed.rejects.len();
        batches.extend(parsed.batches.into_iter().map(|(_, batch)| batch));
        rest = after;
    }
    batches
}

/// Returns the positions of a batch whose first log has the number `first`: all logs are of one group.
fn positions(first: usize, batch: &LogBatch) -> Positions {
    let logs = batch.len();
    Positions {
        shard: 0,
        cursors: vec![0; logs],
        indexes: (first..first + logs).map(|log| log as u32).collect(),
        receive_times: batch.times.clone(),
    }
}

/// The counts of a run.
#[derive(Debug, Default)]
struct Totals {
    logs: usize,
    rows: u64,
    dirty: usize,
    malformed: usize,
    shown: usize,
}

impl Totals {
    fn add(&mut self, batch: &LogBatch, rows: &Rows) {
        for value in rows.dirty.iter().take(MAX_SHOWN - self.shown) {
            errln!("log {}, column {:?}: {}", self.logs + value.log as usize, value.column, value.reason);
            self.shown += 1;
        }
        self.logs += batch.len();
        self.rows += u64::from(rows.count);
        self.dirty += batch.len() - rows.count as usize;
    }

    fn show(&self) {
        outln!(
            "{}: {}, {}",
            count(self.logs as u64, "log"),
            count(self.rows, "row"),
            count(self.dirty as u64, "dirty row")
        );
        if self.malformed > 0 {
            errln!("{} lines are not logs", self.malformed);
        }
    }
}

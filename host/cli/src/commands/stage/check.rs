use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::super::{EngineOptions, Failure, WasiOption};
use super::row_table::{config, table};
use crate::print::outln;
use logship_registry::Registry;
use logship_registry::conformance;
use logship_registry::conformance::Settings;
use logship_runtime::stage::Table;

/// Checks that a component conforms to the contract of its kind, and measures its speed.
///
/// The checks are those of the built-in stages: exports and imports, description, the same bytes for any chunk
/// boundaries, all logs that the contract allows, broken batches rejected without a trap, and constant memory over
/// 10,000 chunks. A failed check reports its input and the contract's rule. The speed is compared with a built-in
/// stage, and fails the check only with --least-speed.
///
/// The limits are --stage-memory and --stage-deadline.
#[derive(Debug, Args)]
pub(in crate::commands) struct CheckCommand {
    /// A component file (a path with `/` or ending in `.wasm`), or the name of a built-in stage.
    stage: String,
    /// Configuration of the checks: a JSON object, or @FILE. The default is empty; an encoder that requires
    /// `columns` gets some.
    #[arg(long, value_name = "JSON|@FILE", value_parser = config)]
    config: Option<String>,
    /// Table of a row encoder: JSON with `columns` and optionally `key`, lists of {"name", "type", "nullable"}, or
    /// @FILE. The default has text columns for ordinary logs.
    #[arg(long, value_name = "JSON|@FILE", value_parser = table)]
    table: Option<Table>,
    /// Fails if the speed is below this fraction of the built-in stage's speed, for example 0.3.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    least_speed: Option<f64>,
    /// Writes the report as JUnit XML to this file too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    wasi: WasiOption,
}

impl CheckCommand {
    pub(super) fn run(&self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?).with_wasi_allowlist(self.wasi.allowlist());
        let settings = Settings {
            config: self.config.clone(),
            table: self.table.clone(),
            least_speed: self.least_speed,
            ..Settings::default()
        };
        let report = conformance::check(&registry, &self.stage, &settings);
        outln!("{report}");
        if let Some(path) = &self.junit {
            let written = fs::write(path, report.junit()?);
            written.map_err(|error| format!("can't write {}: {error}", path.display()))?;
        }
        let failed: Vec<_> = report.failed().collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(format!("{} failed: {}", self.stage, failed.join(", ")).into())
        }
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=100.0).contains(&ratio) => Ok(ratio),
        _ => Err("use a number from 0 to 100".into()),
    }
}

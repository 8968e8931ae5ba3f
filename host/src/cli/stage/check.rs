use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::super::{EngineOptions, Failure, WasiOption};
use crate::conformance::{self, Settings};
use crate::registry::Registry;

/// Checks whether a component keeps the contract of its kind, and how fast it is.
///
/// These are the checks that the stages of logship pass themselves: what it exports and imports, what it says of
/// itself, that it gives the same bytes whatever the cuts between chunks, takes every log that the contract allows,
/// refuses broken batches without a trap, and keeps its memory flat over 10,000 chunks. Each check that fails says with
/// what input, and what the contract says. The speed is told beside that of a built-in stage, and judged with
/// --least-speed only.
///
/// The limits are those of --stage-memory and --stage-deadline.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckCommand {
    /// A component file (with a `/` in its path or `.wasm` at its end), or the name of a built-in stage.
    stage: String,
    /// Its configuration for the checks, a JSON object, or `@` and the path of a file with one. Without it a stage is
    /// checked with the empty configuration, and an encoder that requires `columns` with some.
    #[arg(long, value_name = "JSON|@FILE", value_parser = config)]
    config: Option<String>,
    /// Fail where it is slower than this part of the built-in stage's speed, for example 0.3.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    least_speed: Option<f64>,
    /// Write the report as JUnit XML to this file as well, for a build server.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    wasi: WasiOption,
}

impl CheckCommand {
    pub(super) fn run(&self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?).allowing(self.wasi.allowance());
        let settings =
            Settings { config: self.config.clone(), least_speed: self.least_speed, ..Settings::default() };
        let report = conformance::check(&registry, &self.stage, &settings);
        println!("{report}");
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

/// A configuration as text, read from its file where it begins with `@`.
fn config(text: &str) -> Result<String, String> {
    let text = match text.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?,
        None => text.to_owned(),
    };
    serde_json::from_str::<Map<String, Value>>(&text).map_err(|error| format!("no JSON object: {error}"))?;
    Ok(text)
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=100.0).contains(&ratio) => Ok(ratio),
        _ => Err("a number from 0 to 100".into()),
    }
}

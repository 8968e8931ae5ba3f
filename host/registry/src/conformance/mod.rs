//! Conformance checks of stages against `wit/`, for `logship stage check`. The built-in stages pass the same
//! checks.
//!
//! # Layout
//! - [`Report`]: the results, as text and as JUnit XML. `suite`: runs the checks.
//! - `contract`: the sentences of `wit/` that the checks are based on.
//! - `description`: checks of descriptions and configurations, for every kind.
//! - `stream`: checks of every kind that takes chunks. `batches`: the logs for these checks.
//! - `encoder`, `compressor`, `formatter`, `renderer`, `transformer`, `row_encoder`, `packer`: all checks of each
//!   kind. A pipeline gets the checks of its stages.
//! - `members`: checks of the names of fields in the output of encoders and formatters.
//! - `speed`: comparison with the speed of a built-in stage.

mod batches;
mod compressor;
mod contract;
mod description;
mod encoder;
mod formatter;
mod members;
mod packer;
mod renderer;
mod report;
mod row_encoder;
mod speed;
mod stream;
mod suite;
mod transformer;

pub use report::{Finding, Outcome, Report};

use self::description::Description;
use self::suite::Suite;
use crate::Registry;
use logship_runtime::stage::{FusedBytes, Stage, StageError, Table, Transport};

/// Settings of the checks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The stage's configuration, JSON text. Default: empty, or columns for an encoder that requires them.
    pub config: Option<String>,
    /// The table of a row encoder. Default: text columns for ordinary logs.
    pub table: Option<Table>,
    /// Minimum speed, as a fraction of the built-in stage's.
    pub least_speed: Option<f64>,
    /// True if the speed is measured.
    pub speed: bool,
    /// Number of chunks over which memory growth is measured.
    pub chunks: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { config: None, table: None, least_speed: None, speed: true, chunks: 10_000 }
    }
}

/// Checks the component called `name`, as [`Registry::stage`] finds it.
pub fn check(registry: &Registry, name: &str, settings: &Settings) -> Report {
    let mut suite = Suite::default();
    let mut found = None;
    suite.check("keeps-the-contract", contract::NO_IMPORTS, || {
        let stage = registry.stage(None, name)?;
        let imports = match stage.identity().imports().len() {
            0 => "imports nothing to call".to_owned(),
            count => format!("imports {count} interfaces of WASI, which is allowed and empty"),
        };
        let seen = format!("it has every item of the interface of {}s, and {imports}", stage.kind());
        found = Some(stage);
        Ok(seen)
    });
    let introduced = found.as_ref().map(|stage| {
        let identity = stage.identity();
        let (kind, name, version) = (stage.kind(), identity.name(), identity.version());
        format!("{kind} {name} {version} (sha256:{})", &identity.digest()[..12])
    });
    if let Some(stage) = &found {
        check_stage(&mut suite, registry, stage, settings);
    }
    Report { origin: name.to_owned(), stage: introduced, findings: suite.findings }
}

fn check_stage(suite: &mut Suite, registry: &Registry, stage: &Stage, settings: &Settings) {
    let (table, config) = table_and_config(stage, settings);
    let open = |text: &str| open(stage, text, &table);
    let description = Description::of(stage);
    description::check_config(suite, description.schema, &config, &open);
    match stage {
        Stage::Encoder(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.open(&config)?;
            Ok(format!("{:?}", instance.describe()?))
        }),
        Stage::Compressor(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.open(&config)?;
            Ok(format!("{:?}", instance.describe()?))
        }),
        Stage::Formatter(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.open(&config)?;
            Ok(format!("{:?}", instance.describe()?))
        }),
        Stage::RowEncoder(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.open(&config, &table)?;
            Ok(format!("{:?}", instance.describe()?))
        }),
        Stage::Transformer(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.open(&config)?;
            Ok(format!("{:?}", instance.describe()?))
        }),
        Stage::Pipeline(stage) => match stage.bytes() {
            FusedBytes::Encoder(stage) => {
                description::check(suite, &description, stage.description(), || {
                    let mut instance = stage.instance()?;
                    instance.open(&config)?;
                    Ok(format!("{:?}", instance.describe()?))
                })
            }
            FusedBytes::Packer(stage) => description::check(suite, &description, stage.description(), || {
                let mut instance = stage.instance()?;
                instance.open(&config, "")?;
                Ok(format!("{:?}", instance.describe()?))
            }),
        },
        Stage::Renderer(stage) => description::check(suite, &description, stage.description(), || {
            let mut instance = stage.instance()?;
            instance.render(&config, &renderer::ordinary())?;
            Ok(format!("{:?}", instance.describe()?))
        }),
    }
    if !suite.passed("takes-its-configuration") {
        return;
    }
    if let Err(error) = check_kind(suite, registry, stage, (&table, &config), settings) {
        suite.check("finds-the-built-in-stage", contract::MIN_SPEED, || Err(error.into()));
    }
}

/// Returns the table and the configuration of the checks. The table has no columns for kinds of stages without tables.
fn table_and_config(stage: &Stage, settings: &Settings) -> (Table, String) {
    let no_table = Table { key: vec![], columns: vec![] };
    let config = || settings.config.clone();
    match stage {
        Stage::RowEncoder(stage) => row_encoder::table_and_config(stage, settings),
        Stage::Encoder(_) | Stage::Pipeline(_) => {
            let takes = |config: &str| open(stage, config, &no_table).is_ok();
            let config = config().unwrap_or_else(|| encoder::config(stage.config_schema(), takes));
            (no_table, config)
        }
        _ => (no_table, config().unwrap_or_default()),
    }
}

fn open(stage: &Stage, config: &str, table: &Table) -> Result<(), StageError> {
    match stage {
        Stage::RowEncoder(stage) => stage.open(config, table).map(drop),
        Stage::Encoder(stage) => stage.open(config).map(drop),
        Stage::Compressor(stage) => stage.open(config).map(drop),
        Stage::Formatter(stage) => stage.open(config).map(drop),
        Stage::Transformer(stage) => stage.open(config).map(drop),
        Stage::Pipeline(stage) => match stage.bytes() {
            FusedBytes::Encoder(stage) => stage.open(config).map(drop),
            FusedBytes::Packer(stage) => stage.open(config, "").map(drop),
        },
        Stage::Renderer(stage) => stage.render(config, &renderer::ordinary()).map(drop),
    }
}

/// Runs the checks of the stage's kind, with the most similar built-in stage as a baseline.
fn check_kind(
    suite: &mut Suite,
    registry: &Registry,
    stage: &Stage,
    (table, config): (&Table, &str),
    settings: &Settings,
) -> Result<(), StageError> {
    match stage {
        Stage::RowEncoder(stage) => {
            let built_in = registry.row_encoder("encode-maxcompute")?;
            row_encoder::check(suite, stage, (table, config), &built_in, settings);
        }
        Stage::Encoder(stage) => {
            encoder::check(suite, stage, config, &registry.encoder("encode-json")?, settings);
        }
        Stage::Compressor(stage) => {
            let same = format!("compress-{}", stage.description().compression);
            let known = Registry::built_in().find(|known| *known == same).unwrap_or("compress-snappy");
            compressor::check(suite, stage, config, &registry.compressor(known)?, settings);
        }
        Stage::Formatter(stage) => {
            let known = match stage.description().transport {
                Transport::Hec => "siem-hec",
                Transport::Syslog => "siem-syslog",
            };
            formatter::check(suite, stage, config, &registry.formatter(known)?, settings);
        }
        Stage::Transformer(stage) => {
            let known = Registry::built_in().find(|known| known.starts_with("transform-"));
            let known = known.map(|known| registry.transformer(known)).transpose()?;
            transformer::check(suite, stage, config, known.as_ref(), settings);
        }
        Stage::Pipeline(stage) => {
            let built_in = registry.encoder("encode-json")?;
            match stage.bytes() {
                FusedBytes::Encoder(stage) => encoder::check(suite, stage, config, &built_in, settings),
                FusedBytes::Packer(stage) => packer::check(suite, stage, config, settings),
            }
            suite.name_prefix = "renderer/";
            renderer::check(suite, stage.renderer(), "", &registry.renderer("object-path")?, settings);
        }
        Stage::Renderer(stage) => {
            renderer::check(suite, stage, config, &registry.renderer("object-path")?, settings);
        }
    }
    Ok(())
}

//! What `wit/` asks of a stage, as checks that anyone runs on a component of their own: `logship stage check`.
//! Those of logship are checked by the same code.
//!
//! # Layout
//! - [`Report`]: what came of the checks, as text and as JUnit XML; `suite`: how they run.
//! - `contract`: the sentences of `wit/` that the checks rest on.
//! - `description`: checks of every kind: what a stage says of itself, and its configuration.
//! - `stream`: checks of every kind that is given chunks; `batches`: the logs that they are given.
//! - `encoder`, `compressor`, `formatter`, `renderer`, `transformer`, `packer`: the checks of each kind together; a pipeline's
//!   are those of the stages in it.
//! - `speed`: how fast it is beside a built-in stage.

mod batches;
mod compressor;
mod contract;
mod description;
mod encoder;
mod formatter;
mod packer;
mod renderer;
mod report;
mod speed;
mod stream;
mod suite;
mod transformer;

pub use report::{Finding, Outcome, Report};

use self::description::Description;
use self::suite::Suite;
use crate::registry::Registry;
use crate::stage::{FusedBytes, Stage, StageError, Transport};

/// How a stage is checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its configuration, JSON text; none: the empty one, or columns where an encoder asks for columns.
    pub config: Option<String>,
    /// The least speed, as a part of that of the built-in stage.
    pub least_speed: Option<f64>,
    /// Whether the speed is measured.
    pub speed: bool,
    /// How many chunks memory is watched over.
    pub chunks: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { config: None, least_speed: None, speed: true, chunks: 10_000 }
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
            count => format!("imports {count} interfaces of WASI, which it is allowed and which is empty"),
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
    let config = settings.config.clone().unwrap_or_else(|| match stage {
        Stage::Encoder(_) | Stage::Pipeline(_) => {
            encoder::config(stage.config_schema(), |config| open(stage, config).is_ok())
        }
        _ => String::new(),
    });
    let open = |text: &str| open(stage, text);
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
    if let Err(error) = check_kind(suite, registry, stage, &config, settings) {
        suite.check("finds-the-built-in-stage", contract::ASKED_FOR, || Err(error.into()));
    }
}

fn open(stage: &Stage, config: &str) -> Result<(), StageError> {
    match stage {
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

/// The checks of its kind, beside the built-in stage that is nearest to it.
fn check_kind(
    suite: &mut Suite,
    registry: &Registry,
    stage: &Stage,
    config: &str,
    settings: &Settings,
) -> Result<(), StageError> {
    match stage {
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
            suite.part = "renderer/";
            renderer::check(suite, stage.renderer(), "", &registry.renderer("object-path")?, settings);
        }
        Stage::Renderer(stage) => {
            renderer::check(suite, stage, config, &registry.renderer("object-path")?, settings);
        }
    }
    Ok(())
}

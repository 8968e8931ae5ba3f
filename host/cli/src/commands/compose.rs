use std::path::PathBuf;

use crate::print::outln;
use clap::Args;
use logship_spin_runtime::compose::{ComponentFile, compose};
use logship_spin_runtime::fuse::{AdaptedCompressor, fuse};

use super::{EngineOptions, Failure, output};
use logship_registry::Registry;
use logship_registry::embedded::FUSE_ADAPTERS;
use logship_runtime::stage::{Kind, Stage};
use logship_runtime::wasi::WasiAllowlist;

const TRANSFORMER: &str = "logship:transform/transformer";
const ENCODER: &str = "logship:encode/encoder";
const FORMATTER: &str = "logship:siem/formatter";

/// Fuses stages into one component.
///
/// A renderer, an encoder and a compressor become a pipeline, for `logship ship --pipeline` and `stages.pipeline`
/// of a rule. Transformers and a formatter become a formatter, for `logship consume --stage` and SIEM rules.
/// Transformers before an encoder become part of the encoder: they may change logs, but not filter them out.
///
/// The component is one file and produces the same bytes as the separate stages. Separate stages are faster when
/// logship runs them: see BENCHMARKS.md.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// Transforms logs first with this stage, a name or a component file. Repeatable. Its settings are in the list
    /// `transform` of the encoder's or formatter's settings.
    #[arg(long = "transform", value_name = "STAGE")]
    transformers: Vec<String>,
    /// Encodes with this stage [default: encode-json]
    #[arg(long, value_name = "STAGE")]
    encoder: Option<String>,
    /// Compresses the encoder's output with this stage [default: none]
    #[arg(long, value_name = "STAGE")]
    compressor: Option<String>,
    /// Renders object keys with this stage [default: object-path]
    #[arg(long, value_name = "STAGE")]
    renderer: Option<String>,
    /// Formats messages for a SIEM with this stage, instead of objects.
    #[arg(long, value_name = "STAGE")]
    formatter: Option<String>,
    /// Writes the component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ComposeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?);
        let loader = StageLoader(&registry);
        let transformers = self
            .transformers
            .iter()
            .map(|name| loader.load(Kind::Transformer, name))
            .collect::<Result<Vec<_>, _>>()?;
        let (fused, expected) = match &self.formatter {
            Some(formatter) => (self.fuse_formatter(&loader, &transformers, formatter)?, Kind::Formatter),
            None => (self.fuse_pipeline(&loader, &transformers)?, Kind::Pipeline),
        };
        // Checks the component like any stage, before writing it.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &fused, &WasiAllowlist::None)?;
        if stage.kind() != expected {
            return Err(format!(
                "{origin} became a {} instead of a {expected}: this is a bug of logship",
                stage.kind()
            )
            .into());
        }
        output::write(&self.output, &fused).map_err(|error| format!("{origin}: {error}"))?;
        let identity = stage.identity();
        outln!("{origin}: {} KiB, {}, a {expected}", fused.len().div_ceil(1024), identity.name());
        outln!("sha256:{}", identity.digest());
        Ok(())
    }

    /// Fuses transformers and a formatter.
    fn fuse_formatter(
        &self,
        loader: &StageLoader<'_>,
        transformers: &[ComponentFile],
        formatter: &str,
    ) -> Result<Vec<u8>, Failure> {
        let object_options = [
            ("--encoder", &self.encoder),
            ("--compressor", &self.compressor),
            ("--renderer", &self.renderer),
        ];
        if let Some((option, name)) =
            object_options.iter().find_map(|(option, name)| Some((option, name.as_ref()?)))
        {
            let problem = format!(
                "{formatter} formats messages for a SIEM, but {name} is for objects: remove {option} or --formatter"
            );
            return Err(problem.into());
        }
        if transformers.is_empty() {
            let problem = format!(
                "{formatter} is already one component: name the transformers to fuse with --transform"
            );
            return Err(problem.into());
        }
        let formatter = loader.load(Kind::Formatter, formatter)?;
        Ok(prepend_transformers(transformers, "fuse-adapter-formatter", FORMATTER, formatter)?.bytes)
    }

    /// Fuses a renderer, an encoder and a compressor.
    fn fuse_pipeline(
        &self,
        loader: &StageLoader<'_>,
        transformers: &[ComponentFile],
    ) -> Result<Vec<u8>, Failure> {
        let name = self.encoder.as_deref().unwrap_or("encode-json");
        let renderer = loader.load(Kind::Renderer, self.renderer.as_deref().unwrap_or("object-path"))?;
        let encoder = loader.load(Kind::Encoder, name)?;
        let compressor =
            self.compressor.as_ref().map(|name| loader.load(Kind::Compressor, name)).transpose()?;
        self.check_compression(loader.0, name)?;
        let encoder = prepend_transformers(transformers, "fuse-adapter-encoder", ENCODER, encoder)?;
        let adapter = compressor.is_some().then(|| fuse_adapter("fuse-adapter")).transpose()?;
        let compressing = adapter
            .as_ref()
            .zip(compressor.as_ref())
            .map(|(adapter, compressor)| AdaptedCompressor { adapter, compressor });
        Ok(fuse(&renderer, &encoder, compressing.as_ref())?)
    }

    /// Rejects a compressor after an encoder that compresses inside its format.
    fn check_compression(&self, registry: &Registry, encoder: &str) -> Result<(), Failure> {
        let encoder = registry.encoder(encoder)?;
        let about = encoder.description();
        match (&self.compressor, about.compressions.first()) {
            (Some(compressor), Some(inner)) => {
                let problem = format!(
                    "{} is compressed inside its format, so {compressor} can't follow {}. Remove the compressor; rules that use the pipeline set compression = {:?}",
                    about.format,
                    encoder.identity().name(),
                    inner.name,
                );
                Err(problem.into())
            }
            _ => Ok(()),
        }
    }
}

/// Loads the components of stages.
struct StageLoader<'a>(&'a Registry);

impl StageLoader<'_> {
    /// Returns the component of a stage. Fails if the stage is of another kind.
    fn load(&self, kind: Kind, name: &str) -> Result<ComponentFile, Failure> {
        self.0.stage(Some(kind), name)?;
        Ok(ComponentFile { path: name.into(), bytes: self.0.read(Some(kind), name)? })
    }
}

/// Fuses transformers with the stage behind them, from the last to the first.
fn prepend_transformers(
    transformers: &[ComponentFile],
    name: &str,
    interface: &str,
    stage: ComponentFile,
) -> Result<ComponentFile, Failure> {
    let mut fused = stage;
    for transformer in transformers.iter().rev() {
        let plugs = [(TRANSFORMER.to_owned(), transformer.clone()), (interface.to_owned(), fused)];
        let bytes = compose(&fuse_adapter(name)?, &plugs, |_| false)?;
        fused = ComponentFile { path: "the stages fused so far".into(), bytes };
    }
    Ok(fused)
}

/// Returns a fuse adapter by name.
fn fuse_adapter(name: &str) -> Result<ComponentFile, Failure> {
    let found = FUSE_ADAPTERS.iter().find(|adapter| adapter.name == name);
    let adapter = found.ok_or("this logship was built without fuse adapters: rebuild the components and logship with `cargo xtask build`")?;
    Ok(ComponentFile { path: "a fuse adapter of logship".into(), bytes: adapter.bytes() })
}

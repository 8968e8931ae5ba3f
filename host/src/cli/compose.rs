use std::path::PathBuf;

use clap::Args;
use logship_function::compose::Part;
use logship_function::fuse::{Compressing, fuse};

use super::{EngineOptions, Failure};
use crate::registry::Registry;
use crate::stage::{Kind, Stage};

/// What joins an encoder and a compressor.
static JOINT: &[u8] = include_bytes!(env!("LOGSHIP_JOINT"));

/// Fuses stages into one component: a pipeline, for `logship ship --pipeline` and `stages.pipeline` of a rule.
///
/// It makes the objects that its stages make when logship drives them, byte for byte, and is one file to hand on. Where
/// logship drives stages it does so faster than they call each other: see BENCHMARKS.md.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// What encodes: a name, or the path of a component.
    #[arg(long, value_name = "STAGE", default_value = "encode-json")]
    encoder: String,
    /// What compresses behind the encoder. [default: nothing does]
    #[arg(long, value_name = "STAGE")]
    compressor: Option<String>,
    /// What names objects.
    #[arg(long, value_name = "STAGE", default_value = "object-path")]
    renderer: String,
    /// Where to write it.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ComposeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?);
        let stages = [
            Some((Kind::Renderer, &self.renderer)),
            Some((Kind::Encoder, &self.encoder)),
            self.compressor.as_ref().map(|name| (Kind::Compressor, name)),
        ];
        for (kind, name) in stages.into_iter().flatten() {
            registry.stage(Some(kind), name)?;
        }
        self.check(&registry)?;
        let part = |kind, name: &String| -> Result<Part, Failure> {
            Ok(Part { path: name.into(), bytes: registry.read(Some(kind), name)? })
        };
        let joint = Part { path: "the joint of logship".into(), bytes: JOINT.to_vec() };
        let compressor = self.compressor.as_ref().map(|name| part(Kind::Compressor, name)).transpose()?;
        if compressor.is_some() && JOINT.is_empty() {
            return Err("this logship was built without what joins an encoder and a compressor: build the components, then logship anew: `cargo xtask build`".into());
        }
        let compressing = compressor.as_ref().map(|compressor| Compressing { joint: &joint, compressor });
        let fused = fuse(
            &part(Kind::Renderer, &self.renderer)?,
            &part(Kind::Encoder, &self.encoder)?,
            compressing.as_ref(),
        )?;
        // What came out is looked at as any stage is, before it is anywhere.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &fused)?;
        if stage.kind() != Kind::Pipeline {
            return Err(format!(
                "{origin} became a {} and not a pipeline: a defect of logship",
                stage.kind()
            )
            .into());
        }
        std::fs::write(&self.output, &fused).map_err(|error| format!("{origin}: {error}"))?;
        let identity = stage.identity();
        println!("{origin}: {} KiB, {}", fused.len().div_ceil(1024), identity.name());
        println!("sha256:{}", identity.digest());
        Ok(())
    }

    /// What can't stand behind each other.
    fn check(&self, registry: &Registry) -> Result<(), Failure> {
        let encoder = registry.encoder(&self.encoder)?;
        let about = encoder.description();
        match (&self.compressor, about.compressions.first()) {
            (Some(compressor), Some(inner)) => {
                let problem = format!(
                    "{} is compressed inside its format, so no compressor ({compressor}) can stand behind {}. Leave the compressor out; who ships by the pipeline says compression = {:?}",
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

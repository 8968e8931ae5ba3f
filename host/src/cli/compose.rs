use std::path::PathBuf;

use clap::Args;
use logship_function::compose::{Part, compose};
use logship_function::fuse::{Compressing, fuse};

use super::{EngineOptions, Failure, output};
use crate::registry::Registry;
use crate::stage::{Kind, Stage};
use crate::wasi::Allowance;

/// What joins stages, by name; none where this was built without.
static JOINTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/joints.rs"));

const TRANSFORMER: &str = "logship:transform/transformer";
const ENCODER: &str = "logship:encode/encoder";
const FORMATTER: &str = "logship:siem/formatter";

/// Fuses stages into one component.
///
/// Renderer, encoder and compressor become a pipeline, for `logship ship --pipeline` and `stages.pipeline` of a rule.
/// Transformers and a formatter become a formatter, for `logship consume --stage` and rules for SIEMs; before an
/// encoder, transformers become a part of that, and may change logs, but leave none out.
///
/// It makes what its stages make when logship drives them, byte for byte, and is one file to hand on. Where logship drives
/// stages it does so faster than they call each other: see BENCHMARKS.md.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// What logs go through before: a name, or the path of a component; again for each that follows. Its settings are in the
    /// list `transform` of those of the encoder or formatter.
    #[arg(long = "transform", value_name = "STAGE")]
    transformers: Vec<String>,
    /// What encodes. [default: encode-json]
    #[arg(long, value_name = "STAGE")]
    encoder: Option<String>,
    /// What compresses behind the encoder. [default: nothing does]
    #[arg(long, value_name = "STAGE")]
    compressor: Option<String>,
    /// What names objects. [default: object-path]
    #[arg(long, value_name = "STAGE")]
    renderer: Option<String>,
    /// What formats for a SIEM, instead of all that makes objects.
    #[arg(long, value_name = "STAGE")]
    formatter: Option<String>,
    /// Where to write it.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ComposeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let registry = Registry::new(engine.engine()?);
        let parts = Parts(&registry);
        let transformers = self
            .transformers
            .iter()
            .map(|name| parts.part(Kind::Transformer, name))
            .collect::<Result<Vec<_>, _>>()?;
        let (fused, expected) = match &self.formatter {
            Some(formatter) => (self.events(&parts, &transformers, formatter)?, Kind::Formatter),
            None => (self.objects(&parts, &transformers)?, Kind::Pipeline),
        };
        // What came out is looked at as any stage is, before it is anywhere.
        let origin = self.output.display().to_string();
        let stage = Stage::load(&engine.engine()?, &origin, &fused, &Allowance::Nobody)?;
        if stage.kind() != expected {
            return Err(format!(
                "{origin} became a {} and not a {expected}: a defect of logship",
                stage.kind()
            )
            .into());
        }
        output::write(&self.output, &fused).map_err(|error| format!("{origin}: {error}"))?;
        let identity = stage.identity();
        println!("{origin}: {} KiB, {}, a {expected}", fused.len().div_ceil(1024), identity.name());
        println!("sha256:{}", identity.digest());
        Ok(())
    }

    /// Transformers and a formatter.
    fn events(&self, parts: &Parts<'_>, transformers: &[Part], formatter: &str) -> Result<Vec<u8>, Failure> {
        let of_objects = [
            ("--encoder", &self.encoder),
            ("--compressor", &self.compressor),
            ("--renderer", &self.renderer),
        ];
        if let Some((option, name)) =
            of_objects.iter().find_map(|(option, name)| Some((option, name.as_ref()?)))
        {
            let problem = format!(
                "{formatter} makes messages for a SIEM and {name} is for objects: take {option} or --formatter out"
            );
            return Err(problem.into());
        }
        if transformers.is_empty() {
            let problem =
                format!("{formatter} is one component already: name what comes before it, with --transform");
            return Err(problem.into());
        }
        let formatter = parts.part(Kind::Formatter, formatter)?;
        Ok(transformed(transformers, "joint-formatter", FORMATTER, formatter)?.bytes)
    }

    /// Renderer, encoder and compressor.
    fn objects(&self, parts: &Parts<'_>, transformers: &[Part]) -> Result<Vec<u8>, Failure> {
        let name = self.encoder.as_deref().unwrap_or("encode-json");
        let renderer = parts.part(Kind::Renderer, self.renderer.as_deref().unwrap_or("object-path"))?;
        let encoder = parts.part(Kind::Encoder, name)?;
        let compressor =
            self.compressor.as_ref().map(|name| parts.part(Kind::Compressor, name)).transpose()?;
        self.check(parts.0, name)?;
        let encoder = transformed(transformers, "joint-encoder", ENCODER, encoder)?;
        let joint = compressor.is_some().then(|| joint("joint")).transpose()?;
        let compressing = joint
            .as_ref()
            .zip(compressor.as_ref())
            .map(|(joint, compressor)| Compressing { joint, compressor });
        Ok(fuse(&renderer, &encoder, compressing.as_ref())?)
    }

    /// What can't stand behind each other.
    fn check(&self, registry: &Registry, encoder: &str) -> Result<(), Failure> {
        let encoder = registry.encoder(encoder)?;
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

/// Where the parts are from.
struct Parts<'a>(&'a Registry);

impl Parts<'_> {
    /// The component of a stage, which has to be of its kind.
    fn part(&self, kind: Kind, name: &str) -> Result<Part, Failure> {
        self.0.stage(Some(kind), name)?;
        Ok(Part { path: name.into(), bytes: self.0.read(Some(kind), name)? })
    }
}

/// A stage with transformers before it: the last is joined to it first.
fn transformed(transformers: &[Part], name: &str, interface: &str, stage: Part) -> Result<Part, Failure> {
    let mut whole = stage;
    for transformer in transformers.iter().rev() {
        let plugs = [(TRANSFORMER.to_owned(), transformer.clone()), (interface.to_owned(), whole)];
        let bytes = compose(&joint(name)?, &plugs, |_| false)?;
        whole = Part { path: "the stages that were fused before".into(), bytes };
    }
    Ok(whole)
}

/// What joins stages.
fn joint(name: &str) -> Result<Part, Failure> {
    let found = JOINTS.iter().find(|(known, _)| *known == name);
    let (_, bytes) = found.ok_or("this logship was built without what joins stages: build the components, then logship anew: `cargo xtask build`")?;
    Ok(Part { path: "a joint of logship".into(), bytes: bytes.to_vec() })
}

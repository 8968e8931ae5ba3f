//! Which component serves a name.

use std::path::Path;
use std::{fs, io};

use crate::engine::Engine;
use crate::stage::{CompressorStage, EncoderStage, Kind, RendererStage, Stage, StageError};

/// The stages that come with logship, by name.
static BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Finds stages: built-in ones by name, others by the path of their component.
#[derive(Debug, Clone)]
pub struct Registry {
    engine: Engine,
}

impl Registry {
    /// A registry whose stages run in `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// The names of the built-in stages.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The stage called `name`: a built-in one, or, with a `/` in it or `.wasm` at its end, a file.
    ///
    /// # Errors
    /// When there is none, or it can't serve.
    pub fn stage(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        let stage = if name.contains('/') || name.ends_with(".wasm") {
            Stage::load(&self.engine, name, &read(Path::new(name))?)?
        } else {
            let (_, bytes) =
                BUILT_IN.iter().find(|(built_in, _)| *built_in == name).ok_or_else(|| unknown(kind, name))?;
            Stage::load(&self.engine.for_built_in(), name, bytes)?
        };
        match kind {
            Some(wanted) if wanted != stage.kind() => {
                Err(StageError::WrongKind { stage: stage.identity().clone(), found: stage.kind(), wanted })
            }
            _ => Ok(stage),
        }
    }

    /// The encoder called `name`.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), and when it is of another kind.
    pub fn encoder(&self, name: &str) -> Result<EncoderStage, StageError> {
        match self.stage(Some(Kind::Encoder), name)? {
            Stage::Encoder(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The compressor called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn compressor(&self, name: &str) -> Result<CompressorStage, StageError> {
        match self.stage(Some(Kind::Compressor), name)? {
            Stage::Compressor(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The renderer called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn renderer(&self, name: &str) -> Result<RendererStage, StageError> {
        match self.stage(Some(Kind::Renderer), name)? {
            Stage::Renderer(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StageError> {
    fs::read(path).map_err(|error| StageError::Unreadable {
        origin: path.display().to_string(),
        reason: match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".into(),
            _ => error.to_string(),
        },
    })
}

/// The built-in stages of a kind have its verb in their names.
fn unknown(kind: Option<Kind>, name: &str) -> StageError {
    let prefix = match kind {
        Some(Kind::Encoder) => "encode-",
        Some(Kind::Compressor) => "compress-",
        Some(Kind::Renderer) => "object-",
        None => "",
    };
    let known = Registry::built_in().filter(|known| known.starts_with(prefix)).map(str::to_owned).collect();
    StageError::Unknown { kind, name: name.to_owned(), known }
}

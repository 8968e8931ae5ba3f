//! Which component serves a name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::{fs, io};

use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::stage::{
    CompressorStage, EncoderStage, FormatterStage, FusedStage, Kind, RendererStage, Stage, StageError,
    TransformerStage,
};

/// The stages that come with logship, by name.
static BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Their digests, in the same order.
static DIGESTS: LazyLock<Vec<String>> =
    LazyLock::new(|| BUILT_IN.iter().map(|(_, bytes)| hex::encode(Sha256::digest(bytes))).collect());

/// What stands before the digest of a component that is named by it.
pub const DIGEST: &str = "sha256:";

/// Finds stages: built-in ones by name, others by the path of their component, or in a folder.
#[derive(Debug, Clone)]
pub struct Registry {
    engine: Engine,
    folder: Option<PathBuf>,
    /// Those that were asked for, by their digests: rules share them.
    loaded: Arc<Mutex<HashMap<String, Stage>>>,
}

impl Registry {
    /// A registry whose stages run in `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine, folder: None, loaded: Arc::default() }
    }

    /// One that has components in `folder` besides: `NAME.wasm` is called NAME, and those that tasks were made with
    /// are kept in it by their digests. No other file is read.
    pub fn within(engine: Engine, folder: PathBuf) -> Self {
        Self { engine, folder: Some(folder), loaded: Arc::default() }
    }

    /// The names of the built-in stages.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The stage called `name`: a built-in one; with a `/` in it or `.wasm` at its end, a file; with `sha256:` in
    /// front, the component of that digest.
    ///
    /// # Errors
    /// When there is none, or it can't serve.
    pub fn stage(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        let stage = match built_in(name) {
            Some((name, bytes)) => self.load(&self.engine.for_built_in(), name, bytes)?,
            None => self.load(&self.engine, name, &self.component(kind, name)?)?,
        };
        match kind {
            Some(wanted) if wanted != stage.kind() => {
                Err(StageError::WrongKind { stage: stage.identity().clone(), found: stage.kind(), wanted })
            }
            _ => Ok(stage),
        }
    }

    /// The bytes of a component that is not built in.
    fn component(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        let unreadable = |reason: String| StageError::Unreadable { origin: name.to_owned(), reason };
        let Some(folder) = &self.folder else {
            let is_path = name.contains('/') || name.ends_with(".wasm");
            return if is_path { read(Path::new(name)) } else { Err(unknown(kind, name)) };
        };
        if let Some(digest) = name.strip_prefix(DIGEST) {
            let bytes = read(&kept(folder, digest))
                .map_err(|_| unreadable("no component with this digest is kept here".into()))?;
            let found = hex::encode(Sha256::digest(&bytes));
            return if found == digest {
                Ok(bytes)
            } else {
                Err(unreadable(format!("the file is damaged: its digest is {found}")))
            };
        }
        if name.contains(['/', '\\', '\0']) || name.ends_with(".wasm") {
            let reason = format!(
                "components of the service's rules are found by name: put it into {} as NAME.wasm, and say NAME",
                folder.display()
            );
            return Err(unreadable(reason));
        }
        fs::read(folder.join(format!("{name}.wasm"))).map_err(|_| unknown(kind, name))
    }

    /// The bytes of the component of a digest, in hexadecimal: a built-in one, or one that is kept.
    ///
    /// # Errors
    /// When there is none.
    pub fn bytes(&self, digest: &str) -> Result<Vec<u8>, StageError> {
        self.read(None, &format!("{DIGEST}{digest}"))
    }

    /// The bytes of the component called `name`, as [`stage`](Self::stage) finds it.
    ///
    /// # Errors
    /// When there is none. Whether it can serve is not looked at.
    pub fn read(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        built_in(name).map_or_else(|| self.component(kind, name), |(_, bytes)| Ok(bytes.to_vec()))
    }

    fn load(&self, engine: &Engine, name: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let digest = hex::encode(Sha256::digest(bytes));
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = loaded().get(&digest) {
            return Ok(stage.clone());
        }
        let stage = Stage::load(engine, name, bytes)?;
        self.keep(name, &digest, bytes)?;
        loaded().insert(digest, stage.clone());
        Ok(stage)
    }

    /// Keeps a component under its digest: tasks need it until they are done, also when a later logship has another
    /// one built in.
    fn keep(&self, name: &str, digest: &str, bytes: &[u8]) -> Result<(), StageError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = kept(folder, digest);
        let write = || -> io::Result<()> {
            let folder = path.parent().unwrap_or(folder);
            if path.exists() {
                return Ok(());
            }
            fs::create_dir_all(folder)?;
            let part = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(part.path(), bytes)?;
            part.as_file().sync_all()?;
            part.persist(&path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| StageError::Unreadable {
            origin: name.to_owned(),
            reason: format!("it can't be kept as {}: {error}", path.display()),
        })
    }

    /// The encoder called `name`.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), and when it is of another kind.
    pub fn encoder(&self, name: &str) -> Result<Arc<EncoderStage>, StageError> {
        match self.stage(Some(Kind::Encoder), name)? {
            Stage::Encoder(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The compressor called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn compressor(&self, name: &str) -> Result<Arc<CompressorStage>, StageError> {
        match self.stage(Some(Kind::Compressor), name)? {
            Stage::Compressor(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The renderer called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn renderer(&self, name: &str) -> Result<Arc<RendererStage>, StageError> {
        match self.stage(Some(Kind::Renderer), name)? {
            Stage::Renderer(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The formatter called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn formatter(&self, name: &str) -> Result<Arc<FormatterStage>, StageError> {
        match self.stage(Some(Kind::Formatter), name)? {
            Stage::Formatter(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The transformer called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn transformer(&self, name: &str) -> Result<Arc<TransformerStage>, StageError> {
        match self.stage(Some(Kind::Transformer), name)? {
            Stage::Transformer(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }

    /// The fused pipeline called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn fused(&self, name: &str) -> Result<Arc<FusedStage>, StageError> {
        match self.stage(Some(Kind::Pipeline), name)? {
            Stage::Pipeline(stage) => Ok(stage),
            _ => unreachable!("the kind was asked for"),
        }
    }
}

/// The built-in stage of a name or digest.
fn built_in(name: &str) -> Option<(&'static str, &'static [u8])> {
    let digest = name.strip_prefix(DIGEST);
    let is_it = |(index, (built_in, _)): &(usize, &(&str, &[u8]))| match digest {
        Some(digest) => DIGESTS[*index] == digest,
        None => *built_in == name,
    };
    BUILT_IN.iter().enumerate().find(is_it).map(|(_, found)| *found)
}

/// Where the component of a digest is kept.
fn kept(folder: &Path, digest: &str) -> PathBuf {
    // Whatever was asked for, it is a name in that folder.
    let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
    folder.join("sha256").join(format!("{name}.wasm"))
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
        Some(Kind::Pipeline) => "pipeline-",
        Some(Kind::Encoder) => "encode-",
        Some(Kind::Compressor) => "compress-",
        Some(Kind::Renderer) => "object-",
        Some(Kind::Formatter) => "siem-",
        Some(Kind::Transformer) => "transform-",
        None => "",
    };
    let known = Registry::built_in().filter(|known| known.starts_with(prefix)).map(str::to_owned).collect();
    StageError::Unknown { kind, name: name.to_owned(), known }
}

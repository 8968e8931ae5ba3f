//! Which component serves a name.
//!
//! # Layout
//! - This file: [`Registry`], which finds stages, and keeps their components by digest.
//! - [`book`]: what the names of a service stand for, and how that changes. [`folder`]: components that are put there.

pub mod book;
pub mod folder;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use logship_logstore::Store;
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::stage::{
    CompressorStage, EncoderStage, FormatterStage, FusedBytes, FusedStage, Kind, RendererStage, Stage,
    StageError, TransformerStage,
};
use crate::wasi::Allowance;

/// The stages that come with logship, by name.
static BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Their digests, in the same order.
static DIGESTS: LazyLock<Vec<String>> =
    LazyLock::new(|| BUILT_IN.iter().map(|(_, bytes)| digest(bytes)).collect());

/// What stands before the digest of a component that is named by it.
pub const DIGEST: &str = "sha256:";

/// What stands between a name and a version of it.
pub const VERSION: char = '@';

/// Finds stages: by what their names stand for, built-in ones by name, others by the path of their component, or in a
/// folder. Clones share what was loaded.
#[derive(Debug, Clone)]
pub struct Registry {
    engine: Engine,
    folder: Option<PathBuf>,
    /// Has what names stand for.
    store: Option<Arc<Store>>,
    /// Which of them may import WASI.
    allowance: Allowance,
    /// Those that were asked for, by their digests: rules share them.
    loaded: Arc<Mutex<HashMap<String, Stage>>>,
    /// A name that stands for another component, to see what would come of it.
    instead: Option<(String, Stage)>,
    /// The names that are asked for, if somebody wants to know.
    asked: Option<Asked>,
}

/// Names that were asked for.
pub type Asked = Arc<Mutex<BTreeSet<String>>>;

impl Registry {
    /// A registry whose stages run in `engine`.
    pub fn new(engine: Engine) -> Self {
        let (allowance, loaded) = (Allowance::default(), Arc::default());
        Self { engine, folder: None, store: None, allowance, loaded, instead: None, asked: None }
    }

    /// One that has components in `folder` besides: `NAME.wasm` is called NAME, and those that tasks were made with
    /// are kept in it by their digests. No other file is read.
    pub fn within(engine: Engine, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::new(engine) }
    }

    /// One that keeps components in `folder` by their digests, and whose names stand for what `store` says.
    pub fn of(engine: Engine, folder: PathBuf, store: Arc<Store>) -> Self {
        Self { store: Some(store), ..Self::within(engine, folder) }
    }

    /// The same, but the stages of an allowance may import WASI.
    pub fn allowing(self, allowance: Allowance) -> Self {
        Self { allowance, ..self }
    }

    /// The same, but `name` stands for `stage`: to see what would come of it.
    pub fn with(&self, name: &str, stage: Stage) -> Self {
        Self { instead: Some((name.to_owned(), stage)), ..self.clone() }
    }

    /// The same, and the names that it is asked for from now on.
    pub fn watched(&self) -> (Self, Asked) {
        let asked = Asked::default();
        (Self { asked: Some(Arc::clone(&asked)), ..self.clone() }, asked)
    }

    /// Where its stages run.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The names of the built-in stages.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The digest of the built-in stage of a name, if there is one.
    pub fn built_in_digest(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().position(|(built_in, _)| *built_in == name).map(|index| DIGESTS[index].as_str())
    }

    /// The stage called `name`: what the name stands for, or the built-in one; `NAME@VERSION`, a version of it; with
    /// `sha256:` in front, the component of that digest. Where there is no service: a built-in one; with a `/` in it
    /// or `.wasm` at its end, a file.
    ///
    /// # Errors
    /// When there is none, or it can't serve.
    pub fn stage(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        if let Some(asked) = &self.asked {
            lock(asked).insert(name.to_owned());
        }
        let stage = self.find(kind, name)?;
        match kind {
            Some(wanted) => of_kind(stage, wanted),
            None => Ok(stage),
        }
    }

    /// The stage that a component is; `origin` is where it is from. A pipeline serves as its renderer, and as its encoder
    /// if that has no compressor behind it.
    ///
    /// # Errors
    /// When it can't serve, or is of another kind.
    pub fn serving(&self, kind: Kind, origin: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let stage = self.load(origin, bytes)?;
        if let Stage::Pipeline(fused) = &stage {
            match (kind, fused.bytes()) {
                (Kind::Renderer, _) => return Ok(Stage::Renderer(Arc::clone(fused.renderer()))),
                (Kind::Encoder, FusedBytes::Encoder(encoder)) => {
                    return Ok(Stage::Encoder(Arc::clone(encoder)));
                }
                _ => {}
            }
        }
        of_kind(stage, kind)
    }

    /// Whether a component is one of those that come with logship, wherever it is from: it is known to end soon.
    pub fn has_built_in(component: &[u8]) -> bool {
        BUILT_IN.iter().any(|(_, bytes)| *bytes == component)
    }

    fn find(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        if let Some((_, stage)) = self.instead.as_ref().filter(|(instead, _)| instead == name) {
            return Ok(stage.clone());
        }
        let current =
            self.store.as_ref().and_then(|store| store.catalog().stages().current(name).map(str::to_owned));
        if let Some(digest) = current {
            return self.by_digest(name, &digest);
        }
        if let Some(digest) = Self::built_in_digest(name).or_else(|| name.strip_prefix(DIGEST)) {
            return self.by_digest(name, digest);
        }
        if self.store.is_none() {
            return self.load(name, &self.file(kind, name)?);
        }
        match name.split_once(VERSION) {
            Some((name, version)) => self.version(kind, name, version),
            None if is_path(name) => Err(self.no_path(name)),
            None => Err(self.unknown(kind, name)),
        }
    }

    /// A version of a name.
    fn version(&self, kind: Option<Kind>, name: &str, version: &str) -> Result<Stage, StageError> {
        let catalog = self.store.as_ref().map(|store| store.catalog());
        let known = catalog.as_ref().and_then(|catalog| catalog.stages().names.get(name));
        if let Some(found) = known.and_then(|known| known.version(version)) {
            return self.by_digest(name, &found.digest);
        }
        let mut versions: Vec<String> =
            known.into_iter().flat_map(|known| &known.versions).map(|known| known.version.clone()).collect();
        if let Some(digest) = Self::built_in_digest(name) {
            let stage = self.by_digest(name, digest)?;
            if stage.identity().version() == version {
                return Ok(stage);
            }
            versions.insert(0, stage.identity().version().to_owned());
        } else if known.is_none() {
            return Err(self.unknown(kind, name));
        }
        Err(StageError::NoVersion { name: name.to_owned(), version: version.to_owned(), known: versions })
    }

    /// The component of a digest. `name` is what it was asked for by.
    fn by_digest(&self, name: &str, digest: &str) -> Result<Stage, StageError> {
        if let Some(stage) = self.loaded().get(digest) {
            return Ok(stage.clone());
        }
        self.load(name, &self.bytes(digest)?)
    }

    /// The bytes of a component that is not built in, where there is no service.
    fn file(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        match &self.folder {
            None if is_path(name) => read(Path::new(name)),
            Some(_) if is_path(name) => Err(self.no_path(name)),
            Some(folder) if is_name(name) => {
                fs::read(folder.join(format!("{name}.wasm"))).map_err(|_| self.unknown(kind, name))
            }
            _ => Err(self.unknown(kind, name)),
        }
    }

    fn no_path(&self, name: &str) -> StageError {
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        let reason = format!(
            "components of the service's rules are found by name: logship stage add FILE, or put it into {folder} as NAME.wasm, and say NAME"
        );
        StageError::Unreadable { origin: name.to_owned(), reason }
    }

    /// The bytes of the component called `name`, as [`stage`](Self::stage) finds it.
    ///
    /// # Errors
    /// When there is none. Whether it can serve is not looked at, where that can be.
    pub fn read(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        if self.store.is_some() {
            return self.bytes(self.find(kind, name)?.identity().digest());
        }
        match Self::built_in_digest(name).or_else(|| name.strip_prefix(DIGEST)) {
            Some(digest) => self.bytes(digest),
            None => self.file(kind, name),
        }
    }

    /// The bytes of the component of a digest, in hexadecimal: a built-in one, or one that is kept.
    ///
    /// # Errors
    /// When there is none.
    pub fn bytes(&self, digest: &str) -> Result<Vec<u8>, StageError> {
        let name = format!("{DIGEST}{digest}");
        if let Some((_, bytes)) = built_in(&name) {
            return Ok(bytes.to_vec());
        }
        let unreadable = |reason: String| StageError::Unreadable { origin: name.clone(), reason };
        let missing = || unreadable("no component with this digest is kept here".into());
        let folder = self.folder.as_ref().ok_or_else(missing)?;
        let bytes = read(&kept(folder, digest)).map_err(|_| missing())?;
        match self::digest(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(unreadable(format!("the file is damaged: its digest is {found}"))),
        }
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<String, Stage>> {
        lock(&self.loaded)
    }

    /// Makes a component ready to run, and keeps it. `name` is where it is from.
    fn load(&self, name: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let digest = digest(bytes);
        let known = self.loaded().get(&digest).cloned();
        let stage = known.map_or_else(|| self.examine(name, bytes), Ok)?;
        self.keep(stage, bytes)
    }

    /// Makes a component ready to run, and keeps nothing of it.
    ///
    /// # Errors
    /// When it can't serve.
    pub fn examine(&self, name: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        self.examine_as(name, name, bytes)
    }

    /// The same of a component that is to be called `name`, and is from `origin`.
    ///
    /// # Errors
    /// When it can't serve.
    pub fn examine_as(&self, name: &str, origin: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let engine = if Self::has_built_in(bytes) { self.engine.for_built_in() } else { self.engine.clone() };
        let is_allowed = self.allowance.has(name) || self.allows_names(&digest(bytes));
        let allowance = if is_allowed { &Allowance::Everybody } else { &self.allowance };
        Stage::load(&engine, origin, bytes, allowance)
    }

    /// Whether WASI is allowed to a name that a component, of this digest, is a version of.
    fn allows_names(&self, digest: &str) -> bool {
        let Some(store) = self.store.as_ref().filter(|_| self.allowance.is_some()) else { return false };
        let catalog = store.catalog();
        let mut names = catalog.stages().names.iter();
        names.any(|(name, known)| known.version(digest).is_some() && self.allowance.has(name))
    }

    /// Keeps a component under its digest: tasks need it until they are done, also when a later logship has another
    /// one built in. Returns the one that all share.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn keep(&self, stage: Stage, bytes: &[u8]) -> Result<Stage, StageError> {
        let digest = stage.identity().digest().to_owned();
        loop {
            if let Some(folder) = &self.folder {
                let path = kept(folder, &digest);
                write_once(&path, bytes).map_err(|error| StageError::Unreadable {
                    origin: stage.identity().name().to_owned(),
                    reason: format!("it can't be kept as {}: {error}", path.display()),
                })?;
            }
            let mut loaded = self.loaded();
            // What is loaded is not tidied up. It may have been just before it was.
            if self.folder.as_ref().is_none_or(|folder| kept(folder, &digest).exists()) {
                return Ok(loaded.entry(digest).or_insert(stage).clone());
            }
        }
    }

    /// Lets go of the code of components that nothing has in use.
    pub fn let_go(&self) {
        self.loaded().retain(|_, stage| stage.is_shared());
    }

    /// Lets go of components that nothing has in use: from memory all, from the folder those that are not among
    /// `needed`, by their digests. Returns how many files were deleted.
    ///
    /// # Errors
    /// When the folder can't be read, or a file not deleted.
    pub fn tidy(&self, needed: &HashSet<String>) -> io::Result<usize> {
        let mut loaded = self.loaded();
        loaded.retain(|_, stage| stage.is_shared());
        let Some(folder) = &self.folder else { return Ok(0) };
        let entries = match fs::read_dir(folder.join(BY_DIGEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut deleted = 0;
        for entry in entries {
            let path = entry?.path();
            let digest = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_component = path.extension().is_some_and(|extension| extension == "wasm");
            if is_component && !needed.contains(digest) && !loaded.contains_key(digest) {
                fs::remove_file(&path)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// The built-in stages of a kind have its verb in their names.
    fn unknown(&self, kind: Option<Kind>, name: &str) -> StageError {
        let prefix = match kind {
            Some(Kind::Pipeline) => "pipeline-",
            Some(Kind::Encoder) => "encode-",
            Some(Kind::Compressor) => "compress-",
            Some(Kind::Renderer) => "object-",
            Some(Kind::Formatter) => "siem-",
            Some(Kind::Transformer) => "transform-",
            None => "",
        };
        let known = Self::built_in().filter(|known| known.starts_with(prefix)).map(str::to_owned);
        StageError::Unknown { kind, name: name.to_owned(), known: known.collect(), added: self.added(kind) }
    }

    /// The names that components were added under.
    fn added(&self, kind: Option<Kind>) -> Option<Vec<String>> {
        let catalog = self.store.as_ref()?.catalog();
        let is_of = |found: &str| kind.is_none_or(|kind| kind.to_string() == found);
        let names = catalog.stages().names.iter().filter(|(_, name)| is_of(&name.kind));
        Some(names.map(|(name, _)| name.clone()).collect())
    }

    /// The encoder called `name`.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), and when it is of another kind.
    pub fn encoder(&self, name: &str) -> Result<Arc<EncoderStage>, StageError> {
        match self.stage(Some(Kind::Encoder), name)? {
            Stage::Encoder(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Encoder)),
        }
    }

    /// The compressor called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn compressor(&self, name: &str) -> Result<Arc<CompressorStage>, StageError> {
        match self.stage(Some(Kind::Compressor), name)? {
            Stage::Compressor(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Compressor)),
        }
    }

    /// The renderer called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn renderer(&self, name: &str) -> Result<Arc<RendererStage>, StageError> {
        match self.stage(Some(Kind::Renderer), name)? {
            Stage::Renderer(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Renderer)),
        }
    }

    /// The formatter called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn formatter(&self, name: &str) -> Result<Arc<FormatterStage>, StageError> {
        match self.stage(Some(Kind::Formatter), name)? {
            Stage::Formatter(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Formatter)),
        }
    }

    /// The transformer called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn transformer(&self, name: &str) -> Result<Arc<TransformerStage>, StageError> {
        match self.stage(Some(Kind::Transformer), name)? {
            Stage::Transformer(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Transformer)),
        }
    }

    /// The fused pipeline called `name`.
    ///
    /// # Errors
    /// As [`encoder`](Self::encoder).
    pub fn fused(&self, name: &str) -> Result<Arc<FusedStage>, StageError> {
        match self.stage(Some(Kind::Pipeline), name)? {
            Stage::Pipeline(stage) => Ok(stage),
            other => Err(wrong_kind(&other, Kind::Pipeline)),
        }
    }
}

fn of_kind(stage: Stage, wanted: Kind) -> Result<Stage, StageError> {
    if wanted == stage.kind() { Ok(stage) } else { Err(wrong_kind(&stage, wanted)) }
}

fn wrong_kind(stage: &Stage, wanted: Kind) -> StageError {
    StageError::WrongKind { stage: stage.identity().clone(), found: stage.kind(), wanted }
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

/// SHA-256 of a component, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is the path of a file, and no name.
fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".wasm")
}

/// Whether it can be the name of a stage: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, a letter or digit at its beginning.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'_' | b'.'))
        && name.bytes().next().is_some_and(plain)
        && !name.ends_with(".wasm")
}

/// The folder of the components that are known by their digests.
const BY_DIGEST: &str = "sha256";

/// Where the component of a digest is kept.
fn kept(folder: &Path, digest: &str) -> PathBuf {
    // Whatever was asked for, it is a name in that folder.
    let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
    folder.join(BY_DIGEST).join(format!("{name}.wasm"))
}

/// Writes a file unless it is there; it is on the disk then, whole.
fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let part = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(part.path(), bytes)?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    fs::File::open(folder)?.sync_all()
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

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_of_stages_are_short_and_plain() {
        for name in ["a", "encode-json", "acme.cef_2", "0", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "A", "a b", "a/b", "a@1", "sha256:00", "a.wasm", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}

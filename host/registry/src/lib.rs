//! Stages by name, version and digest.
//!
//! # Layout
//! - This file: [`Registry`], which resolves names to stages and stores their components by digest.
//! - `kinds`: resolves a name to a stage of one kind.
//! - `component_file`: components in files that are named by their digests.
//! - [`catalog`]: the names of a service, their versions, and the changes to them.
//! - [`folder_watcher`]: imports components from a folder.

pub mod catalog;
mod component_file;
pub mod conformance;
pub mod embedded;
pub mod folder_watcher;
mod kinds;
pub mod oci;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use logship_logstore::Store;

pub use component_file::digest;
use component_file::{DIGEST_FOLDER, component_path, read, write_once};
use embedded::BUILT_IN;
use kinds::expect_kind;
use logship_config::stage_name::{ComponentDigest, DIGEST_PREFIX, is_name};
use logship_runtime::engine::Engine;
use logship_runtime::stage::{FusedBytes, Kind, Stage, StageError};
use logship_runtime::wasi::WasiAllowlist;

/// The separator between a name and its version, as in `NAME@VERSION`.
pub const VERSION_SEPARATOR: char = '@';

/// Resolves names to stages: names of the service's catalog, built-in stages, paths of components, and components in a
/// folder. Clones share the loaded stages.
#[derive(Debug, Clone)]
pub struct Registry {
    engine: Engine,
    folder: Option<PathBuf>,
    /// The store that has the catalog of names.
    store: Option<Arc<Store>>,
    /// The stages that may import WASI.
    allowlist: WasiAllowlist,
    /// The loaded stages, by digest. Rules share them.
    loaded: Arc<Mutex<HashMap<String, Stage>>>,
    /// A name that resolves to another stage, for previews and checks.
    stage_override: Option<(String, Stage)>,
    /// Records the requested names, if set.
    requested: Option<RequestedNames>,
}

/// The names that a registry was asked for.
pub type RequestedNames = Arc<Mutex<BTreeSet<String>>>;

impl Registry {
    /// Creates a registry whose stages run in `engine`.
    pub fn new(engine: Engine) -> Self {
        let (allowlist, loaded) = (WasiAllowlist::default(), Arc::default());
        Self { engine, folder: None, store: None, allowlist, loaded, stage_override: None, requested: None }
    }

    /// Creates a registry that also resolves NAME to `NAME.wasm` in `folder`. The components that tasks use are stored
    /// in the same folder, by digest. No other file is read.
    pub fn with_folder(engine: Engine, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::new(engine) }
    }

    /// Creates a registry that resolves names by the catalog in `store`, and stores components in `folder` by digest.
    pub fn for_store(engine: Engine, folder: PathBuf, store: Arc<Store>) -> Self {
        Self { store: Some(store), ..Self::with_folder(engine, folder) }
    }

    /// Returns a registry that lets the stages of an allowlist import WASI.
    pub fn with_wasi_allowlist(self, allowlist: WasiAllowlist) -> Self {
        Self { allowlist, ..self }
    }

    /// Returns a registry that resolves `name` to `stage`, for previews and checks.
    pub fn with_override(&self, name: &str, stage: Stage) -> Self {
        Self { stage_override: Some((name.to_owned(), stage)), ..self.clone() }
    }

    /// Returns a registry that records the names that it is asked for, and the record.
    pub fn record_names(&self) -> (Self, RequestedNames) {
        let requested = RequestedNames::default();
        (Self { requested: Some(Arc::clone(&requested)), ..self.clone() }, requested)
    }

    /// The engine that runs the stages.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The names of the built-in stages.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|built_in| built_in.name)
    }

    /// The digest of a built-in stage, or none if no built-in stage has the name.
    pub fn built_in_digest(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|built_in| built_in.name == name).map(|built_in| built_in.digest)
    }

    /// Resolves `name` to a stage.
    ///
    /// | `name` | stage |
    /// |---|---|
    /// | `NAME` | the current version in the catalog, or the built-in stage |
    /// | `NAME@VERSION` | that version |
    /// | `sha256:DIGEST` | the component with that digest |
    /// | a path, with `/` or ending in `.wasm` | the file, but only outside a service |
    ///
    /// # Errors
    /// Fails if no stage has the name, or its component is not usable.
    pub fn stage(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        if let Some(requested) = &self.requested {
            lock(requested).insert(name.to_owned());
        }
        let stage = self.find(kind, name)?;
        match kind {
            Some(wanted) => expect_kind(stage, wanted),
            None => Ok(stage),
        }
    }

    /// Loads a component as a stage of a kind. `origin` is its path or name, for messages. A fused pipeline can be used as
    /// a renderer. Without a compressor, it can be used as an encoder too.
    ///
    /// # Errors
    /// Fails if the component is not usable, or is of another kind.
    pub fn stage_from_bytes(&self, kind: Kind, origin: &str, bytes: &[u8]) -> Result<Stage, StageError> {
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
        expect_kind(stage, kind)
    }

    /// Returns true if a component has the bytes of a built-in stage, whatever its origin. Built-in stages are trusted to
    /// terminate.
    pub fn is_built_in_component(component: &[u8]) -> bool {
        let digest = digest(component);
        BUILT_IN.iter().any(|built_in| built_in.digest == digest)
    }

    fn find(&self, kind: Option<Kind>, name: &str) -> Result<Stage, StageError> {
        if let Some((_, stage)) = self.stage_override.as_ref().filter(|(overridden, _)| overridden == name) {
            return Ok(stage.clone());
        }
        let current =
            self.store.as_ref().and_then(|store| store.catalog().stages().current(name).map(str::to_owned));
        if let Some(digest) = current {
            return self.by_digest(name, &digest);
        }
        if let Some(digest) = Self::built_in_digest(name).or_else(|| name.strip_prefix(DIGEST_PREFIX)) {
            return self.by_digest(name, digest);
        }
        if self.store.is_none() {
            return self.load(name, &self.file(kind, name)?);
        }
        match name.split_once(VERSION_SEPARATOR) {
            Some((name, version)) => self.version(kind, name, version),
            None if is_path(name) => Err(self.path_not_allowed(name)),
            None => Err(self.unknown_stage(kind, name)),
        }
    }

    /// Loads a version of a name.
    fn version(&self, kind: Option<Kind>, name: &str, version: &str) -> Result<Stage, StageError> {
        let catalog = self.store.as_ref().map(|store| store.catalog());
        let known = catalog.as_ref().and_then(|catalog| catalog.stages().aliases.get(name));
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
            return Err(self.unknown_stage(kind, name));
        }
        Err(StageError::NoVersion { name: name.to_owned(), version: version.to_owned(), known: versions })
    }

    /// Loads the component with a digest. `name` is the requested name, for messages.
    fn by_digest(&self, name: &str, digest: &str) -> Result<Stage, StageError> {
        if let Some(stage) = self.loaded().get(digest) {
            return Ok(stage.clone());
        }
        self.load(name, &self.bytes(digest)?)
    }

    /// Reads a component that is not built in, outside a service.
    fn file(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        match &self.folder {
            None if is_path(name) => read(Path::new(name)),
            Some(_) if is_path(name) => Err(self.path_not_allowed(name)),
            Some(folder) if is_name(name) => {
                fs::read(folder.join(format!("{name}.wasm"))).map_err(|_| self.unknown_stage(kind, name))
            }
            _ => Err(self.unknown_stage(kind, name)),
        }
    }

    fn path_not_allowed(&self, name: &str) -> StageError {
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        let reason = format!(
            "rules of a service name stages, not files: run `logship stage add FILE`, or copy the file to {folder} as NAME.wasm; then use NAME"
        );
        StageError::Unreadable { origin: name.to_owned(), reason }
    }

    /// Reads the component called `name`, which resolves as in [`stage`](Self::stage).
    ///
    /// # Errors
    /// Fails if no component has the name. Outside a service, the component is not checked.
    pub fn read(&self, kind: Option<Kind>, name: &str) -> Result<Vec<u8>, StageError> {
        if self.store.is_some() {
            return self.bytes(self.find(kind, name)?.identity().digest());
        }
        match Self::built_in_digest(name).or_else(|| name.strip_prefix(DIGEST_PREFIX)) {
            Some(digest) => self.bytes(digest),
            None => self.file(kind, name),
        }
    }

    /// Reads the component with a digest, in hexadecimal: a built-in or a stored one.
    ///
    /// # Errors
    /// Fails if no component has the digest.
    pub fn bytes(&self, digest: &str) -> Result<Vec<u8>, StageError> {
        if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.digest == digest) {
            return Ok(built_in.bytes());
        }
        let name = format!("{DIGEST_PREFIX}{digest}");
        let unreadable = |reason: String| StageError::Unreadable { origin: name.clone(), reason };
        let missing = || unreadable("no component with this digest is stored here".into());
        let folder = self.folder.as_ref().ok_or_else(missing)?;
        let bytes = read(&component_path(folder, digest)).map_err(|_| missing())?;
        match self::digest(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(unreadable(format!("the file is damaged: its digest is {found}"))),
        }
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<String, Stage>> {
        lock(&self.loaded)
    }

    /// Compiles a component and stores it. `name` is its origin.
    fn load(&self, name: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let digest = digest(bytes);
        let known = self.loaded().get(&digest).cloned();
        let stage = known.map_or_else(|| self.compile(name, bytes), Ok)?;
        self.store_component(stage, bytes)
    }

    /// Compiles a component without storing it.
    ///
    /// # Errors
    /// Fails if the component is not usable.
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        self.compile_as(name, name, bytes)
    }

    /// Compiles a component from `origin` that will get the name `name`, without storing it.
    ///
    /// # Errors
    /// Fails if the component is not usable.
    pub fn compile_as(&self, name: &str, origin: &str, bytes: &[u8]) -> Result<Stage, StageError> {
        let engine =
            if Self::is_built_in_component(bytes) { self.engine.for_built_in() } else { self.engine.clone() };
        let is_allowed = self.allowlist.allows(name) || self.allows_a_name_of(&digest(bytes));
        let allowlist = if is_allowed { &WasiAllowlist::All } else { &self.allowlist };
        Stage::load(&engine, origin, bytes, allowlist)
    }

    /// Returns true if the component with this digest is a version of a name that may import WASI.
    fn allows_a_name_of(&self, digest: &str) -> bool {
        let Some(store) = self.store.as_ref().filter(|_| self.allowlist.allows_any()) else { return false };
        let catalog = store.catalog();
        let mut names = catalog.stages().aliases.iter();
        names.any(|(name, known)| known.version(digest).is_some() && self.allowlist.allows(name))
    }

    /// Stores a component by digest and returns the shared stage. Tasks need the component until they are done, even if a
    /// later logship has another built-in version.
    ///
    /// # Errors
    /// Fails if the file can't be written.
    pub(crate) fn store_component(&self, stage: Stage, bytes: &[u8]) -> Result<Stage, StageError> {
        let digest = stage.identity().digest().to_owned();
        loop {
            if let Some(folder) = &self.folder {
                let path = component_path(folder, &digest);
                write_once(&path, bytes).map_err(|error| StageError::Unreadable {
                    origin: stage.identity().name().to_owned(),
                    reason: format!("it can't be stored as {}: {error}", path.display()),
                })?;
            }
            let mut loaded = self.loaded();
            // Garbage collection skips loaded stages, but it may have run between the write and this lock.
            if self.folder.as_ref().is_none_or(|folder| component_path(folder, &digest).exists()) {
                return Ok(loaded.entry(digest).or_insert(stage).clone());
            }
        }
    }

    /// Evicts unused stages from memory.
    pub fn evict_unused(&self) {
        self.loaded().retain(|_, stage| stage.is_shared());
    }

    /// Evicts unused stages from memory, and deletes unused components from the folder unless their digests are in
    /// `used`. Returns the number of deleted files.
    ///
    /// # Errors
    /// Fails if the folder can't be read, or a file can't be deleted.
    pub fn collect_garbage(&self, used: &HashSet<ComponentDigest>) -> io::Result<usize> {
        let mut loaded = self.loaded();
        loaded.retain(|_, stage| stage.is_shared());
        let Some(folder) = &self.folder else { return Ok(0) };
        let entries = match fs::read_dir(folder.join(DIGEST_FOLDER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut deleted = 0;
        for entry in entries {
            let path = entry?.path();
            let digest = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_component = path.extension().is_some_and(|extension| extension == "wasm");
            let is_used = ComponentDigest::parse(digest).is_some_and(|digest| used.contains(&digest));
            if is_component && !is_used && !loaded.contains_key(digest) {
                fs::remove_file(&path)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns true if the text is a file path and not a name.
fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".wasm")
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn checks_stage_names() {
        for name in ["a", "encode-json", "acme.cef_2", "0", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "A", "a b", "a/b", "a@1", "sha256:00", "a.wasm", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}

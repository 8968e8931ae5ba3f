//! Imports components from a folder: a new or changed `NAME.wasm` becomes a new version of NAME.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use logship_logstore::Store;

use crate::catalog::{CatalogError, StageCatalog};
use crate::digest;

/// The author of changes that a file causes, in the history of a name.
const BY: &str = "the folder";

/// Polls a folder for new and changed components.
#[derive(Debug)]
pub struct FolderWatcher {
    path: PathBuf,
    catalog: Arc<StageCatalog>,
    store: Arc<Store>,
    state: Mutex<ScanState>,
}

/// The state after the last scan.
#[derive(Debug, Default)]
struct ScanState {
    /// True after the first scan of this process.
    was_scanned: bool,
    /// The files, by name without `.wasm`.
    files: BTreeMap<String, ScannedFile>,
}

/// A file at the last scan.
#[derive(Debug)]
struct ScannedFile {
    stamp: Stamp,
    /// True if the file was imported or rejected. It is skipped until it changes.
    is_processed: bool,
    problem: Option<String>,
}

/// The modification time and size, to detect changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
}

/// A file that could not be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedFile {
    /// The name of the file.
    pub file: String,
    /// The reason.
    pub problem: String,
}

impl FolderWatcher {
    /// Creates a watcher of the folder `path` that imports into a catalog. `store` is the catalog's store.
    pub fn new(path: PathBuf, catalog: Arc<StageCatalog>, store: Arc<Store>) -> Self {
        Self { path, catalog, store, state: Mutex::default() }
    }

    /// Imports the files that changed since the last scan. A changed file is imported when two scans saw the same size and
    /// time, because it may still be written; with `at_once`, immediately. Blocks.
    pub fn scan(&self, at_once: bool) {
        let mut state = self.state();
        let files = match files(&self.path) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), %error, "can't scan the folder of stages");
                return;
            }
        };
        let is_first = !std::mem::replace(&mut state.was_scanned, true);
        let scanned = &mut state.files;
        scanned.retain(|name, _| files.contains_key(name));
        for (name, stamp) in files {
            let before = scanned.get(&name).filter(|before| before.stamp == stamp);
            if before.is_some_and(|before| before.is_processed) {
                continue;
            }
            let is_settled = at_once || is_first || before.is_some();
            let mut now = ScannedFile { stamp, is_processed: is_settled, problem: None };
            if is_settled && let Err(problem) = self.import(&name, is_first) {
                tracing::warn!(stage = name, %problem, "a component was not imported; the current version stays");
                // A full disk or a concurrent change may be gone at the next scan.
                now.is_processed = !matches!(problem, ImportError::Catalog(CatalogError::Store(_)));
                now.problem = Some(problem.to_string());
            }
            scanned.insert(name, now);
        }
    }

    /// Returns the files that could not be imported.
    pub fn rejected_files(&self) -> Vec<RejectedFile> {
        let rejected = |(name, scanned): (&String, &ScannedFile)| {
            Some(RejectedFile { file: format!("{name}.wasm"), problem: scanned.problem.clone()? })
        };
        self.state().files.iter().filter_map(rejected).collect()
    }

    fn state(&self) -> MutexGuard<'_, ScanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Imports a file as the newest version of its name.
    fn import(&self, name: &str, is_first: bool) -> Result<(), ImportError> {
        let path = self.path.join(format!("{name}.wasm"));
        let bytes = fs::read(&path)?;
        let digest = digest(&bytes);
        let catalog = self.store.catalog();
        let known = catalog.stages().aliases.get(name);
        let is_pinned = known.is_some_and(|known| known.pinned);
        match known.and_then(|known| known.version(&digest)) {
            // An older process imported it already: later changes to the name win.
            Some(_) if is_first => Ok(()),
            Some(version) if known.and_then(|known| known.digest()) == Some(&version.digest) || is_pinned => {
                Ok(())
            }
            Some(version) => Ok(self.catalog.swap(name, &version.version, false, BY).map(drop)?),
            None if is_first && self.store.is_stage_removed(name, &digest).map_err(CatalogError::from)? => {
                Ok(())
            }
            None => {
                self.catalog.add(Some(name), &bytes, &path.display().to_string(), BY, !is_pinned)?;
                Ok(())
            }
        }
    }
}

/// Why a file can't be imported.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("can't be read: {0}")]
    File(#[from] io::Error),
}

/// The components in a folder, by name. A missing folder has none.
fn files(folder: &Path) -> io::Result<BTreeMap<String, Stamp>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        // Follows links, and skips a file that was deleted meanwhile.
        if let (true, Some(name), Ok(metadata)) = (is_component, name, fs::metadata(&path))
            && metadata.is_file()
        {
            files.insert(name.to_owned(), Stamp { modified: metadata.modified().ok(), size: metadata.len() });
        }
    }
    Ok(files)
}

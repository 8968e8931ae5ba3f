//! Components that are put into a folder: a changed `NAME.wasm` is a new version of NAME.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use logship_logstore::Store;

use super::book::{Book, BookError};
use super::digest;

/// Who changes names when a file does.
const BY: &str = "the folder";

/// Watches a folder of components, by looking at it again and again.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    book: Arc<Book>,
    store: Arc<Store>,
    looked: Mutex<Looked>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Looked {
    /// Whether it was looked at before, in this process.
    before: bool,
    /// By the names of the files, without `.wasm`.
    files: BTreeMap<String, Seen>,
}

/// A file as it was when it was looked at last.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// Whether it was taken, or refused: it is not looked at again before it changes.
    done: bool,
    problem: Option<String>,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
}

/// A file that is no version of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name of the file.
    pub file: String,
    /// Why not.
    pub problem: String,
}

impl Folder {
    /// Watches `path` for the names of a book, which are in `store`.
    pub fn new(path: PathBuf, book: Arc<Book>, store: Arc<Store>) -> Self {
        Self { path, book, store, looked: Mutex::default() }
    }

    /// Takes what changed since it was looked last. What is still being written is left for the next look, unless
    /// `at_once`. Blocks.
    pub fn look(&self, at_once: bool) {
        let mut looked = self.looked();
        let files = match files(&self.path) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), %error, "can't look for stages");
                return;
            }
        };
        let is_first = !std::mem::replace(&mut looked.before, true);
        let seen = &mut looked.files;
        seen.retain(|name, _| files.contains_key(name));
        for (name, stamp) in files {
            let before = seen.get(&name).filter(|before| before.stamp == stamp);
            if before.is_some_and(|before| before.done) {
                continue;
            }
            let is_settled = at_once || is_first || before.is_some();
            let mut now = Seen { stamp, done: is_settled, problem: None };
            if is_settled && let Err(problem) = self.take(&name, is_first) {
                tracing::warn!(stage = name, %problem, "a component is not taken; what it was to replace stays");
                // The disk is full, or somebody else was faster: the next look may do.
                now.done = !matches!(problem, Problem::Book(BookError::Store(_)));
                now.problem = Some(problem.to_string());
            }
            seen.insert(name, now);
        }
    }

    /// Files that are no version of a stage.
    pub fn broken(&self) -> Vec<Broken> {
        let broken = |(name, seen): (&String, &Seen)| {
            Some(Broken { file: format!("{name}.wasm"), problem: seen.problem.clone()? })
        };
        self.looked().files.iter().filter_map(broken).collect()
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a file as the newest version of its name.
    fn take(&self, name: &str, is_first: bool) -> Result<(), Problem> {
        let path = self.path.join(format!("{name}.wasm"));
        let bytes = fs::read(&path)?;
        let digest = digest(&bytes);
        let catalog = self.store.catalog();
        let known = catalog.stages().names.get(name);
        let is_pinned = known.is_some_and(|known| known.pinned);
        match known.and_then(|known| known.version(&digest)) {
            // It was there when the service began: whatever was done since it was taken holds.
            Some(_) if is_first => Ok(()),
            Some(version) if known.and_then(|known| known.digest()) == Some(&version.digest) || is_pinned => {
                Ok(())
            }
            Some(version) => Ok(self.book.swap(name, &version.version, false, BY).map(drop)?),
            None if is_first && self.store.is_stage_removed(name, &digest).map_err(BookError::from)? => {
                Ok(())
            }
            None => {
                self.book.add(Some(name), &bytes, &path.display().to_string(), BY, !is_pinned)?;
                Ok(())
            }
        }
    }
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Book(#[from] BookError),
    #[error("can't be read: {0}")]
    File(#[from] io::Error),
}

/// The components in a folder, by name. A folder that is not there has none.
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
        // Through links; what is gone meanwhile is not there.
        if let (true, Some(name), Ok(facts)) = (is_component, name, fs::metadata(&path))
            && facts.is_file()
        {
            files.insert(name.to_owned(), Stamp { modified: facts.modified().ok(), size: facts.len() });
        }
    }
    Ok(files)
}

//! Values made of files, such as certificates, that are made again when a file changes.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The interval of checks for changed files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A value made of files. If they change to something that can't be used, the value stays.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: T,
    versions: Vec<Version>,
    checked: Instant,
    /// The last problem, which is logged once.
    problem: Option<String>,
}

/// The version of a file: inode, size, and time of its last change; `None` if there is no file.
type Version = Option<(u64, u64, i64, i64)>;

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Clone> Reloaded<T> {
    /// Makes a value of files. `make` returns what is wrong with them.
    ///
    /// # Errors
    /// The error of `make`.
    pub fn new<E: ToString>(
        files: impl IntoIterator<Item = PathBuf>,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let files: Vec<_> = files.into_iter().collect();
        // Read first, so that a change meanwhile is noticed later.
        let (versions, checked) = (versions(&files), Instant::now());
        let state = State { value: make()?, versions, checked, problem: None };
        let make = move || make().map_err(|error| error.to_string());
        Ok(Self { files, make: Box::new(make), state: Mutex::new(state) })
    }

    /// Returns the value. Makes it again if a file changed more than a second ago.
    pub fn get(&self) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.files.is_empty() && state.checked.elapsed() >= CHECK_INTERVAL {
            state.checked = Instant::now();
            self.reload(&mut state);
        }
        state.value.clone()
    }

    fn reload(&self, state: &mut State<T>) {
        let versions = versions(&self.files);
        if versions == state.versions {
            return;
        }
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let files = files.join(", ");
        match (self.make)() {
            Ok(value) => {
                tracing::info!(files, "reloaded changed files");
                (state.value, state.versions, state.problem) = (value, versions, None);
            }
            // The versions stay, so that it is tried again: another file may follow.
            Err(problem) => {
                if state.problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        files,
                        problem,
                        "can't reload changed files; the old content stays in use"
                    );
                    state.problem = Some(problem);
                }
            }
        }
    }
}

fn versions(files: &[PathBuf]) -> Vec<Version> {
    let version = |path: &PathBuf| fs::metadata(Path::new(path)).ok();
    let version = |path| version(path).map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()));
    files.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reloads at once.
    fn now<T: Clone>(reloaded: &Reloaded<T>) -> T {
        reloaded.state.lock().unwrap().checked = Instant::now() - CHECK_INTERVAL;
        reloaded.get()
    }

    #[test]
    fn follows_changes_and_keeps_the_last_good_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let read = {
            let file = file.clone();
            move || match fs::read_to_string(&file) {
                Ok(text) if text == "bad" => Err("bad".to_owned()),
                read => read.map_err(|error| error.to_string()),
            }
        };
        assert!(Reloaded::new([file.clone()], read.clone()).is_err());
        fs::write(&file, "first").unwrap();
        let reloaded = Reloaded::new([file.clone()], read).unwrap();
        assert_eq!(now(&reloaded), "first");
        fs::write(&file, "bad").unwrap();
        assert_eq!(now(&reloaded), "first");
        fs::remove_file(&file).unwrap();
        assert_eq!(now(&reloaded), "first");
        // Replaced by another file, as tools for certificates do.
        fs::write(folder.path().join("new"), "third").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(now(&reloaded), "third");
    }

    #[test]
    fn checks_at_most_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "first").unwrap();
        let read = {
            let file = file.clone();
            move || fs::read_to_string(&file)
        };
        let reloaded = Reloaded::new([file.clone()], read).unwrap();
        reloaded.state.lock().unwrap().checked = Instant::now() + Duration::from_secs(3600);
        fs::write(&file, "second").unwrap();
        assert_eq!(reloaded.get(), "first");
    }
}

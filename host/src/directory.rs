//! A local directory as an object store.
//!
//! Not by way of OpenDAL, as the others: its writer takes the place of what is there, and leaves it to the system
//! when the name of a file comes to the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::destination::{DestinationError, Found};
use crate::part::{self, Part, Whole};

/// A local directory as an object store: keys are paths below it.
///
/// An object has its name only when all of it is on disk, and never takes the place of another.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    must_exist: bool,
}

impl Directory {
    /// The directory at `root`, made when the first object is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), must_exist: false }
    }

    /// The directory at `root`, which somebody else makes: as a bucket that has to be there.
    pub fn existing(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), must_exist: true }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins an object. `header_room` bytes are kept free at its beginning.
    pub(crate) fn begin(&self, key: &str, header_room: usize) -> Result<Part, DestinationError> {
        let path = self.path(key)?;
        let begin = || {
            make_folders(folder(&path))?;
            Part::staying(folder(&path), header_room)
        };
        begin().map_err(|error| DestinationError::io(&path, error))
    }

    /// Brings an object to the disk, and gives it its name.
    pub(crate) fn publish(&self, whole: Whole, key: &str) -> Result<(), DestinationError> {
        let path = self.path(key)?;
        let publish = || {
            whole.sync()?;
            // Opened before: behind the new name nothing may fail that would call the object unwritten.
            let folder = File::open(folder(&path))?;
            whole.link(&path)?;
            let synced = sync_folder(&folder);
            if synced.is_err() {
                fs::remove_file(&path)?;
            }
            synced
        };
        publish().map_err(|error: io::Error| DestinationError::io(&path, error))
    }

    /// What is there under a key.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Found>, DestinationError> {
        let path = self.path(key)?;
        let read = File::open(&path).and_then(|file| part::digest(&file));
        match read {
            Ok((bytes, sha256)) => {
                // It may be the name that did not come to the disk before the process was killed.
                let synced = File::open(folder(&path)).and_then(|folder| sync_folder(&folder));
                synced.map_err(|error| DestinationError::io(&path, error))?;
                Ok(Some(Found { bytes, sha256 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DestinationError::io(&path, error)),
        }
    }

    /// The keys of all objects whose keys begin with `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<String>, DestinationError> {
        let root = self.path("")?;
        if !root.exists() {
            return Ok(vec![]);
        }
        let mut keys = vec![];
        for entry in walkdir::WalkDir::new(&root) {
            let entry = entry.map_err(|error| DestinationError::io(&root, error.into()))?;
            let key = entry.path().strip_prefix(&root).unwrap_or(entry.path()).to_string_lossy();
            if entry.file_type().is_file() && key.starts_with(prefix) {
                keys.push(key.into_owned());
            }
        }
        Ok(keys)
    }

    /// The bytes of an object.
    pub(crate) fn read(&self, key: &str) -> Result<Vec<u8>, DestinationError> {
        let path = self.path(key)?;
        fs::read(&path).map_err(|error| DestinationError::io(&path, error))
    }

    /// Deletes an object, on disk.
    pub(crate) fn delete(&self, key: &str) -> Result<(), DestinationError> {
        let path = self.path(key)?;
        let delete = || {
            fs::remove_file(&path)?;
            sync_folder(&File::open(folder(&path))?)
        };
        delete().map_err(|error| DestinationError::io(&path, error))
    }

    /// Tries whether objects can be written.
    pub(crate) fn probe(&self) -> Result<(), DestinationError> {
        let root = self.path("")?;
        Part::within(&root, 1).map(drop).map_err(|error| DestinationError::io(&root, error))
    }

    fn path(&self, key: &str) -> Result<PathBuf, DestinationError> {
        if self.must_exist && !self.root.is_dir() {
            let problem = format!(
                "there is no folder {0}: a bucket of this destination is a folder; make it with mkdir -p {0}",
                self.root.display()
            );
            return Err(DestinationError::NoBucket(problem));
        }
        Ok(self.root.join(key))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a folder and those above it, on disk: an object is only as durable as its path.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = self::folder(folder);
    make_folders(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(&File::open(above)?)
}

/// Brings the names in a folder to the disk, where its file system knows how.
fn sync_folder(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn the_header_comes_first_whatever_room_was_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        for (room, header) in [(0, ""), (4, "four"), (4, ""), (4, "five!"), (0, "x")] {
            let key = format!("{room}/{header}o");
            let mut part = store.begin(&key, room).unwrap();
            part.write(b"bo").unwrap();
            part.write(b"dy").unwrap();
            let whole = part.finish(header.as_bytes()).unwrap();
            let (bytes, sha256) = (whole.bytes, whole.sha256.clone());
            store.publish(whole, &key).unwrap();
            let read = fs::read_to_string(root.path().join(&key)).unwrap();
            assert_eq!((read.as_str(), bytes), (format!("{header}body").as_str(), read.len() as u64));
            assert_eq!(store.find(&key).unwrap().unwrap(), Found { bytes, sha256 });
        }
        assert_eq!(names(&root.path().join("4")).len(), 3);
    }

    #[test]
    fn an_object_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut part = Directory::new(root.path()).begin("a/b", 0).unwrap();
        part.write(b"half").unwrap();
        assert!(!root.path().join("a/b").exists());
        drop(part);
        assert_eq!(names(&root.path().join("a")), Vec::<String>::new());
    }

    #[test]
    fn another_object_is_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let late = store.begin("key", 0).unwrap().finish(b"second").unwrap();
        store.publish(store.begin("key", 0).unwrap().finish(b"first").unwrap(), "key").unwrap();
        assert!(matches!(store.publish(late, "key"), Err(DestinationError::Exists(_))));
        assert_eq!(fs::read(root.path().join("key")).unwrap(), b"first");
        assert_eq!(names(root.path()), ["key"]);
    }

    #[test]
    fn a_bucket_that_has_to_be_there_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::existing(root.path().join("lake"));
        assert!(matches!(store.probe(), Err(DestinationError::NoBucket(_))));
        assert!(matches!(store.begin("key", 0), Err(DestinationError::NoBucket(_))));
        fs::create_dir(root.path().join("lake")).unwrap();
        store.probe().unwrap();
        assert_eq!(names(&root.path().join("lake")), Vec::<String>::new());
    }
}

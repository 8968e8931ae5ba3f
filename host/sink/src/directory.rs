//! A local directory as an object store.
//!
//! It does not use OpenDAL, unlike the other stores: OpenDAL's writer overwrites existing files and does not
//! sync the directory entry to disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::object::{ObjectInfo, ObjectSink, Provenance, SinkError};
use crate::staged_file;
use crate::staged_file::{FinishedFile, StagedFile};

/// A local directory as an object store: keys are paths below it.
///
/// An object gets its name only when all of it is on disk. It never overwrites another object.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    must_exist: bool,
}

impl Directory {
    /// Uses the directory at `root`, created with the first object.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), must_exist: false }
    }

    /// Uses the directory at `root`, which must exist, like a bucket.
    pub fn existing(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), must_exist: true }
    }

    /// Returns the path of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &str) -> Result<PathBuf, SinkError> {
        if self.must_exist && !self.root.is_dir() {
            let problem = format!(
                "folder {0} does not exist: a bucket of this destination is a folder. Create it with mkdir -p {0}",
                self.root.display()
            );
            return Err(SinkError::NoBucket(problem));
        }
        Ok(self.root.join(key))
    }
}

impl ObjectSink for Directory {
    fn begin(&self, key: &str, header_room: usize) -> Result<StagedFile, SinkError> {
        let path = self.path(key)?;
        let begin = || {
            make_folders(folder(&path))?;
            StagedFile::create_durable(folder(&path), header_room)
        };
        begin().map_err(|error| SinkError::io(&path, error))
    }

    fn publish(&self, file: FinishedFile, key: &str, _: &str, _: &Provenance) -> Result<(), SinkError> {
        let path = self.path(key)?;
        let publish = || {
            file.sync()?;
            // Opened before the link: after the link, no error may report the object as unwritten.
            let folder = File::open(folder(&path))?;
            file.link(&path)?;
            let synced = sync_folder(&folder);
            if synced.is_err() {
                fs::remove_file(&path)?;
            }
            synced
        };
        publish().map_err(|error: io::Error| SinkError::io(&path, error))
    }

    fn find(&self, key: &str) -> Result<Option<ObjectInfo>, SinkError> {
        let path = self.path(key)?;
        let read = File::open(&path).and_then(|file| staged_file::digest(&file));
        match read {
            Ok((bytes, sha256)) => {
                // The process may have been killed before the directory entry was on disk.
                let synced = File::open(folder(&path)).and_then(|folder| sync_folder(&folder));
                synced.map_err(|error| SinkError::io(&path, error))?;
                Ok(Some(ObjectInfo { bytes, sha256 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SinkError::io(&path, error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let root = self.path("")?;
        if !root.exists() {
            return Ok(vec![]);
        }
        let mut keys = vec![];
        for entry in walkdir::WalkDir::new(&root) {
            let entry = entry.map_err(|error| SinkError::io(&root, error.into()))?;
            let key = entry.path().strip_prefix(&root).unwrap_or(entry.path()).to_string_lossy();
            if entry.file_type().is_file() && key.starts_with(prefix) {
                keys.push(key.into_owned());
            }
        }
        Ok(keys)
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError> {
        let path = self.path(key)?;
        fs::read(&path).map_err(|error| SinkError::io(&path, error))
    }

    fn delete(&self, key: &str) -> Result<(), SinkError> {
        let path = self.path(key)?;
        let delete = || {
            fs::remove_file(&path)?;
            sync_folder(&File::open(folder(&path))?)
        };
        delete().map_err(|error| SinkError::io(&path, error))
    }

    fn probe(&self, _: &str) -> Result<(), SinkError> {
        let root = self.path("")?;
        StagedFile::create(&root, 1).map(drop).map_err(|error| SinkError::io(&root, error))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Creates a folder and its parents, and syncs them to disk: an object is only as durable as its path.
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

/// Syncs the entries of a folder to disk, if the file system supports it.
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
    fn header_precedes_body_for_any_reserved_size() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        for (room, header) in [(0, ""), (4, "four"), (4, ""), (4, "five!"), (0, "x")] {
            let key = format!("{room}/{header}o");
            let mut staged = store.begin(&key, room).unwrap();
            staged.write(b"bo").unwrap();
            staged.write(b"dy").unwrap();
            let file = staged.finish(header.as_bytes()).unwrap();
            let (bytes, sha256) = (file.bytes, file.sha256.clone());
            store.publish(file, &key, "", &vec![]).unwrap();
            let read = fs::read_to_string(root.path().join(&key)).unwrap();
            assert_eq!((read.as_str(), bytes), (format!("{header}body").as_str(), read.len() as u64));
            assert_eq!(store.find(&key).unwrap().unwrap(), ObjectInfo { bytes, sha256 });
        }
        assert_eq!(names(&root.path().join("4")).len(), 3);
    }

    #[test]
    fn dropped_object_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut staged = Directory::new(root.path()).begin("a/b", 0).unwrap();
        staged.write(b"half").unwrap();
        assert!(!root.path().join("a/b").exists());
        drop(staged);
        assert_eq!(names(&root.path().join("a")), Vec::<String>::new());
    }

    #[test]
    fn never_overwrites_another_object() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let late = store.begin("key", 0).unwrap().finish(b"second").unwrap();
        store.publish(store.begin("key", 0).unwrap().finish(b"first").unwrap(), "key", "", &vec![]).unwrap();
        assert!(matches!(store.publish(late, "key", "", &vec![]), Err(SinkError::Exists(_))));
        assert_eq!(fs::read(root.path().join("key")).unwrap(), b"first");
        assert_eq!(names(root.path()), ["key"]);
    }

    #[test]
    fn does_not_create_required_bucket() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::existing(root.path().join("lake"));
        assert!(matches!(store.probe(""), Err(SinkError::NoBucket(_))));
        assert!(matches!(store.begin("key", 0), Err(SinkError::NoBucket(_))));
        fs::create_dir(root.path().join("lake")).unwrap();
        store.probe("").unwrap();
        assert_eq!(names(&root.path().join("lake")), Vec::<String>::new());
    }
}

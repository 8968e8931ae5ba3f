//! [`Directory`] as a sink.

use std::fs;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{client, error};
use crate::error::SinkError;
use crate::object::{ObjectInfo, ObjectSink, Provenance};
use crate::sink::Sink;
use crate::staged_file::{FinishedFile, StagedFile};

/// A local directory as an object store: keys are paths below it.
///
/// An object gets its name only when all of it is on disk. It never overwrites another object.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    name: String,
    must_exist: bool,
}

impl Directory {
    pub(super) fn at(root: PathBuf, must_exist: bool) -> Self {
        Self { name: root.display().to_string(), root, must_exist }
    }

    fn path(&self, key: &str) -> Result<PathBuf, SinkError> {
        if self.must_exist && !self.root.is_dir() {
            return Err(error::no_bucket(&self.root));
        }
        Ok(self.root.join(key))
    }
}

impl Sink for Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn probe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        let probe = || {
            let root = self.path("")?;
            StagedFile::create(&root, 1).map(drop).map_err(error::at(&root))
        };
        Box::pin(async move { probe() })
    }
}

impl ObjectSink for Directory {
    fn begin(&self, key: &str, header_room: usize) -> Result<StagedFile, SinkError> {
        let path = self.path(key)?;
        client::begin(&path, header_room).map_err(error::at(&path))
    }

    fn publish(&self, file: FinishedFile, key: &str, _: &str, _: &Provenance) -> Result<(), SinkError> {
        let path = self.path(key)?;
        client::publish(file, &path).map_err(error::at(&path))
    }

    fn find(&self, key: &str) -> Result<Option<ObjectInfo>, SinkError> {
        let path = self.path(key)?;
        client::find(&path).map_err(error::at(&path))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let root = self.path("")?;
        client::list(&root, prefix).map_err(error::at(&root))
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError> {
        let path = self.path(key)?;
        fs::read(&path).map_err(error::at(&path))
    }

    fn delete(&self, key: &str) -> Result<(), SinkError> {
        let path = self.path(key)?;
        client::delete(&path).map_err(error::at(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    fn probe(store: &Directory) -> Result<(), SinkError> {
        futures_util::FutureExt::now_or_never(store.probe("")).unwrap()
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
            assert_eq!(store.find(&key).unwrap().unwrap(), ObjectInfo { bytes, sha256, heads: None });
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
        assert!(matches!(probe(&store), Err(SinkError::NoBucket(_))));
        assert!(matches!(store.begin("key", 0), Err(SinkError::NoBucket(_))));
        fs::create_dir(root.path().join("lake")).unwrap();
        probe(&store).unwrap();
        assert_eq!(names(&root.path().join("lake")), Vec::<String>::new());
    }
}

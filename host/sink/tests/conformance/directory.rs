//! The suite against a folder.

use std::path::Path;

use logship_config::destination::DestinationConfig;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::object_suite::{BUCKET, Store, object_sink_tests};

struct Folder(TempDir);

impl Store for Folder {
    fn start(_: &Runtime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        Self(folder)
    }

    fn config(&self) -> DestinationConfig {
        DestinationConfig::Directory { path: self.0.path().to_owned() }
    }

    fn wrong_key(&self) -> Option<DestinationConfig> {
        None
    }

    fn keys(&self) -> Vec<String> {
        files(&self.0.path().join(BUCKET))
    }

    fn unfinished(&self) -> Vec<String> {
        // A staged file with a name begins with a dot.
        self.keys().into_iter().filter(|key| key.contains(".logship-")).collect()
    }
}

/// The paths of all files below a folder, relative to it.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let files = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
}

object_sink_tests!(Folder, "directory");

//! Makes backups.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logship_delivery::engine::batch::Sealed;
use logship_logstore::{Options, Store};

use super::{BackupError, Manifest, copy_private, create_directory, remove_content};
use crate::Service;
use crate::keys::KeyFile;

/// What to do about files in the directory of a backup.
const ADVICE: &str = "choose another directory for the backup";

/// The file of a backup that is being made, locked meanwhile.
const UNFINISHED: &str = "backup.unfinished";

/// A backup to make.
struct Source<'a> {
    store: &'a Store,
    data: &'a Path,
    settings: Option<String>,
}

/// Backs up a running service to a directory, which must be new or empty. Blocks.
pub(crate) fn back_up(service: &Arc<Service>, directory: &Path) -> Result<Manifest, BackupError> {
    let sealed = || Ok(service.delivery.seal()?);
    let source =
        Source { store: &service.store, data: &service.config.data, settings: service.config.digest.clone() };
    source.copy_to(directory, sealed)
}

/// Backs up a data directory that no service uses. Rules whose logs are not shipped yet wait after a restore. Blocks.
///
/// # Errors
/// When a service uses the data directory, or the directory of the backup is not empty.
pub fn back_up_stopped(
    data: &Path,
    settings: Option<String>,
    directory: &Path,
) -> Result<Manifest, BackupError> {
    let store = Store::open(data, Options { expires: false, ..Options::default() })?;
    let sealed = || Ok(Sealed { snapshot: store.snapshot()?, tasks: vec![], repeatable_rules: vec![] });
    let made = Source { store: &store, data, settings }.copy_to(directory, sealed);
    store.close();
    made
}

impl Source<'_> {
    /// Copies everything. Removes what it made if that fails.
    fn copy_to(
        &self,
        directory: &Path,
        seal: impl FnOnce() -> Result<Sealed, BackupError>,
    ) -> Result<Manifest, BackupError> {
        if !directory.is_absolute() {
            return Err(BackupError::Relative(directory.into()));
        }
        remove_unfinished(directory)?;
        let is_new = create_directory(directory, ADVICE)?;
        let mark = mark_unfinished(directory)?;
        let copied = seal().and_then(|sealed| self.copy_files(directory, &sealed));
        if copied.is_ok() {
            // A complete backup has a manifest, whether or not the mark is there.
            let _ = fs::remove_file(directory.join(UNFINISHED));
        }
        drop(mark);
        if copied.is_err() {
            // The reason of the failure matters more than what is left.
            let _ = remove_content(directory);
            let _ = is_new.then(|| fs::remove_dir(directory));
        }
        copied
    }

    fn copy_files(&self, directory: &Path, sealed: &Sealed) -> Result<Manifest, BackupError> {
        let (generation, time) = (self.store.generation(), self.store.clock());
        // Before the database: a component that is not used any more may be deleted.
        let mut paths = self.copy_components(directory)?;
        let keys = KeyFile::within(self.data);
        if keys.path().exists() {
            copy_private(keys.path(), &directory.join("keys.toml"))?;
            paths.push("keys.toml".into());
        }
        sealed.snapshot.copy_to(&directory.join("logstore.db"), &sealed.tasks, time)?;
        paths.push("logstore.db".into());
        let repeatable: HashSet<i64> = sealed.repeatable_rules.iter().copied().collect();
        let facts = (&generation, self.settings.clone(), time);
        let manifest = Manifest::of(directory, &paths, facts, repeatable)?;
        manifest.write(directory)?;
        Ok(manifest)
    }

    /// Copies the components of stages. Returns their paths in the backup.
    fn copy_components(&self, directory: &Path) -> Result<Vec<PathBuf>, BackupError> {
        let from = self.data.join("stages");
        let mut paths = vec![];
        let entries = match fs::read_dir(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(paths),
            entries => entries.map_err(|source| BackupError::file(&from, source))?,
        };
        for entry in entries {
            let path = entry.map_err(|source| BackupError::file(&from, source))?.path();
            let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
            let to = Path::new("stages").join(name);
            create_stages(directory)?;
            copy_private(&path, &directory.join(&to))?;
            paths.push(to);
        }
        Ok(paths)
    }
}

/// Removes what a killed backup left in a directory.
fn remove_unfinished(directory: &Path) -> Result<(), BackupError> {
    let mark = directory.join(UNFINISHED);
    let Ok(lock) = File::options().write(true).open(&mark) else { return Ok(()) };
    // A running backup has locked the mark.
    if Manifest::exists(directory) || lock.try_lock().is_err() {
        return Ok(());
    }
    remove_content(directory).map_err(|source| BackupError::file(directory, source))
}

/// Marks a directory as a backup that is being made, as long as the file is open.
fn mark_unfinished(directory: &Path) -> Result<File, BackupError> {
    let path = directory.join(UNFINISHED);
    let file = File::options().write(true).create_new(true).open(&path);
    let file = file.map_err(|source| BackupError::file(&path, source))?;
    let _ = file.try_lock();
    Ok(file)
}

fn create_stages(directory: &Path) -> Result<(), BackupError> {
    let stages = directory.join("stages");
    fs::create_dir_all(&stages).map_err(|source| BackupError::file(&stages, source))
}

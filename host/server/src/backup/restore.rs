//! Restores backups.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use logship_logstore::{LOCK, Options, RESTORING, Restored, lock_directory};

use super::{BackupError, Manifest, copy_private, remove, remove_content};

/// The file of the database.
const DATABASE: &str = "logstore.db";

/// What to do about files in the data directory.
const ADVICE: &str =
    "stop the service that uses it, and move it away (mv), or restore to another directory (--data)";

/// What to do about a data directory whose restore ended, but for its last step.
const COMPLETE_ADVICE: &str = "an earlier restore into it is complete: start the service with it, or restore to another directory (--data)";

/// Restores a backup as the data directory `data`, which must be new or empty. Returns the manifest of the backup, and
/// the restored store.
///
/// Until it is complete, the directory has the files in [`RESTORING`], which no service accepts. A killed restore can be
/// repeated.
///
/// # Errors
/// When the backup is incomplete or damaged, or the data directory has files, or another process uses it.
pub fn restore(backup: &Path, data: &Path) -> Result<(Manifest, Restored), BackupError> {
    let manifest = Manifest::read(backup)?;
    let target = Target::begin(data)?;
    let restored = target.make(&manifest, backup);
    if restored.is_err() {
        // The reason of the failure matters more than what is left.
        let _ = remove_content(data);
        let _ = target.is_new.then(|| fs::remove_dir(data));
    }
    Ok((manifest, restored?))
}

/// A data directory to make, locked against services and other restores.
struct Target<'a> {
    data: &'a Path,
    /// The directory with the files of an incomplete restore.
    partial: PathBuf,
    is_new: bool,
    _lock: File,
}

impl<'a> Target<'a> {
    /// Creates the directory, or takes one that is empty, or in which a restore was interrupted.
    fn begin(data: &'a Path) -> Result<Self, BackupError> {
        let is_new = !data.exists();
        let failed = |source| BackupError::file(data, source);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
        check_free(data)?;
        let lock = lock_directory(data)?;
        // Another restore may have ended meanwhile.
        check_free(data)?;
        Ok(Self { data, partial: data.join(RESTORING), is_new, _lock: lock })
    }

    fn make(&self, manifest: &Manifest, backup: &Path) -> Result<Restored, BackupError> {
        let failed = |source| BackupError::file(&self.partial, source);
        if self.partial.exists() {
            fs::remove_dir_all(&self.partial).map_err(failed)?;
        }
        for name in names(self.data)?.into_iter().filter(|name| name != LOCK) {
            remove(&self.data.join(name)).map_err(failed)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&self.partial).map_err(failed)?;
        let restored = fill(manifest, backup, &self.partial)?;
        self.publish()?;
        Ok(restored)
    }

    /// Moves the complete files to their place.
    fn publish(&self) -> Result<(), BackupError> {
        let failed = |source| BackupError::file(self.data, source);
        for name in self.moves()? {
            let path = self.partial.join(&name);
            if path.is_dir() {
                sync(&path).map_err(failed)?;
            }
            if name == DATABASE {
                // A power failure must not keep the database and lose the others.
                sync(self.data).map_err(failed)?;
            }
            fs::rename(path, self.data.join(&name)).map_err(failed)?;
        }
        fs::remove_dir(&self.partial).and_then(|()| sync(self.data)).map_err(failed)
    }

    /// Returns the files and directories to move, in order. The database comes last: without it, nothing is restored.
    fn moves(&self) -> Result<Vec<OsString>, BackupError> {
        let mut names = names(&self.partial)?;
        names.sort_by_key(|name| name == DATABASE);
        Ok(names)
    }
}

/// Fails if a directory has files, other than those of an interrupted restore.
fn check_free(data: &Path) -> Result<(), BackupError> {
    let names = names(data)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let advice = match (has(RESTORING), has(DATABASE)) {
        (true, false) => return Ok(()),
        (true, true) => COMPLETE_ADVICE,
        (false, _) if names.iter().all(|name| name == LOCK) => return Ok(()),
        (false, _) => ADVICE,
    };
    Err(BackupError::NotEmpty { path: data.into(), advice })
}

/// Returns the names of the files in a directory.
fn names(directory: &Path) -> Result<Vec<OsString>, BackupError> {
    let names =
        fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    names.map_err(|source| BackupError::file(directory, source))
}

/// Copies the files of a backup, and begins a generation.
fn fill(manifest: &Manifest, backup: &Path, data: &Path) -> Result<Restored, BackupError> {
    for file in &manifest.files {
        let to = data.join(&file.path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|source| BackupError::file(parent, source))?;
        }
        copy_private(&backup.join(&file.path), &to)?;
    }
    let now = (Options::default().clock)();
    Ok(Restored::begin(data, &manifest.repeatable_rules, now)?)
}

fn sync(directory: &Path) -> Result<(), io::Error> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use logship_logstore::{Store, StoreError};

    use super::*;
    use crate::backup::back_up_stopped;

    /// Makes a backup with all kinds of files.
    fn backup(folder: &Path) -> PathBuf {
        let (data, backup) = (folder.join("data"), folder.join("backup"));
        open(&data).unwrap();
        fs::create_dir(data.join("stages")).unwrap();
        fs::write(data.join("stages/digest.wasm"), "component").unwrap();
        fs::write(data.join("keys.toml"), "keys").unwrap();
        back_up_stopped(&data, None, &backup).unwrap();
        backup
    }

    fn open(data: &Path) -> Result<(), StoreError> {
        Store::open(data, Options { expires: false, ..Options::default() }).map(|store| store.close())
    }

    /// Leaves a directory as a restore does that is killed after some moves.
    fn interrupt(backup: &Path, data: &Path, moves: usize) {
        let target = Target::begin(data).unwrap();
        fs::create_dir(&target.partial).unwrap();
        fill(&Manifest::read(backup).unwrap(), backup, &target.partial).unwrap();
        for name in target.moves().unwrap().into_iter().take(moves) {
            fs::rename(target.partial.join(&name), data.join(&name)).unwrap();
        }
    }

    #[test]
    fn restore_killed_between_two_moves_is_no_store_and_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let backup = backup(folder.path());
        let all = ["high-water.1", "keys.toml", "logstore.db", "stages"];
        for moves in 0..all.len() {
            let data = folder.path().join(format!("killed-{moves}"));
            interrupt(&backup, &data, moves);
            assert!(matches!(open(&data), Err(StoreError::Restoring(_))), "after {moves} moves");
            assert!(!data.join(DATABASE).exists(), "the refused service created no store");
            restore(&backup, &data).unwrap();
            let mut found = names(&data).unwrap();
            found.retain(|name| name != LOCK);
            found.sort();
            assert_eq!(found, all, "after {moves} moves");
            open(&data).unwrap();
        }
    }

    #[test]
    fn restore_killed_after_the_last_move_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let (backup, data) = (backup(folder.path()), folder.path().join("killed"));
        interrupt(&backup, &data, usize::MAX);
        let repeated = restore(&backup, &data).unwrap_err().to_string();
        assert!(repeated.contains("is complete: start the service"), "{repeated}");
        open(&data).unwrap();
        assert!(!data.join(RESTORING).exists());
        let repeated = restore(&backup, &data).unwrap_err().to_string();
        assert!(repeated.contains("move it away"), "{repeated}");
    }

    #[test]
    fn concurrent_restore_and_service_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (backup, data) = (backup(folder.path()), folder.path().join("new"));
        let target = Target::begin(&data).unwrap();
        assert!(matches!(restore(&backup, &data), Err(BackupError::Store(StoreError::Locked(_)))));
        assert!(matches!(open(&data), Err(StoreError::Locked(_))));
        drop(target);
        restore(&backup, &data).unwrap();
        open(&data).unwrap();
    }

    #[test]
    fn other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (backup, data) = (backup(folder.path()), folder.path().join("mine"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "mine").unwrap();
        assert!(matches!(restore(&backup, &data), Err(BackupError::NotEmpty { .. })));
        assert_eq!(names(&data).unwrap(), ["file"], "nothing was written either");
    }
}

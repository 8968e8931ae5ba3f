//! Restores backups.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use logship_logstore::{Options, RESTORING, Restored};

use super::{BackupError, Manifest, copy_private, create_directory, remove_content};

/// What to do about files in the data directory.
const ADVICE: &str =
    "stop the service that uses it, and move it away (mv), or restore to another directory (--data)";

/// Restores a backup as the data directory `data`, which must be new or empty. Returns the manifest of the backup, and
/// the restored store.
///
/// Until it is complete, the directory has the files in [`RESTORING`], which no service accepts. A killed restore can be
/// repeated.
///
/// # Errors
/// When the backup is incomplete or damaged, or the data directory has files.
pub fn restore(backup: &Path, data: &Path) -> Result<(Manifest, Restored), BackupError> {
    let manifest = Manifest::read(backup)?;
    let partial = data.join(RESTORING);
    if partial.exists() && !data.join("logstore.db").exists() {
        remove_content(data).map_err(|source| BackupError::file(data, source))?;
    }
    let is_new = create_directory(data, ADVICE)?;
    create_directory(&partial, ADVICE)?;
    let restored = fill(&manifest, backup, &partial).and_then(|restored| {
        publish(&partial, data)?;
        Ok(restored)
    });
    if restored.is_err() {
        // The reason of the failure matters more than what is left.
        let _ = remove_content(data);
        let _ = is_new.then(|| fs::remove_dir(data));
    }
    Ok((manifest, restored?))
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

/// Moves the complete files to their place. The database comes last: without it, nothing is restored.
fn publish(partial: &Path, data: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::file(data, source);
    let entries = fs::read_dir(partial).map_err(failed)?;
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort_by_key(|path| path.ends_with("logstore.db"));
    for path in entries {
        fs::rename(&path, data.join(path.file_name().unwrap_or_default())).map_err(failed)?;
    }
    fs::remove_dir(partial).map_err(failed)?;
    File::open(data).and_then(|data| data.sync_all()).map_err(failed)
}

//! Operations on files. A success means that the result is on disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::error;
use crate::object::ObjectInfo;
use crate::staged_file::{self, FinishedFile, StagedFile};

/// Creates a file without a name in the folder of `path`.
pub(super) fn begin(path: &Path, header_room: usize) -> io::Result<StagedFile> {
    make_folders(folder(path))?;
    StagedFile::create_durable(folder(path), header_room)
}

/// Gives a file its name. Never overwrites another file.
pub(super) fn publish(file: FinishedFile, path: &Path) -> io::Result<()> {
    file.sync()?;
    // Opened before the link: after the link, no error may report the object as unwritten.
    let folder = File::open(folder(path))?;
    file.link(path)?;
    let synced = sync_folder(&folder);
    if synced.is_err() {
        fs::remove_file(path)?;
    }
    synced
}

/// Returns size and digest of a file.
pub(super) fn find(path: &Path) -> io::Result<Option<ObjectInfo>> {
    let read = File::open(path).and_then(|file| staged_file::digest(&file));
    let Some((bytes, sha256)) = error::found(read)? else { return Ok(None) };
    // The process may have been killed before the directory entry was on disk.
    File::open(folder(path)).and_then(|folder| sync_folder(&folder))?;
    Ok(Some(ObjectInfo { bytes, sha256, heads: None }))
}

/// Returns the paths of all files below `root`, relative to it, that begin with `prefix`.
pub(super) fn list(root: &Path, prefix: &str) -> io::Result<Vec<String>> {
    if !root.exists() {
        return Ok(vec![]);
    }
    let mut keys = vec![];
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        let key = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_string_lossy();
        if entry.file_type().is_file() && key.starts_with(prefix) {
            keys.push(key.into_owned());
        }
    }
    Ok(keys)
}

/// Deletes a file.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder(&File::open(folder(path))?)
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
    error::synced(folder.sync_all())
}

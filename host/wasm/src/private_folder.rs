//! Folders that belong to the user of the process and that nobody else may write to.
//!
//! logship runs what it finds in such a folder: compiled code, components, keys. Whoever can write to it can change
//! what logship does.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// Permission of the group and of others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder that can't be trusted. The message has the remedy.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder can't be created or read.
    #[error("{}: {source}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is not a folder.
    #[error("{} is not a directory", .0.display())]
    NotAFolder(PathBuf),
    /// The folder belongs to another user.
    #[error(
        "{0} belongs to user {owner}, but logship runs as user {user}: run `chown -R {user} {0}`, or choose another directory",
        folder.display()
    )]
    Owner {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Others may write to the folder.
    #[error(
        "others may write to {0} (mode {mode:03o}), so they can change what logship runs: run `chmod go-w {0}`",
        folder.display()
    )]
    Writable {
        /// The folder.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Creates a folder that only this user may use, or checks that it belongs to this user and that nobody else may
/// write to it.
///
/// # Errors
/// If the folder can't be created, belongs to another user, or others may write to it.
pub fn create(folder: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { folder: folder.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        // A file, or a dangling link.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created.map_err(failed)?,
    }
    check(folder)
}

/// Checks that a folder belongs to this user and that nobody else may write to it.
///
/// # Errors
/// If the folder can't be read, belongs to another user, or others may write to it.
pub fn check(folder: &Path) -> Result<(), FolderError> {
    let metadata = metadata(folder)?;
    let (owner, user) = (metadata.uid(), current_user());
    if owner != user {
        return Err(FolderError::Owner { folder: folder.to_owned(), owner, user });
    }
    check_mode(folder, &metadata)
}

/// Checks a folder that somebody else may provide, such as a volume with components: nobody but this user and root
/// may change it. Returns `Ok` for a missing folder and for a read-only file system.
///
/// # Errors
/// If another user than root owns the folder, or others may write to it.
pub fn check_provided(folder: &Path) -> Result<(), FolderError> {
    let metadata = match metadata(folder) {
        Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if rustix::fs::statvfs(folder).is_ok_and(|volume| volume.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Ok(());
    }
    let (owner, user) = (metadata.uid(), current_user());
    if owner != user && owner != 0 {
        return Err(FolderError::Owner { folder: folder.to_owned(), owner, user });
    }
    check_mode(folder, &metadata)
}

/// True if a file or folder belongs to this user, and nobody else may write to it.
pub(crate) fn is_private(metadata: &Metadata) -> bool {
    metadata.uid() == current_user() && metadata.mode() & WRITABLE_BY_OTHERS == 0
}

fn metadata(folder: &Path) -> Result<Metadata, FolderError> {
    let metadata =
        folder.metadata().map_err(|source| FolderError::Io { folder: folder.to_owned(), source })?;
    if metadata.is_dir() { Ok(metadata) } else { Err(FolderError::NotAFolder(folder.to_owned())) }
}

fn check_mode(folder: &Path, metadata: &Metadata) -> Result<(), FolderError> {
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(FolderError::Writable { folder: folder.to_owned(), mode });
    }
    Ok(())
}

fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn new_folder_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        create(&folder).unwrap();
        for folder in [&folder, &parent.path().join("a")] {
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        }
        create(&folder).unwrap();
    }

    #[test]
    fn rejects_folders_that_others_may_write_to() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        fs::create_dir(&folder).unwrap();
        for (mode, is_accepted) in
            [(0o700, true), (0o755, true), (0o775, false), (0o777, false), (0o702, false), (0o1777, false)]
        {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            for result in [create(&folder), check(&folder), check_provided(&folder)] {
                assert_eq!(result.is_ok(), is_accepted, "{mode:o}");
                if let Err(error) = result {
                    assert!(error.to_string().contains(&format!("chmod go-w {}", folder.display())));
                }
            }
        }
    }

    #[test]
    fn rejects_files_and_links_to_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(create(&file), Err(FolderError::NotAFolder(_))));
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path().join("missing"), &link).unwrap();
        assert!(create(&link).is_err());
        assert!(check_provided(&link).is_ok(), "it is missing");
    }

    #[test]
    fn rejects_folder_of_another_user() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        fs::create_dir(&folder).unwrap();
        // Only root may give a folder away.
        if std::os::unix::fs::chown(&folder, Some(12345), None).is_err() {
            return;
        }
        let error = check(&folder).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345") && error.contains("chown -R"), "{error}");
        assert!(check_provided(&folder).is_err());
    }
}

//! Writes the output files of commands.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file atomically, by a temporary file that replaces it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let metadata = path.metadata();
    // A device or a pipe can't be replaced.
    if metadata.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, bytes);
    }
    // Keeps a symbolic link, and replaces its target.
    let path = if metadata.is_ok() { path.canonicalize()? } else { path.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Checks the directory first: the error of a temporary file would show a name that the user doesn't know.
    folder.metadata()?;
    let permissions = Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_files_and_keeps_links_and_devices() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write(&file, b"longer").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"short").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"short");
        assert!(link.is_symlink());
        write(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        assert!(write(folder.path(), b"").is_err());
        let missing = write(&folder.path().join("none/file"), b"").unwrap_err();
        assert_eq!(missing.to_string(), "No such file or directory (os error 2)");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

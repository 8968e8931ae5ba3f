//! Files that commands write.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file, which is there whole or as it was before.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = path.metadata();
    // A device or a pipe stays what it is.
    if found.as_ref().is_ok_and(|found| !found.is_file()) {
        return fs::write(path, bytes);
    }
    // A link stays one, too.
    let path = if found.is_ok() { path.canonicalize()? } else { path.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // If it is missing, that is said without the name of a file on the way, which nobody knows.
    folder.metadata()?;
    let permissions = Permissions::from_mode(0o666);
    let mut part = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    part.write_all(bytes)?;
    part.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_what_is_no_file_is_left() {
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

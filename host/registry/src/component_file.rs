//! Components in files that are named by their digests.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use logship_runtime::stage::StageError;
use sha2::{Digest, Sha256};

/// The subfolder of the components that are stored by digest.
pub(crate) const DIGEST_FOLDER: &str = "sha256";

/// The path of the component with a digest.
pub(crate) fn component_path(folder: &Path, digest: &str) -> PathBuf {
    // Only hexadecimal digits, so that the path never leaves the folder.
    let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
    folder.join(DIGEST_FOLDER).join(format!("{name}.wasm"))
}

/// Writes a file atomically and syncs it to disk, unless it exists.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(temporary.path(), bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StageError> {
    fs::read(path).map_err(|error| StageError::Unreadable {
        origin: path.display().to_string(),
        reason: match error.kind() {
            io::ErrorKind::NotFound => "no such file".into(),
            _ => error.to_string(),
        },
    })
}

/// The SHA-256 of a component, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

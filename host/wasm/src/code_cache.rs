//! Compiled code on disk, with a digest of each entry.
//!
//! An entry is a file: a magic number, the key, a digest of both and of the code, and the code. The key covers the
//! digest of the component, the version of the engine and its settings. So neither a damaged entry runs, nor the code of
//! another component, whatever the name of its file. An entry that fails a check is deleted, reported and compiled anew.
//!
//! The digest protects from damage and mix-ups. Nothing but the permissions protects from a user who can write to the
//! folder: it must be [private](crate::private_folder), and so must each entry.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::private_folder::{self, FolderError};

/// The beginning of each entry, with the version of the format.
const MAGIC: [u8; 8] = *b"LSCODE\0\x01";

const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 2 * DIGEST_BYTES;

/// Ending of the entries' names.
const EXTENSION: &str = "code";

/// Maximum size of all entries. The least recently used ones are deleted.
const MAX_BYTES: u64 = 1 << 30;

/// A folder of compiled code.
#[derive(Debug, Clone)]
pub struct CodeCache {
    folder: PathBuf,
}

/// The key of an entry: a component, and an engine with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; DIGEST_BYTES]);

impl Key {
    /// Returns the key of a component's code for an engine.
    pub fn new(component: &[u8], engine: &Engine) -> Self {
        let mut hasher = DigestHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.0.update(Sha256::digest(component));
        Self(hasher.0.finalize().into())
    }
}

/// An entry that can't be used.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a file of this user, or others may write to it")]
    NotPrivate,
    #[error("it is damaged: it has no header")]
    Header,
    #[error("it is the code of another component or engine")]
    OtherKey,
    #[error("it is damaged: its digest differs")]
    Digest,
}

impl CodeCache {
    /// Opens a folder, and creates it if it is missing.
    ///
    /// # Errors
    /// If the folder is not [private](crate::private_folder).
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        private_folder::create(folder)?;
        let folder = folder.join("code");
        private_folder::create(&folder)?;
        Ok(Self { folder })
    }

    /// Returns the code of a key. An entry that can't be trusted is deleted and reported.
    pub fn load(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        match read(&path, key) {
            Ok(code) => Some(code),
            Err(EntryError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(problem) => {
                self.evict(key, &problem);
                None
            }
        }
    }

    /// Deletes an entry and reports the reason.
    pub fn evict(&self, key: &Key, reason: &dyn std::fmt::Display) {
        let file = self.path(key);
        tracing::warn!(file = %file.display(), %reason, "deleted an entry of the compiled-code cache; its stage is compiled anew");
        if let Err(error) = fs::remove_file(&file) {
            tracing::warn!(file = %file.display(), %error, "can't delete the entry");
        }
    }

    /// Stores code. Without the entry, the next start compiles the component again, so that an error is only reported.
    pub fn store(&self, key: &Key, code: &[u8]) {
        let path = self.path(key);
        if let Err(error) = self.write(&path, key, code).and_then(|()| self.delete_least_recently_used()) {
            tracing::warn!(file = %path.display(), %error, "compiled code was not cached");
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.{EXTENSION}", hex::encode(key.0)))
    }

    /// Writes an entry at once or not at all. It need not survive a power failure: its digest would show damage.
    fn write(&self, path: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
        // Readable only by this user.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&header(key, code))?;
        file.write_all(code)?;
        file.persist(path)?;
        Ok(())
    }

    fn delete_least_recently_used(&self) -> io::Result<()> {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = vec![];
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Another process may delete entries at the same time.
            if let Ok(metadata) = path.symlink_metadata()
                && metadata.is_file()
            {
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        // Keeps the newest entry, whatever its size.
        entries.pop();
        for (_, size, path) in entries {
            if bytes <= MAX_BYTES {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }
}

fn header(key: &Key, code: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let digest = Sha256::new().chain_update(MAGIC).chain_update(key.0).chain_update(code).finalize();
    let (magic, digests) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    digests[..DIGEST_BYTES].copy_from_slice(&key.0);
    digests[DIGEST_BYTES..].copy_from_slice(&digest);
    header
}

/// Reads an entry and checks it. The result is a copy in memory, which nobody can change after the check.
fn read(path: &Path, key: &Key) -> Result<Vec<u8>, EntryError> {
    // Follows no link, and does not wait for the writer of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !private_folder::is_private(&metadata) {
        return Err(EntryError::NotPrivate);
    }
    let mut found = [0; HEADER_BYTES];
    file.read_exact(&mut found).map_err(|_| EntryError::Header)?;
    if found[..MAGIC.len()] != MAGIC {
        return Err(EntryError::Header);
    }
    if found[MAGIC.len()..][..DIGEST_BYTES] != key.0 {
        return Err(EntryError::OtherKey);
    }
    let mut code = Vec::with_capacity(metadata.len() as usize);
    file.read_to_end(&mut code)?;
    if found != header(key, &code) {
        return Err(EntryError::Digest);
    }
    mark_as_used(&file);
    Ok(code)
}

/// Sets the time by which the least recently used entries are found.
fn mark_as_used(file: &File) {
    // On a read-only file system, entries are not deleted either.
    let _ = file.set_modified(SystemTime::now());
}

/// Feeds a digest with the hash of a value.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn key(number: u8) -> Key {
        Key([number; DIGEST_BYTES])
    }

    fn cache() -> (tempfile::TempDir, CodeCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&folder.path().join("cache")).unwrap();
        (folder, cache)
    }

    #[test]
    fn returns_stored_code() {
        let (_folder, cache) = cache();
        assert_eq!(cache.load(&key(1)), None);
        cache.store(&key(1), b"code");
        cache.store(&key(2), b"");
        assert_eq!(cache.load(&key(1)).unwrap(), b"code");
        assert_eq!(cache.load(&key(2)).unwrap(), b"");
        cache.store(&key(1), b"other");
        assert_eq!(cache.load(&key(1)).unwrap(), b"other");
    }

    #[test]
    fn deletes_entry_with_any_flipped_bit() {
        let (_folder, cache) = cache();
        cache.store(&key(1), b"some code");
        let path = cache.path(&key(1));
        let entry = fs::read(&path).unwrap();
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(&key(1)), None, "bit {bit}");
            assert!(!path.exists(), "bit {bit}");
        }
    }

    #[test]
    fn deletes_truncated_and_extended_entries() {
        let (_folder, cache) = cache();
        cache.store(&key(1), b"some code");
        let path = cache.path(&key(1));
        let entry = fs::read(&path).unwrap();
        for length in 0..entry.len() {
            fs::write(&path, &entry[..length]).unwrap();
            assert_eq!(cache.load(&key(1)), None, "{length} bytes");
            assert!(!path.exists());
        }
        fs::write(&path, [entry.as_slice(), b"\0"].concat()).unwrap();
        assert_eq!(cache.load(&key(1)), None);
    }

    #[test]
    fn never_returns_code_of_another_component() {
        let (_folder, cache) = cache();
        cache.store(&key(1), b"one");
        cache.store(&key(2), b"two");
        fs::rename(cache.path(&key(2)), cache.path(&key(1))).unwrap();
        assert_eq!(cache.load(&key(1)), None);
        assert!(!cache.path(&key(1)).exists());
    }

    #[test]
    fn rejects_entries_that_are_not_private_files() {
        let (folder, cache) = cache();
        let path = cache.path(&key(1));
        let other = folder.path().join("other");
        cache.store(&key(1), b"code");
        fs::rename(&path, &other).unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(cache.load(&key(1)), None, "a link");
        assert!(!path.is_symlink() && other.exists(), "only the link is deleted");

        fs::rename(&other, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o606)).unwrap();
        assert_eq!(cache.load(&key(1)), None, "others may write to it");

        fs::create_dir(&path).unwrap();
        assert_eq!(cache.load(&key(1)), None, "a folder");
        cache.store(&key(1), b"code");
    }

    #[test]
    fn does_not_wait_for_a_pipe() {
        let (_folder, cache) = cache();
        let path = cache.path(&key(1));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(cache.load(&key(1)), None);
        assert!(!path.exists());
    }

    #[test]
    fn key_depends_on_component_and_settings() {
        let engine = |epochs: bool| Engine::new(wasmtime::Config::new().epoch_interruption(epochs)).unwrap();
        let keys =
            [Key::new(b"a", &engine(false)), Key::new(b"b", &engine(false)), Key::new(b"a", &engine(true))];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert_eq!(keys[0], Key::new(b"a", &engine(false)));
    }
}

//! Access keys: their grants, groups and quotas. They are in a file that only its owner can read.
//!
//! Verifying a signature needs the secret, so the secrets can't be stored as hashes. The file's mode protects them.
//! `logship key` writes the file, and a running service reloads it within a second.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use logship_config::key::{Access, Grant, GroupGrant, Key};
pub use logship_config::quota::Quota;

use crate::key_changes;
use crate::operation::actions;

/// The name of the key file, in the data directory.
pub const FILE: &str = "keys.toml";

/// The project name in a grant for all current and future projects.
pub const ALL_PROJECTS: &str = "*";

/// The interval of checks for a changed file.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Creates a key with a random ID and secret.
pub fn create(grants: Vec<Grant>, note: &str, now: u64) -> Key {
    let id = format!("LS{}", random(22));
    Key {
        id,
        secret: random(40).into(),
        token: None,
        created: now,
        expires: None,
        note: note.into(),
        groups: vec![],
        grants,
        policy: None,
        quota: None,
    }
}

/// Creates a temporary key, with a token and an expiry.
pub fn create_temporary(grants: Vec<Grant>, note: &str, now: u64, expires: u64) -> Key {
    Key { token: Some(random(64).into()), expires: Some(expires), ..create(grants, note, now) }
}

/// Random letters and digits from the system's generator, 5.9 bits each.
fn random(length: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        // Bytes from 248 = 4 * 62 on would bias the letters.
        let letters = bytes.iter().filter(|&&byte| byte < 248).map(|&byte| LETTERS[usize::from(byte) % 62]);
        text.extend(letters.take(length - text.len()).map(char::from));
    }
    text
}

/// Why the keys can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can read the file.
    #[error("{} has the secrets of all keys, but other users can read it: run chmod 600 on it", .0.display())]
    Permissions(PathBuf),
    /// The file is not a valid list of keys.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line and the error.
        message: String,
    },
    /// The key has a policy.
    #[error(
        "key {0} has a policy, which decides about consumer groups: create a key with another policy instead"
    )]
    Policy(String),
    /// No key has the ID.
    #[error("key {0} does not exist: `logship key list` shows all keys")]
    Unknown(String),
}

/// The key file.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The key file in a data directory.
    pub fn within(data: &Path) -> Self {
        Self(data.join(FILE))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads all keys, in order of creation.
    pub fn read(&self) -> Result<Vec<Key>, KeysError> {
        let mode = fs::metadata(&self.0).map_err(|source| self.failed(source))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeysError::Permissions(self.0.clone()));
        }
        let text = fs::read_to_string(&self.0).map_err(|source| self.failed(source))?;
        let content = logship_config::key::Keys::parse(&text);
        let invalid = |message| KeysError::Content { path: self.0.clone(), message };
        let keys = content.map_err(invalid)?.keys;
        for key in &keys {
            // A policy with a misspelt action would deny less than it says.
            let check = key.policy.as_ref().map_or(Ok(()), actions::check);
            check.map_err(|error| invalid(format!("key {}: {error}", key.id)))?;
        }
        Ok(keys)
    }

    /// Changes the keys under an exclusive lock.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Key>) -> Result<T, KeysError>,
    ) -> Result<T, KeysError> {
        let failed = |source| self.failed(source);
        let directory = self.0.parent().unwrap_or(Path::new("."));
        let _lock = self.lock()?;
        let mut keys = if self.0.exists() { self.read()? } else { vec![] };
        let before = keys.clone();
        let result = change(&mut keys)?;
        // Before the change, so that none is without a record.
        key_changes::announce(directory, &before, &keys).map_err(failed)?;
        let text = toml::to_string(&logship_config::key::Keys { keys })
            .map_err(|error| KeysError::Content { path: self.0.clone(), message: error.to_string() })?;
        let new = self.0.with_extension("new");
        // A crash may have left a file with this name and another mode.
        let _ = fs::remove_file(&new);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        // Keep the owner, so that `sudo logship key …` works for a service of another user.
        let owner = fs::metadata(if self.0.exists() { &self.0 } else { directory }).map_err(failed)?;
        chown(&new, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        fs::rename(&new, &self.0).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(result)
    }

    /// Locks the keys until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, KeysError> {
        let directory = self.0.parent().unwrap_or(Path::new("."));
        let mut lock = File::options();
        lock.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(directory.join("keys.lock")).map_err(|source| self.failed(source))?;
        lock.lock().map_err(|source| self.failed(source))?;
        Ok(lock)
    }

    fn failed(&self, source: io::Error) -> KeysError {
        KeysError::File { path: self.0.clone(), source }
    }
}

/// The keys of a running service, reloaded when the file changes.
#[derive(Debug)]
pub(crate) struct Keys {
    file: KeyFile,
    cache: Mutex<KeyCache>,
}

#[derive(Debug)]
struct KeyCache {
    keys: Arc<KeysById>,
    /// The file's inode and modification time.
    version: Option<(u64, i64, i64)>,
    checked_at: Instant,
}

impl Keys {
    pub(crate) fn open(file: KeyFile) -> Result<Self, KeysError> {
        let version = version(&file.0);
        let keys = index(file.read()?);
        Ok(Self { file, cache: Mutex::new(KeyCache { keys, version, checked_at: Instant::now() }) })
    }

    /// The current keys, at most a second old.
    pub(crate) fn get(&self) -> Arc<KeysById> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.checked_at.elapsed() >= RELOAD_INTERVAL {
            cache.checked_at = Instant::now();
            let version = version(&self.file.0);
            if version != cache.version {
                match self.file.read() {
                    Ok(keys) => {
                        cache.version = version;
                        tracing::info!(keys = keys.len(), "reloaded the access keys");
                        cache.keys = index(keys);
                    }
                    Err(error) => {
                        tracing::error!(%error, "can't reload the access keys; the old ones stay valid")
                    }
                }
            }
        }
        Arc::clone(&cache.keys)
    }
}

/// Keys by their IDs.
pub(crate) type KeysById = HashMap<String, Arc<Key>>;

fn index(keys: Vec<Key>) -> Arc<KeysById> {
    Arc::new(keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect())
}

fn version(path: &Path) -> Option<(u64, i64, i64)> {
    fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(project: &str, access: Access) -> Grant {
        Grant { project: project.into(), access }
    }

    #[test]
    fn key_file_round_trips_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::within(directory.path());
        let key = create_temporary(vec![grant("*", Access::Admin)], "mine", 7, 99);
        file.change(|keys| {
            keys.push(key.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        let read = file.read().unwrap();
        assert_eq!(
            (&read[0].secret, &read[0].token, &read[0].grants),
            (&key.secret, &key.token, &key.grants)
        );
        assert!(!format!("{read:?}").contains(key.secret.expose()));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(file.read(), Err(KeysError::Permissions(_))));
    }

    #[test]
    fn file_error_has_line_but_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::within(directory.path());
        file.change(|_| Ok(())).unwrap();
        fs::write(file.path(), "[[key]]\nid = \"a\"\nsecret = hunter2\n").unwrap();
        let message = file.read().unwrap_err().to_string();
        assert!(message.contains("line 3") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn secrets_are_random_and_long() {
        let (a, b) = (create(vec![], "", 0), create(vec![], "", 0));
        assert!(a.id != b.id && a.secret != b.secret && a.secret.expose().len() == 40);
    }
}

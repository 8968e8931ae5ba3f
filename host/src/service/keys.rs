//! Access keys: who may do what. They live in a file that only its owner can read.
//!
//! A signature is checked with the secret itself, so the secrets can't be kept as hashes; what keeps them is
//! the file's mode. The file is read again when it changed: `logship key` writes it, and a running service
//! follows within a second.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The file of the keys, in the data directory.
pub const FILE: &str = "keys.toml";

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a key opens; each of them what stands before it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Access {
    /// Putting logs. Not reading them: who ships logs need not see those of others.
    Write,
    /// Reading logs, and all about consumer groups. Not putting them.
    Read,
    /// Both.
    ReadWrite,
    /// Everything, also making and deleting.
    Admin,
}

impl Access {
    /// Whether who has this may do what needs `wanted`.
    pub fn allows(self, wanted: Self) -> bool {
        match self {
            Self::Write | Self::Read => self == wanted,
            Self::ReadWrite => wanted != Self::Admin,
            Self::Admin => true,
        }
    }
}

/// What a key opens in which project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The project's name; `*` for every project there is or will be.
    pub project: String,
    /// What it opens there.
    pub access: Access,
}

/// A key. Its secret is not shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// The security token that requests have to carry besides, if it is a temporary key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// When it ends, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What it opens.
    #[serde(rename = "grant", default)]
    pub grants: Vec<Grant>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("id", &self.id)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A key with a new id and a new secret.
    pub fn new(grants: Vec<Grant>, note: &str, now: u64) -> Self {
        let id = format!("LS{}", random(22));
        Self { id, secret: random(40), token: None, created: now, expires: None, note: note.into(), grants }
    }

    /// Makes it a temporary key: with a token, and an end.
    pub fn temporary(mut self, expires: u64) -> Self {
        self.token = Some(random(64));
        self.expires = Some(expires);
        self
    }

    /// Whether it opens that much in the project.
    pub fn allows(&self, project: &str, access: Access) -> bool {
        let grants = self.grants.iter().filter(|grant| grant.project == "*" || grant.project == project);
        grants.into_iter().any(|grant| grant.access.allows(access))
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Letters and digits, of the system's random numbers: 5.9 bits each.
fn random(length: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        // Bytes past the last whole multiple of 62 would make some letters likelier.
        let letters = bytes.iter().filter(|&&byte| byte < 248).map(|&byte| LETTERS[usize::from(byte) % 62]);
        text.extend(letters.take(length - text.len()).map(char::from));
    }
    text
}

/// Why keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("{} has the secrets of all keys, and others than its owner can read it: chmod 600 it", .0.display())]
    Open(PathBuf),
    /// The file is no list of keys.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// No key has the id.
    #[error("there is no key {0}: `logship key list` shows those there are")]
    Unknown(String),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(rename = "key", default)]
    keys: Vec<Key>,
}

/// The file of keys.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The one in that data directory.
    pub fn within(data: &Path) -> Self {
        Self(data.join(FILE))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All keys, in the order that they were made.
    pub fn read(&self) -> Result<Vec<Key>, KeysError> {
        let mode = fs::metadata(&self.0).map_err(|source| self.failed(source))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeysError::Open(self.0.clone()));
        }
        let text = fs::read_to_string(&self.0).map_err(|source| self.failed(source))?;
        // The parser's message would show the line, which may be a secret's.
        let content: Content = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            KeysError::Content { path: self.0.clone(), message: format!("line {line}: {}", error.message()) }
        })?;
        Ok(content.keys)
    }

    /// Changes the keys, alone: another who does so waits.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Key>) -> Result<T, KeysError>,
    ) -> Result<T, KeysError> {
        let failed = |source| self.failed(source);
        let directory = self.0.parent().unwrap_or(Path::new("."));
        let mut lock = File::options();
        lock.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(directory.join("keys.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut keys = if self.0.exists() { self.read()? } else { vec![] };
        let result = change(&mut keys)?;
        let text = toml::to_string(&Content { keys })
            .map_err(|error| KeysError::Content { path: self.0.clone(), message: error.to_string() })?;
        let new = self.0.with_extension("new");
        // A file of this name may be left from a crash, with another mode.
        let _ = fs::remove_file(&new);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        // `sudo logship key …` works for the service, which runs as another user.
        let owner = fs::metadata(if self.0.exists() { &self.0 } else { directory }).map_err(failed)?;
        chown(&new, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        fs::rename(&new, &self.0).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(result)
    }

    fn failed(&self, source: io::Error) -> KeysError {
        KeysError::File { path: self.0.clone(), source }
    }
}

/// The keys as a running service knows them.
#[derive(Debug)]
pub(crate) struct Keys {
    file: KeyFile,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    keys: Arc<HashMap<String, Key>>,
    /// Which file they are from: its number, and when it was written.
    version: Option<(u64, i64, i64)>,
    looked: Instant,
}

impl Keys {
    pub(crate) fn open(file: KeyFile) -> Result<Self, KeysError> {
        let version = version(&file.0);
        let keys = index(file.read()?);
        Ok(Self { file, known: Mutex::new(Known { keys, version, looked: Instant::now() }) })
    }

    /// The keys there are, no older than a second.
    pub(crate) fn get(&self) -> Arc<HashMap<String, Key>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK {
            known.looked = Instant::now();
            let version = version(&self.file.0);
            if version != known.version {
                match self.file.read() {
                    Ok(keys) => {
                        known.version = version;
                        tracing::info!(keys = keys.len(), "access keys were read again");
                        known.keys = index(keys);
                    }
                    Err(error) => tracing::error!(%error, "the access keys stay what they were"),
                }
            }
        }
        Arc::clone(&known.keys)
    }
}

fn index(keys: Vec<Key>) -> Arc<HashMap<String, Key>> {
    Arc::new(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
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
    fn a_key_opens_what_it_was_given_and_no_more() {
        let key = Key::new(vec![grant("a", Access::Read), grant("b", Access::Admin)], "", 0);
        assert!(
            key.allows("a", Access::Read) && key.allows("b", Access::Write) && key.allows("b", Access::Admin)
        );
        assert!(
            !key.allows("a", Access::Write)
                && !key.allows("a", Access::Admin)
                && !key.allows("c", Access::Read)
        );
        let everywhere = Key::new(vec![grant("*", Access::ReadWrite)], "", 0);
        assert!(everywhere.allows("c", Access::Read) && everywhere.allows("c", Access::Write));
        assert!(!everywhere.allows("c", Access::Admin));
    }

    #[test]
    fn keys_come_back_from_their_file_which_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::within(directory.path());
        let key = Key::new(vec![grant("*", Access::Admin)], "mine", 7).temporary(99);
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
        assert!(!format!("{read:?}").contains(&key.secret));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(file.read(), Err(KeysError::Open(_))));
    }

    #[test]
    fn an_error_in_the_file_names_its_line_and_shows_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::within(directory.path());
        file.change(|_| Ok(())).unwrap();
        fs::write(file.path(), "[[key]]\nid = \"a\"\nsecret = hunter2\n").unwrap();
        let message = file.read().unwrap_err().to_string();
        assert!(message.contains("line 3") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn secrets_differ_and_are_long() {
        let (a, b) = (Key::new(vec![], "", 0), Key::new(vec![], "", 0));
        assert!(a.id != b.id && a.secret != b.secret && a.secret.len() == 40);
    }
}

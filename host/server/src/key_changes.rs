//! The file in which `logship key` announces its changes of keys for the audit log. The service moves them there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use logship_config::key::Key;
use serde::{Deserialize, Serialize};

/// The name of the file, in the data directory.
const FILE: &str = "key-changes.ndjson";

/// The operation that removes a key.
pub(crate) const REVOKE: &str = "revoke key";

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyChange {
    /// The time, in Unix microseconds.
    pub(crate) time: u64,
    /// `create key`, `change key` or `revoke key`.
    pub(crate) operation: String,
    /// The user of the system who made it.
    pub(crate) who: String,
    /// The ID of the key.
    pub(crate) key: String,
}

/// Returns the changes between two lists of keys, each an operation and the ID of a key.
fn changes<'a>(before: &'a [Key], after: &'a [Key]) -> Vec<(&'static str, &'a str)> {
    let find = |keys: &'a [Key], id: &str| keys.iter().find(|key| key.id == id);
    let text = |key: &Key| toml::to_string(key).unwrap_or_default();
    let mut all = vec![];
    for key in after {
        match find(before, &key.id) {
            None => all.push(("create key", key.id.as_str())),
            Some(old) if text(old) != text(key) => all.push(("change key", key.id.as_str())),
            Some(_) => {}
        }
    }
    let revoked = before.iter().filter(|key| find(after, &key.id).is_none());
    all.extend(revoked.map(|key| (REVOKE, key.id.as_str())));
    all
}

/// Announces the changes between two lists of keys. The caller holds the lock of the keys.
pub(crate) fn announce(data: &Path, before: &[Key], after: &[Key]) -> io::Result<()> {
    let changes = changes(before, after);
    if changes.is_empty() {
        return Ok(());
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let mut lines = String::new();
    for (operation, key) in changes {
        let change = KeyChange { time, operation: operation.into(), who: user(), key: key.into() };
        lines += &serde_json::to_string(&change)?;
        lines.push('\n');
    }
    let path = data.join(FILE);
    let mut file = File::options().append(true).create(true).mode(0o600).open(&path)?;
    // Keep the owner, so that `sudo logship key …` works for a service of another user.
    let owner = fs::metadata(data)?;
    if file.metadata()?.uid() != owner.uid() {
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(lines.as_bytes())?;
    file.sync_all()
}

/// Returns the announced changes. A line that a crash cut short is left out: its change was not made.
pub(crate) fn read(data: &Path) -> io::Result<Vec<KeyChange>> {
    match fs::read_to_string(data.join(FILE)) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Removes the announced changes. The caller holds the lock of the keys.
pub(crate) fn clear(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the user of this process, and who became it by `sudo`.
fn user() -> String {
    let uid = fs::metadata("/proc/self").map(|process| process.uid().to_string());
    let uid = uid.unwrap_or_else(|_| "unknown".into());
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
    if name.is_empty() { format!("uid {uid}") } else { format!("uid {uid} ({name})") }
}

//! The usage of the day on disk, so that a restart returns nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::usage::Usage;

/// The name of the file, in the data directory.
const FILE: &str = "quota-usage.json";

#[derive(Debug)]
pub(super) struct UsageFile {
    path: PathBuf,
    written: Mutex<BTreeMap<String, Usage>>,
}

impl UsageFile {
    pub(super) fn within(data: &Path) -> Self {
        Self { path: data.join(FILE), written: Mutex::default() }
    }

    /// Reads the usage of a day. An unreadable file is as none, because quotas must not keep the service from starting.
    pub(super) fn read(&self, day: u64) -> HashMap<String, Usage> {
        let Ok(bytes) = fs::read(&self.path) else { return HashMap::new() };
        let usage: HashMap<String, Usage> = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "can't read the usage of quotas: it begins anew");
            HashMap::new()
        });
        usage.into_iter().filter(|(_, usage)| usage.is_of(day)).collect()
    }

    /// Writes the usage of a day, if it has changed.
    pub(super) fn write(&self, day: u64, usage: HashMap<String, Usage>) {
        let usage: BTreeMap<_, _> = usage.into_iter().filter(|(_, usage)| usage.is_of(day)).collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == usage {
            return;
        }
        let new = self.path.with_extension("new");
        let saved = serde_json::to_vec(&usage).map_err(std::io::Error::from);
        let saved =
            saved.and_then(|bytes| fs::write(&new, bytes)).and_then(|()| fs::rename(&new, &self.path));
        match saved {
            Ok(()) => *written = usage,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "can't save the usage of quotas");
            }
        }
    }
}

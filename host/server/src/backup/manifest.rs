//! The manifest of a backup: what it has, with digests.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use logship_logstore::Generation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::BackupError;

/// The file of the manifest. It is written last: a directory without it is no complete backup.
const FILE: &str = "backup.json";

/// The version of the format.
const FORMAT: u32 = 1;

/// The manifest of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the format.
    format: u32,
    /// The version of logship that made it.
    pub version: String,
    /// The time of the backup, in Unix microseconds.
    pub time: u64,
    /// The number of the store's generation.
    pub generation: u32,
    /// The token of the store's generation.
    pub token: String,
    /// The SHA-256 of the settings file; null without one.
    pub settings: Option<String>,
    /// The numbers of the rules that make the same objects again after a restore.
    pub repeatable_rules: HashSet<i64>,
    /// The files.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupFile {
    /// The path in the backup.
    pub path: PathBuf,
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Returns the manifest of these files in `directory`.
    pub(super) fn of(
        directory: &Path,
        paths: &[PathBuf],
        (generation, settings, time): (&Generation, Option<String>, u64),
        repeatable_rules: HashSet<i64>,
    ) -> Result<Self, BackupError> {
        let describe = |path: &PathBuf| BackupFile::of(directory, path.clone());
        Ok(Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            time,
            generation: generation.number,
            token: generation.token.clone(),
            settings,
            repeatable_rules,
            files: paths.iter().map(describe).collect::<Result<_, _>>()?,
        })
    }

    /// Returns true if a directory has the manifest of a complete backup.
    pub(super) fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Reads the manifest of a backup and compares all files with it.
    ///
    /// # Errors
    /// When the backup is incomplete or damaged.
    pub fn read(directory: &Path) -> Result<Self, BackupError> {
        let path = directory.join(FILE);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BackupError::Incomplete(directory.into()),
            _ => BackupError::file(&path, source),
        })?;
        let damaged = |reason: String| BackupError::Damaged { path: path.clone(), reason };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {}: use a newer logship", manifest.format)));
        }
        for file in &manifest.files {
            if !file.is_inside() {
                return Err(damaged(format!("{} is outside of the backup", file.path.display())));
            }
            let found = BackupFile::of(directory, file.path.clone())?;
            if (found.bytes, &found.sha256) != (file.bytes, &file.sha256) {
                let path = directory.join(&file.path);
                return Err(BackupError::Damaged { path, reason: "its digest is another one".into() });
            }
        }
        Ok(manifest)
    }

    /// Writes the manifest, when all files are on disk.
    pub(super) fn write(&self, directory: &Path) -> Result<(), BackupError> {
        let (path, partial) = (directory.join(FILE), directory.join("backup.json.partial"));
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        let written = text
            .and_then(|text| super::write_private(&partial, &text))
            .and_then(|()| fs::rename(&partial, &path))
            .and_then(|()| File::open(directory)?.sync_all());
        written.map_err(|source| BackupError::file(&path, source))
    }
}

impl BackupFile {
    fn of(directory: &Path, path: PathBuf) -> Result<Self, BackupError> {
        let full = directory.join(&path);
        let (sha256, bytes) = digest(&full).map_err(|source| BackupError::file(&full, source))?;
        Ok(Self { path, bytes, sha256 })
    }

    /// Returns true if the path has neither `..` nor a root.
    fn is_inside(&self) -> bool {
        self.path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
    }
}

/// Returns the SHA-256 of a file, in hexadecimal, and its size.
fn digest(path: &Path) -> Result<(String, u64), io::Error> {
    let (mut file, mut hasher, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, size))
}

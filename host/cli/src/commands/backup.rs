use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use logship_logstore::StoreError;
use logship_server::backup::{BackupError, back_up_stopped, restore};
use logship_server::keys::Access;
use reqwest::Method;
use serde_json::{Value, json};

use super::connect::{self, Connect};
use super::{Failure, settings};
use crate::print::outln;

/// The interval of looks at a running backup.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Backs up a service, while it runs or is stopped.
///
/// The backup has the database, the access keys, the components of stages, and the digest of the settings. It does not
/// have delivered objects, dead letters, and the settings file. Keep it private: it has the keys.
#[derive(Debug, Args)]
pub(super) struct BackupCommand {
    /// The directory of the backup, on the machine of the service. It must be new or empty, or have what a killed backup
    /// left.
    directory: PathBuf,
    /// The settings file of a stopped service, for the digest.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

/// Restores a backup as a new data directory.
///
/// The store begins a new generation: it gives out no cursor that the backed up store gave out after the backup, and
/// refuses those. Rules that ship objects go on where the backup was made, and make equal objects under equal keys. Rules
/// that send events and have unsent logs wait for `logship store confirm`.
#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// The directory of the backup.
    directory: PathBuf,
    /// The data directory to create. It must be new or empty.
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA", default_value = "logship-data")]
    data: PathBuf,
    /// Compares this settings file with the one of the backup.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
}

impl BackupCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let directory = std::path::absolute(&self.directory)?;
        let stopped = self.connect.local_data().filter(|data| data.join("logstore.db").exists());
        if let Some(data) = stopped {
            match back_up_stopped(data, settings::read(self.config.as_deref())?.digest, &directory) {
                // The service is running.
                Err(BackupError::Store(StoreError::Locked(_))) => {}
                Err(error) => return Err(error.into()),
                Ok(manifest) => {
                    print_made(&directory, manifest.files.iter().map(|file| file.bytes).sum());
                    return Ok(());
                }
            }
        }
        connect::run(self.back_up_running(&directory))
    }

    async fn back_up_running(&self, directory: &Path) -> Result<(), Failure> {
        let client = self.connect.client_for_all_projects(Access::Admin)?;
        let body = json!({ "directory": directory });
        client.send_json(Method::POST, "/store", &[("type", "backup")], &body).await?;
        loop {
            let store: Value = client.get("/store", &[]).await?;
            let backup = &store["backup"];
            if backup["directory"] != body["directory"] {
                return Err("another backup began: its directory has the newer one".into());
            }
            match backup["status"].as_str() {
                Some("running") => tokio::time::sleep(POLL_INTERVAL).await,
                Some("done") => {
                    print_made(directory, backup["bytes"].as_u64().unwrap_or_default());
                    return Ok(());
                }
                _ => return Err(backup["message"].as_str().unwrap_or("the backup failed").into()),
            }
        }
    }
}

fn print_made(directory: &Path, bytes: u64) {
    outln!("backed up {} to {}", HumanBytes(bytes), directory.display());
}

impl RestoreCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = settings::read(self.config.as_deref())?;
        let (manifest, restored) = restore(&self.directory, &self.data)?;
        outln!(
            "restored {} to {}: generation {}",
            self.directory.display(),
            self.data.display(),
            restored.generation.number
        );
        if self.config.is_some() && settings.digest != manifest.settings {
            outln!(
                "the settings file is not the one of the backup: compare them before you start the service"
            );
        }
        for rule in &restored.waiting_rules {
            outln!(
                "rule {rule} waits: its logs may have been shipped after the backup. Decide with `logship store confirm`"
            );
        }
        Ok(())
    }
}

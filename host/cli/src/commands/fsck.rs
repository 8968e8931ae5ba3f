use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::HumanCount;
use logship_logstore::{Salvage, StoreError, check_structure};

use super::Failure;
use super::verify_store::StoreOptions;
use crate::print::outln;

/// Checks the database of a data directory, and salvages what is readable from a damaged one.
///
/// The check reads everything: SQLite's structure, the checksum of each log group, and the hash chain of each shard. It
/// changes nothing, and the service may run meanwhile.
#[derive(Debug, Args)]
pub(super) struct FsckCommand {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA", default_value = "logship-data")]
    data: PathBuf,
    /// Copies what is readable to this new data directory. Stop the service first. The damaged directory stays as it
    /// is.
    #[arg(long, value_name = "NEW_DIR")]
    salvage: Option<PathBuf>,
}

/// The files and directories that a data directory needs besides the database.
const COPIED: [&str; 2] = ["keys.toml", "stages"];

/// The directories that stay in place: they may be large.
const LEFT: [&str; 2] = ["buckets", "dead-letters"];

impl FsckCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(target) = &self.salvage {
            return salvage(&self.data, target);
        }
        let structure = match check_structure(&self.data) {
            Err(error @ StoreError::Unsalvageable { .. }) => return Err(error.into()),
            structure => structure?,
        };
        structure.iter().for_each(|problem| outln!("structure: {problem}"));
        let verified = StoreOptions::walk().run(&self.data);
        match (structure.len(), verified) {
            (0, Ok(())) => {
                outln!("no damage");
                Ok(())
            }
            (0, Err(error)) => Err(error),
            (count, _) => Err(format!(
                "{count} problems of the structure: stop the service, and salvage with `logship fsck --salvage NEW_DIR`"
            )
            .into()),
        }
    }
}

fn salvage(data: &Path, target: &Path) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let salvage = Salvage::run(data, target, now)?;
    for name in COPIED {
        copy(&data.join(name), &target.join(name))?;
    }
    salvage.damaged.iter().for_each(|damage| outln!("not copied: {damage}"));
    for (table, rows) in &salvage.broken_tables {
        outln!("table {table}: only {rows} rows are readable");
    }
    outln!(
        "copied {} log groups to {}; a search of all pages found {} of them",
        HumanCount(salvage.groups),
        target.display(),
        HumanCount(salvage.found)
    );
    for rule in &salvage.waiting_rules {
        outln!("rule {rule} waits: decide with `logship store confirm`");
    }
    for name in LEFT.iter().filter(|name| data.join(name).exists()) {
        outln!("move {} to {}", data.join(name).display(), target.display());
    }
    outln!("check the rest with `logship verify --store --data {}`", target.display());
    Ok(())
}

/// Copies a file or a directory, with its permissions. Does nothing if it is missing.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    let Ok(metadata) = from.symlink_metadata() else { return Ok(()) };
    if !metadata.is_dir() {
        std::fs::copy(from, to).map_err(failed)?;
        return Ok(());
    }
    std::fs::create_dir_all(to).map_err(failed)?;
    std::fs::set_permissions(to, metadata.permissions()).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

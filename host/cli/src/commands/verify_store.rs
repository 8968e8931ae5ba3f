//! Verification of the log groups in a data directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanCount;
use logship_logstore::{Comparison, ShardHead, StoreVerifier, Verification, VerifiedShard};

use super::{Failure, bar, output};
use crate::print::outln;

/// Options of the verification of a data directory.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreOptions {
    /// Verifies the log groups in the data directory (--data) instead: each checksum, and the hash chain of each shard.
    /// The service may run meanwhile.
    #[arg(long)]
    store: bool,
    /// Writes the heads of the verified chains to this file. Keep it on another machine. Implies --store.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Compares the chains with heads that --heads wrote before: shows changes, and old backups put back. The file may be
    /// several such files joined. Implies --store.
    #[arg(long, value_name = "FILE")]
    against_heads: Option<PathBuf>,
}

impl StoreOptions {
    /// Returns the options of a plain verification.
    pub(super) fn walk() -> Self {
        Self { store: true, heads: None, against_heads: None }
    }

    /// Returns true if the data directory is to be verified.
    pub(super) fn is_set(&self) -> bool {
        self.store || self.heads.is_some() || self.against_heads.is_some()
    }

    /// Verifies the data directory.
    pub(super) fn run(&self, data: &Path) -> Result<(), Failure> {
        let kept = self.against_heads.as_deref().map(read_heads).transpose()?;
        let verifier = StoreVerifier::open(data)?;
        let bar = bar::new(Some(verifier.bytes()?));
        let verification = verifier.verify(|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        let mut problems = print(&verification);
        problems += compare(&verifier, &kept.unwrap_or_default())?;
        if problems > 0 {
            let unwritten = if self.heads.is_some() { ", so no heads were written" } else { "" };
            return Err(
                format!("{problems} problems{unwritten}. `logship fsck` salvages what is readable").into()
            );
        }
        if let Some(file) = &self.heads {
            let line = |shard: &VerifiedShard| serde_json::to_string(&shard.head).map(|line| line + "\n");
            let lines = verification.shards.iter().map(line).collect::<Result<String, _>>()?;
            output::write(file, lines.as_bytes()).map_err(|error| format!("{}: {error}", file.display()))?;
            outln!("wrote the heads of {} shards to {}", verification.shards.len(), file.display());
        }
        Ok(())
    }
}

/// Prints the result. Returns the number of problems.
fn print(verification: &Verification) -> u64 {
    for shard in &verification.shards {
        let ShardHead { project, logstore, .. } = &shard.head;
        shard.damage.iter().for_each(|damage| outln!("{project}/{logstore}: {damage}"));
        let more = shard.damage_count - shard.damage.len() as u64;
        if more > 0 {
            outln!("{project}/{logstore}: and {more} more in shard {}", shard.head.shard);
        }
    }
    verification.contradictions.iter().for_each(|contradiction| outln!("{contradiction}"));
    let sum = |field: fn(&VerifiedShard) -> u64| verification.shards.iter().map(field).sum::<u64>();
    let (groups, unverified) = (sum(|shard| shard.groups), sum(|shard| shard.unverified));
    outln!(
        "{} log groups in {} shards match their checksums; the heads of {} tasks were compared",
        HumanCount(groups),
        verification.shards.len(),
        HumanCount(verification.tasks)
    );
    if unverified > 0 {
        outln!("{}: no checksum, as an older logship stored them", HumanCount(unverified));
    }
    sum(|shard| shard.damage_count) + verification.contradictions.len() as u64
}

/// Compares kept heads with the store. Returns the number of problems.
fn compare(verifier: &StoreVerifier, kept: &[ShardHead]) -> Result<u64, Failure> {
    let (mut same, mut expired, mut problems) = (0, 0, 0);
    for head in kept {
        let problem = match verifier.compare(head)? {
            Comparison::Same => {
                same += 1;
                continue;
            }
            Comparison::Expired => {
                expired += 1;
                continue;
            }
            Comparison::NoShard => "the shard does not exist: its logstore was deleted".to_owned(),
            Comparison::Replaced => "the shard was created anew: its logstore was deleted".to_owned(),
            Comparison::Gone { end } => format!(
                "the shard ends at cursor {end}: later log groups are gone. Was an old backup put back?"
            ),
            Comparison::Different { found: Some(found) } => {
                format!("the head is {found}: log groups in front of it were changed, removed or reordered")
            }
            _ => "the head is missing: log groups in front of it were changed or removed".to_owned(),
        };
        problems += 1;
        let ShardHead { project, logstore, shard, cursor, head, .. } = head;
        outln!("{project}/{logstore}: shard {shard} had head {head} at cursor {cursor}, but {problem}");
    }
    if !kept.is_empty() {
        outln!("{same} of {} kept heads match", kept.len());
    }
    if expired > 0 {
        outln!("{expired} kept heads are of expired log groups");
    }
    Ok(problems)
}

/// Reads a file of heads: one as JSON on each line.
fn read_heads(file: &Path) -> Result<Vec<ShardHead>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut heads = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let head: ShardHead = serde_json::from_str(line)
            .map_err(|error| format!("{}, line {}: {error}", file.display(), number + 1))?;
        heads.insert((head.project.clone(), head.logstore.clone(), head.shard, head.cursor, line), head);
    }
    if heads.is_empty() {
        return Err(format!("{}: no heads in the file", file.display()).into());
    }
    Ok(heads.into_values().collect())
}

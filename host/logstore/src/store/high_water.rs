//! The high-water mark: a small file outside the database that tells how much was acknowledged.
//!
//! The database can lose its end without noticing: somebody deletes the write-ahead log, or puts an older database in
//! place. The mark is written before a commit is acknowledged, and synced at its own pace: it survives a killed process
//! at the price of one small write, and a power failure up to [`SYNC_INTERVAL`]. The write-ahead log itself is synced
//! with each commit, so a mark that is too low only misses a loss, and never reports one that did not happen.
//!
//! The file has two slots, written in turn, so that a torn write leaves the other one. It is overwritten in place and
//! knows its own inode: a copy of the data directory shows. Its name, `high-water.N`, has a number that grows: an older
//! copy of all files that is put over the directory brings a second, lower number.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::files::private_file_options;
use crate::moment::Moment;

/// The name of the file in the data directory, before its number.
const NAME: &str = "high-water.";

/// The interval at which the number grows.
const RENAME_INTERVAL: Duration = Duration::from_secs(60);

/// The interval of syncs to the disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The size of a slot, in bytes: a sector, which disks write as a whole.
const SLOT: usize = 512;

const MAGIC: &str = "logship-high-water";

/// The field of a mark whose boot is not known.
const NO_BOOT: &str = "-";

/// The recorded state of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The token of the generation.
    pub(crate) token: String,
    /// The number of log groups ever stored.
    pub(crate) groups: u64,
    /// The number of other rows ever stored: logstores, rules, changes.
    pub(crate) changes: u64,
    /// The last known moment.
    pub(crate) moment: Moment,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: File,
    identity: Identity,
    /// The number of writes. Its last bit selects the slot.
    sequence: u64,
    mark: Mark,
    directory: PathBuf,
    /// The number in the file's name.
    number: u64,
    renamed: Instant,
    synced: Instant,
    is_synced: bool,
    /// True if the last write failed, so that a full disk is told once.
    is_failing: bool,
}

/// The identity of a file. A copy has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    /// The time of creation in nanoseconds, or 0 if the file system has none.
    created: u128,
}

/// The mark that a file was found with.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) mark: Mark,
    /// True if the file is a copy of the one that the store wrote.
    pub(crate) is_copy: bool,
    /// True if an older mark was put beside it.
    pub(crate) has_older: bool,
}

impl Found {
    /// Returns true if the mark tells of more than is stored.
    pub(crate) fn is_above(&self, stored: &Mark) -> bool {
        self.mark.groups > stored.groups || self.mark.changes > stored.changes
    }
}

impl HighWater {
    /// Opens the file of a data directory, or creates it. Also returns the mark in it, if there is one.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Option<Found>), (PathBuf, io::Error)> {
        let mut numbers = numbers(directory).map_err(|error| (directory.to_owned(), error))?;
        let number = numbers.pop().unwrap_or(0);
        let path = directory.join(format!("{NAME}{number}"));
        let failed = |error| (path.clone(), error);
        let file = private_file_options().read(true).write(true).open(&path).map_err(failed)?;
        let identity = Identity::of(&file.metadata().map_err(failed)?);
        let slots = [0, 1].map(|slot| read_slot(&file, slot));
        let last = slots.into_iter().flatten().max_by_key(|record| record.sequence);
        let sequence = last.as_ref().map_or(0, |record| record.sequence + 1);
        let has_older = !numbers.is_empty();
        let found = last.map(|last| Found { is_copy: last.identity != identity, mark: last.mark, has_older });
        let now = Instant::now();
        let mut opened = Self {
            file,
            identity,
            sequence,
            mark: Mark::default(),
            directory: directory.to_owned(),
            number,
            renamed: now,
            synced: now,
            is_synced: true,
            is_failing: false,
        };
        opened.rename().map_err(failed)?;
        for number in numbers {
            let path = directory.join(format!("{NAME}{number}"));
            fs::remove_file(&path).map_err(|error| (path, error))?;
        }
        Ok((opened, found))
    }

    /// Increases the number in the file's name.
    fn rename(&mut self) -> Result<(), io::Error> {
        let path = |number| self.directory.join(format!("{NAME}{number}"));
        fs::rename(path(self.number), path(self.number + 1))?;
        self.number += 1;
        self.renamed = Instant::now();
        Ok(())
    }

    /// Writes a mark, and syncs it to the disk if the last sync is long ago.
    pub(crate) fn record(&mut self, mark: Mark) {
        if mark == self.mark {
            return;
        }
        self.mark = mark;
        let written = self.write().and_then(|()| {
            self.is_synced = false;
            if self.synced.elapsed() >= SYNC_INTERVAL { self.sync() } else { Ok(()) }
        });
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) if !std::mem::replace(&mut self.is_failing, true) => {
                // The logs are in the database. Only a later loss of its end may go unnoticed.
                tracing::error!(%error, "can't write the high-water mark");
            }
            Err(_) => {}
        }
    }

    /// Returns the last mark.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Syncs the file to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), io::Error> {
        if !self.is_synced {
            self.file.sync_data()?;
            self.is_synced = true;
            if self.renamed.elapsed() >= RENAME_INTERVAL {
                self.rename()?;
            }
        }
        self.synced = Instant::now();
        Ok(())
    }

    fn write(&mut self) -> Result<(), io::Error> {
        let record = Record { sequence: self.sequence, identity: self.identity, mark: self.mark.clone() };
        let offset = (self.sequence % 2) * SLOT as u64;
        self.sequence += 1;
        self.file.write_all_at(&record.encode(), offset)
    }
}

/// Creates the file of a data directory that is not open, synced to the disk.
pub(crate) fn create(directory: &Path, mark: Mark) -> Result<(), (PathBuf, io::Error)> {
    let (mut file, _) = HighWater::open(directory)?;
    file.mark = mark;
    let written = file.write().and_then(|()| file.write()).and_then(|()| file.file.sync_all());
    written.map_err(|error| (directory.join(NAME), error))
}

/// Returns the numbers in the names of a directory's marks, the highest last.
fn numbers(directory: &Path) -> Result<Vec<u64>, io::Error> {
    let mut numbers = vec![];
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        let created = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), created: created.map_or(0, |time| time.as_nanos()) }
    }
}

/// The content of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    sequence: u64,
    identity: Identity,
    mark: Mark,
}

impl Record {
    /// Returns the slot: a line of text, its checksum, and spaces.
    fn encode(&self) -> [u8; SLOT] {
        let Self {
            sequence,
            identity: Identity { inode, created },
            mark: Mark { token, groups, changes, moment: Moment { time, boot, since_boot } },
        } = self;
        let boot = if boot.is_empty() { NO_BOOT } else { boot };
        let mut line = format!(
            "{MAGIC} 2 {sequence} {inode} {created} {token} {groups} {changes} {time} {boot} {since_boot}"
        );
        let sum = checksum(line.as_bytes());
        // Writing to a string can't fail.
        let _ = write!(line, " {sum:016x}");
        let mut slot = [b' '; SLOT];
        let length = line.len().min(SLOT - 1);
        slot[..length].copy_from_slice(&line.as_bytes()[..length]);
        slot[SLOT - 1] = b'\n';
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let line = str::from_utf8(slot).ok()?.trim_end();
        let (line, sum) = line.rsplit_once(' ')?;
        if u64::from_str_radix(sum, 16) != Ok(checksum(line.as_bytes())) {
            return None;
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let (fields, boot, since_boot) = match fields[..] {
            // Of an older logship.
            [MAGIC, "1", ref fields @ ..] => (fields, NO_BOOT, "0"),
            [MAGIC, "2", ref fields @ .., boot, since_boot] => (fields, boot, since_boot),
            _ => return None,
        };
        let [sequence, inode, created, token, groups, changes, time] = fields[..] else { return None };
        let boot = if boot == NO_BOOT { "" } else { boot };
        let mark = Mark {
            token: token.into(),
            groups: groups.parse().ok()?,
            changes: changes.parse().ok()?,
            moment: Moment {
                time: time.parse().ok()?,
                boot: boot.into(),
                since_boot: since_boot.parse().ok()?,
            },
        };
        let identity = Identity { inode: inode.parse().ok()?, created: created.parse().ok()? };
        Some(Self { sequence: sequence.parse().ok()?, identity, mark })
    }
}

fn read_slot(file: &File, slot: u64) -> Option<Record> {
    let mut bytes = [0; SLOT];
    file.read_exact_at(&mut bytes, slot * SLOT as u64).ok()?;
    Record::decode(&bytes)
}

/// Returns the FNV-1a hash of some bytes: it only has to detect torn writes.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(groups: u64) -> Mark {
        let moment = Moment { time: u64::MAX, boot: "c-d".repeat(20), since_boot: u64::MAX };
        Mark { token: "ab".repeat(16), groups, changes: u64::MAX, moment }
    }

    #[test]
    fn mark_of_an_older_logship_is_read() {
        let line = format!("{MAGIC} 1 5 6 7 token 8 9 10");
        let slot = format!("{line} {:016x}", checksum(line.as_bytes()));
        let moment = Moment { time: 10, ..Moment::default() };
        let mark = Mark { token: "token".into(), groups: 8, changes: 9, moment };
        assert_eq!(Record::decode(slot.as_bytes()).unwrap().mark, mark);
        let record = Record { sequence: 1, identity: Identity { inode: 1, created: 1 }, mark };
        assert_eq!(Record::decode(&record.encode()), Some(record), "a mark without a boot");
    }

    #[test]
    fn last_mark_survives() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, found) = HighWater::open(directory.path()).unwrap();
        assert!(found.is_none());
        (1..=3).for_each(|groups| file.record(mark(groups)));
        let (_, found) = HighWater::open(directory.path()).unwrap();
        let found = found.unwrap();
        assert_eq!((found.mark, found.is_copy), (mark(3), false));
    }

    #[test]
    fn torn_write_leaves_previous_mark() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _) = HighWater::open(directory.path()).unwrap();
        (1..=2).for_each(|groups| file.record(mark(groups)));
        // The second slot has the last mark.
        file.file.write_all_at(b"torn", SLOT as u64 + 40).unwrap();
        let (_, found) = HighWater::open(directory.path()).unwrap();
        assert_eq!(found.unwrap().mark, mark(1));
        let path = directory.path().join(format!("{NAME}{}", numbers(directory.path()).unwrap()[0]));
        fs::write(path, "garbage").unwrap();
        assert!(HighWater::open(directory.path()).unwrap().1.is_none());
    }

    #[test]
    fn copies_show() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        create(one.path(), mark(7)).unwrap();
        let path = |directory: &Path| directory.join(format!("{NAME}{}", numbers(directory).unwrap()[0]));
        let first = path(one.path());
        fs::copy(&first, other.path().join(first.file_name().unwrap())).unwrap();
        let (_, found) = HighWater::open(other.path()).unwrap();
        let found = found.unwrap();
        assert_eq!((found.mark, found.is_copy, found.has_older), (mark(7), true, false));
        // An older copy in the same place.
        let older = fs::read(&first).unwrap();
        let (mut file, _) = HighWater::open(one.path()).unwrap();
        file.record(mark(9));
        fs::write(&first, older).unwrap();
        let (_, found) = HighWater::open(one.path()).unwrap();
        let found = found.unwrap();
        assert_eq!((found.mark, found.is_copy, found.has_older), (mark(9), false, true));
        let (_, found) = HighWater::open(one.path()).unwrap();
        assert!(!found.unwrap().has_older);
    }
}

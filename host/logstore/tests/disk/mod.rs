//! A disk that loses power: an SQLite VFS that knows what was synced.
//!
//! The files are real. Besides, a [`Disk`] keeps of each file what is durable, and the writes since the last sync. A
//! [`Crash`] is the state of the disk at a moment; [`Crash::materialize`] writes it elsewhere, with a random selection of
//! the unsynced writes, in any order, some of them torn.

// Each test uses a part of it.
#![allow(dead_code)]

mod vfs;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A sector is written completely or not at all.
const SECTOR: usize = 512;

/// The disk of a directory.
#[derive(Default)]
pub(crate) struct Disk {
    directory: PathBuf,
    files: Mutex<HashMap<PathBuf, FileState>>,
    /// The number of writes, syncs, truncations and deletions.
    operations: AtomicU64,
    /// The operation at which the power is lost.
    crash_at: AtomicU64,
    crash: Mutex<Option<Crash>>,
    /// Called at the crash.
    at_crash: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// True for a disk that reports a sync and does nothing.
    pub(crate) ignores_sync: AtomicBool,
    /// The SQLite error of each sync; 0 for none.
    pub(crate) sync_error: AtomicI32,
    /// The SQLite error of each sync of a database file, which only checkpoints do; 0 for none.
    pub(crate) checkpoint_error: AtomicI32,
    /// The SQLite error of each write; 0 for none.
    pub(crate) write_error: AtomicI32,
    /// The number of writes after which `write_error` begins, and the last part of the paths that it concerns.
    pub(crate) failing: Mutex<(u64, &'static str)>,
}

/// The durable content of a file, and what happened since.
#[derive(Debug, Clone, Default)]
struct FileState {
    /// `None` if the directory has no durable entry of the file.
    durable: Option<Vec<u8>>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Delete,
}

/// The state of a disk at the loss of power.
#[derive(Debug, Clone)]
pub(crate) struct Crash {
    files: HashMap<PathBuf, FileState>,
}

/// A small generator of random numbers, so that a seed repeats a test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn disks() -> &'static Mutex<HashMap<PathBuf, Arc<Disk>>> {
    static DISKS: OnceLock<Mutex<HashMap<PathBuf, Arc<Disk>>>> = OnceLock::new();
    DISKS.get_or_init(Mutex::default)
}

impl Disk {
    /// Puts the files of a directory on a disk. From the first call on, SQLite uses the VFS of this module for all files.
    pub(crate) fn of(directory: &Path) -> Arc<Self> {
        vfs::register();
        let directory = directory.canonicalize().unwrap();
        let disk = Self { directory: directory.clone(), crash_at: u64::MAX.into(), ..Self::default() };
        let disk = Arc::new(disk);
        disks().lock().unwrap().insert(directory, Arc::clone(&disk));
        disk
    }

    /// Loses power at an operation, and calls `hook` then. The program goes on, on the real files.
    pub(crate) fn crash_at(&self, operation: u64, hook: impl FnOnce() + Send + 'static) {
        *self.at_crash.lock().unwrap() = Some(Box::new(hook));
        self.crash_at.store(operation, Ordering::SeqCst);
    }

    /// Returns the error of a write, if it fails.
    fn error_of_write(&self, path: &Path) -> i32 {
        let error = self.write_error.load(Ordering::SeqCst);
        let (left, name) = &mut *self.failing.lock().unwrap();
        if error == 0 || !path.to_string_lossy().ends_with(*name) {
            return 0;
        }
        *left = left.saturating_sub(1);
        if *left == 0 { error } else { 0 }
    }

    /// Returns the number of operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Returns the state at the crash, or at the end if it did not happen.
    pub(crate) fn crash(&self) -> Crash {
        disks().lock().unwrap().remove(&self.directory);
        let crashed = self.crash.lock().unwrap().take();
        crashed.unwrap_or_else(|| Crash { files: self.files.lock().unwrap().clone() })
    }

    /// Returns the disk of a file, if it is on one.
    fn find(path: &Path) -> Option<Arc<Self>> {
        disks().lock().unwrap().get(path.parent()?).cloned()
    }

    fn open(&self, path: &Path, is_new: bool) {
        let mut files = self.files.lock().unwrap();
        let state = files.entry(path.to_owned()).or_default();
        if !is_new && state.durable.is_none() && state.pending.is_empty() {
            // The file was there before, made by something else.
            state.durable = Some(fs::read(path).unwrap_or_default());
        }
    }

    fn change(&self, path: &Path, change: Change) {
        let mut files = self.files.lock().unwrap();
        self.count(&files);
        files.entry(path.to_owned()).or_default().pending.push(change);
    }

    fn sync(&self, path: &Path) {
        let mut files = self.files.lock().unwrap();
        self.count(&files);
        if self.ignores_sync.load(Ordering::SeqCst) {
            return;
        }
        if files.get(path).is_none_or(|state| state.durable.is_none()) {
            // SQLite syncs the directory of a new file too, so deletions are durable.
            files.values_mut().for_each(FileState::delete);
        }
        let state = files.entry(path.to_owned()).or_default();
        let mut content = state.durable.take().unwrap_or_default();
        for change in state.pending.drain(..) {
            change.apply(&mut content);
        }
        state.durable = Some(content);
    }

    fn delete(&self, path: &Path, is_synced: bool) {
        let mut files = self.files.lock().unwrap();
        self.count(&files);
        if is_synced {
            files.remove(path);
        } else {
            files.entry(path.to_owned()).or_default().pending.push(Change::Delete);
        }
    }

    fn count(&self, files: &HashMap<PathBuf, FileState>) {
        if self.operations.fetch_add(1, Ordering::SeqCst) == self.crash_at.load(Ordering::SeqCst) {
            *self.crash.lock().unwrap() = Some(Crash { files: files.clone() });
            if let Some(hook) = self.at_crash.lock().unwrap().take() {
                hook();
            }
        }
    }
}

impl FileState {
    /// Makes the last deletion of the file durable, if there is one.
    fn delete(&mut self) {
        if let Some(last) = self.pending.iter().rposition(|change| matches!(change, Change::Delete)) {
            self.durable = None;
            self.pending.drain(..=last);
        }
    }

    /// Decides by chance if the deletions of the file are durable. If not, what followed them is lost.
    fn decide_deletion(&mut self, random: &mut Random) {
        if random.chance(50) {
            self.delete();
        } else if let Some(first) = self.pending.iter().position(|change| matches!(change, Change::Delete)) {
            self.pending.truncate(first);
        }
    }
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Self::Truncate(length) => content.truncate(length),
            Self::Delete => content.clear(),
        }
    }
}

impl Crash {
    /// Writes the files that are left to `directory`: what is durable, and a random selection of the other changes.
    pub(crate) fn materialize(self, directory: &Path, random: &mut Random) {
        // In some crashes all unsynced writes are lost, in others hardly any.
        let percent = [0, 10, 50, 90, 100][random.below(5) as usize];
        let mut files: Vec<_> = self.files.into_iter().collect();
        files.sort_by(|one, other| one.0.cmp(&other.0));
        for (path, mut state) in files {
            state.decide_deletion(random);
            let FileState { durable, mut pending } = state;
            let name = path.file_name().unwrap();
            // The shared memory is no part of the disk.
            if name.to_string_lossy().ends_with("-shm") || (durable.is_none() && random.chance(50)) {
                continue;
            }
            let mut content = durable.unwrap_or_default();
            while !pending.is_empty() {
                let change = pending.swap_remove(random.below(pending.len() as u64) as usize);
                if random.chance(percent) {
                    torn(change, random).apply(&mut content);
                }
            }
            fs::write(directory.join(name), content).unwrap();
        }
    }
}

/// Tears a write: some of its last sectors are missing.
fn torn(change: Change, random: &mut Random) -> Change {
    match change {
        Change::Write(at, mut bytes) if random.chance(20) => {
            let first = SECTOR - at % SECTOR;
            let sectors = bytes.len().saturating_sub(first) / SECTOR;
            bytes.truncate(first + SECTOR * random.below(sectors as u64 + 1) as usize);
            Change::Write(at, bytes)
        }
        change => change,
    }
}

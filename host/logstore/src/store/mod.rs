//! The store: opens the database. The other files have its operations, by noun.

mod audit;
mod backup;
mod catalog;
mod chain;
mod checkpoint;
mod commit;
mod consumer_group;
mod data_source;
mod deletion;
mod generation;
mod health;
mod high_water;
mod hold;
mod integrity;
mod job;
mod json;
mod log_group;
mod logstore;
mod member;
mod project;
mod put_id;
mod readers;
mod resend;
mod restore;
mod retention;
mod rule;
mod run;
mod salvage;
mod segments;
mod shard;
mod shard_end;
mod stage;
mod stage_event;
mod task;
mod unread;
mod verify;
mod waiting_rules;
mod wal;
mod walk;
mod writer;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::Semaphore;

pub use backup::Snapshot;
pub use health::Health;
pub use log_group::Limits;
pub use restore::{RESTORING, Restored};
pub use salvage::{Salvage, check_structure};
pub use verify::StoreVerifier;
pub use waiting_rules::Unshipped;

use self::health::Monitor;
use self::member::Groups;
use self::wal::Wal;
use self::writer::Writer;
use crate::clock_guard::ClockGuard;
use crate::error::StoreError;
use crate::files::{create_private_directory, private_file_options};
use crate::model::{Catalog, Generation};
use crate::options::Options;
use crate::schema;

/// The memory budget of log groups that wait for a commit, in bytes. Further puts wait for it.
const QUEUE_BUDGET: usize = 64 << 20;

/// The bytes that one permit of the budget represents.
const PERMIT_BYTES: usize = 1 << 10;

/// A store in its own directory. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Store {
    writer: Writer,
    monitor: Arc<Monitor>,
    options: Options,
    groups: Mutex<Groups>,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    readers: Mutex<Vec<Connection>>,
    queue_budget: Arc<Semaphore>,
    file: PathBuf,
    guard: Arc<ClockGuard>,
    generation: Mutex<Generation>,
    /// The rules that wait for an operator.
    waiting_rules: Mutex<HashSet<i64>>,
    /// The lock file. It stays locked while the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in `directory`, or creates it. Only its owner can read the files.
    pub fn open(directory: &Path, mut options: Options) -> Result<Self, StoreError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        create_private_directory(directory).map_err(file_error(directory))?;
        let lock = lock_directory(directory)?;
        restore::check_complete(directory)?;
        let file = directory.join("logstore.db");
        // SQLite creates its other files with the same mode.
        private_file_options().append(true).open(&file).map_err(file_error(&file))?;
        let mut connection = schema::open_writer(&file)?;
        let started = generation::start(&connection, directory, options.moment())?;
        let guard = ClockGuard::new(&options, started.last.as_ref());
        let clock = Arc::clone(&guard);
        options.clock = Arc::new(move || clock.now());
        let catalog = Catalog::read(&connection, &Catalog::default())?;
        integrity::report_chain_ends(&connection, &catalog)?;
        let groups = Groups::read(&connection, (options.uptime)())?;
        let catalog = Arc::new(RwLock::new(Arc::new(catalog)));
        let wal = Wal::new(&mut connection, schema::WAL_CHECKPOINT_BYTES)?;
        let monitor = Arc::new(Monitor::new(directory.to_owned()));
        let writer = Writer::start(
            connection,
            Arc::clone(&catalog),
            Arc::clone(&guard),
            &options,
            started.high_water,
            (wal, Arc::clone(&monitor)),
        )
        .map_err(file_error(directory))?;
        Ok(Self {
            writer,
            monitor,
            options,
            groups: Mutex::new(groups),
            catalog,
            readers: Mutex::default(),
            queue_budget: Arc::new(Semaphore::new(QUEUE_BUDGET / PERMIT_BYTES)),
            file,
            guard,
            generation: Mutex::new(started.generation),
            waiting_rules: Mutex::new(started.waiting_rules),
            _lock: lock,
        })
    }

    /// Returns the current catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns by how many seconds the clock was set forward, if that stops the deletion of expired logs.
    pub fn clock_ahead(&self) -> Option<u64> {
        self.guard.ahead().map(|ahead| ahead / 1_000_000)
    }

    /// Returns the seconds for which no expired logs are deleted, because the machine was off and its clock may be wrong.
    pub fn clock_settles_in(&self) -> Option<u64> {
        self.guard.settles_in().map(|time| time.div_ceil(1_000_000))
    }

    /// Returns the time by which something expires, in Unix microseconds: it never follows a clock that is set forward.
    /// Returns `None` if nothing expires: while the clock is not confirmed or has not settled.
    pub fn expiry_time(&self) -> Option<u64> {
        self.guard.expiry_time()
    }

    /// Confirms that the clock is right.
    pub fn confirm_clock(&self) {
        self.guard.confirm();
    }

    /// Returns the current time in Unix microseconds: the store's own time while the clock is not confirmed.
    pub fn clock(&self) -> u64 {
        (self.options.clock)()
    }

    /// Returns the current time in Unix seconds.
    fn now(&self) -> u64 {
        (self.options.clock)() / 1_000_000
    }

    /// Returns true if the store accepts puts: until [`close`](Self::close), or until the writer fails.
    pub fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// Returns the health of writes.
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Returns the size of the database file and its write-ahead log, in bytes.
    pub fn size(&self) -> u64 {
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        size(&self.file) + size(Path::new(&log))
    }

    /// Stops the writer after the queued work. Later calls fail with [`StoreError::Closed`].
    pub fn close(&self) {
        // Open readers prevent the truncation of the write-ahead log.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.writer.close();
    }

    fn with_reader<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| schema::open_reader(&self.file), Ok)?;
        let result = read(&connection);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }
}

/// The lock file of a data directory.
pub const LOCK: &str = "lock";

/// Locks a directory for one process, as long as the file is open.
///
/// # Errors
/// Fails if another process has locked it.
pub fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let lock = private_file_options().write(true).open(&path);
    let lock = lock.map_err(|source| StoreError::File { path: path.clone(), source })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}

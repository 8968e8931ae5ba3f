//! The store: opens the database, stores log groups and reads them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

use crate::catalog::{Catalog, Shard};
use crate::consumer_group::Groups;
use crate::error::StoreError;
use crate::writer::Writer;
use crate::{NewGroup, Options, StoredGroup, schema};

/// The memory budget of log groups that wait for a commit, in bytes. Further puts wait for it.
const QUEUE_BUDGET: usize = 64 << 20;
/// The bytes that one permit of the budget represents.
const PERMIT_BYTES: usize = 1 << 10;

/// A store in its own directory. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) options: Options,
    pub(crate) groups: Mutex<Groups>,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    readers: Mutex<Vec<Connection>>,
    queue_budget: Arc<Semaphore>,
    file: PathBuf,
    /// The lock file. It stays locked while the store is open.
    _lock: File,
}

/// The limits of [`Store::read`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of groups.
    pub groups: usize,
    /// The bytes, before compression, after which the read stops. It returns at least one group.
    pub bytes: usize,
    /// The end of the range, exclusive.
    pub end: u64,
}

impl Store {
    /// Opens the store in `directory`, or creates it. Only its owner can read the files.
    pub fn open(directory: &Path, options: Options) -> Result<Self, StoreError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        create_private_directory(directory).map_err(file_error(directory))?;
        let path = directory.join("lock");
        let lock = private_file_options().write(true).open(&path).map_err(file_error(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked(directory.to_owned()),
            TryLockError::Error(source) => StoreError::File { path, source },
        })?;
        let file = directory.join("logstore.db");
        // SQLite creates its other files with the same mode.
        private_file_options().append(true).open(&file).map_err(file_error(&file))?;
        let connection = schema::open_writer(&file)?;
        let catalog = Catalog::read(&connection, &Catalog::default())?;
        let groups = Groups::read(&connection, (options.uptime)())?;
        let catalog = Arc::new(RwLock::new(Arc::new(catalog)));
        let writer = Writer::start(connection, Arc::clone(&catalog), Arc::clone(&options.clock))
            .map_err(file_error(directory))?;
        Ok(Self {
            writer,
            options,
            groups: Mutex::new(groups),
            catalog,
            readers: Mutex::default(),
            queue_budget: Arc::new(Semaphore::new(QUEUE_BUDGET / PERMIT_BYTES)),
            file,
            _lock: lock,
        })
    }

    /// Returns the current catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends log groups to a shard. Returns the position of the first one after all are on disk.
    pub async fn put(&self, shard: &Arc<Shard>, groups: Vec<NewGroup>) -> Result<u64, StoreError> {
        let bytes: usize = groups.iter().map(|group| group.body.len()).sum();
        let permits = (bytes / PERMIT_BYTES + 1).min(QUEUE_BUDGET / PERMIT_BYTES) as u32;
        let permits = Arc::clone(&self.queue_budget)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| StoreError::Closed)?;
        self.writer.put(Arc::clone(shard), groups, permits).await
    }

    /// Calls `visit` with the groups of a shard from a position on, until it breaks. Blocks on disk I/O.
    ///
    /// If the group at the position was deleted, the read starts at the oldest group. Returns the next position.
    pub fn read(
        &self,
        shard: &Shard,
        from: u64,
        limits: Limits,
        mut visit: impl FnMut(StoredGroup<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let end = shard.end();
        let begin = shard.begin().min(end);
        if from > end {
            return Err(StoreError::NoCursor { shard: shard.number, cursor: from, begin, end });
        }
        let (mut next, end) = (from.max(begin), end.min(limits.end));
        if next >= end {
            return Ok(next.min(limits.end));
        }
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, received, newest, logs, size, body FROM log_group
                 WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query(params![
                shard.row(next),
                shard.row(end),
                limits.groups.min(i64::MAX as usize)
            ])?;
            let mut bytes = 0;
            while bytes < limits.bytes
                && let Some(row) = rows.next()?
            {
                let group = StoredGroup {
                    position: shard.position(row.get(0)?),
                    received: row.get(1)?,
                    newest: row.get(2)?,
                    logs: row.get(3)?,
                    size: row.get(4)?,
                    body: row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?,
                };
                next = group.position + 1;
                bytes += group.size as usize;
                if visit(group).is_break() {
                    break;
                }
            }
            Ok(next)
        })
    }

    /// Returns the time of receipt of the group at `position`, in Unix seconds. Returns the current time for the end of
    /// the shard. Blocks on disk I/O.
    pub fn received_at(&self, shard: &Shard, position: u64) -> Result<u64, StoreError> {
        let (begin, end) = (shard.begin(), shard.end());
        if position == end {
            return Ok((self.options.clock)() / 1_000_000);
        }
        if position < begin || position > end {
            return Err(StoreError::NoCursor { shard: shard.number, cursor: position, begin, end });
        }
        // Retention may delete the group in the meantime; then its position is before the first.
        let deleted = StoreError::NoCursor { shard: shard.number, cursor: position, begin, end };
        self.with_reader(|connection| received(connection, shard, position)?.ok_or(deleted))
    }

    /// Returns the time of the newest log of the group at `position`, in Unix seconds. Blocks on disk I/O.
    pub(crate) fn newest_at(&self, shard: &Shard, position: u64) -> Result<Option<u64>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT newest FROM log_group WHERE id = ?1")?;
            Ok(statement.query_row([shard.row(position)], |row| row.get(0)).optional()?)
        })
    }

    /// Returns true if the store accepts puts: until [`close`](Self::close), or until the writer fails.
    pub fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// Returns the position of the first group received at `time` (Unix seconds) or later, or the end of the shard.
    /// Blocks on disk I/O.
    pub fn position_at(&self, shard: &Shard, time: u64) -> Result<u64, StoreError> {
        let (mut low, mut high) = (shard.begin(), shard.end());
        if time > shard.last_received() {
            return Ok(high);
        }
        self.with_reader(|connection| {
            while low < high {
                let middle = low + (high - low) / 2;
                // A deleted group is older than all stored groups.
                match received(connection, shard, middle)? {
                    Some(received) if received >= time => high = middle,
                    _ => low = middle + 1,
                }
            }
            Ok(low)
        })
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

    pub(crate) fn with_reader<T>(
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

fn received(connection: &Connection, shard: &Shard, position: u64) -> Result<Option<u64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT received FROM log_group WHERE id = ?1")?;
    Ok(statement.query_row([shard.row(position)], |row| row.get(0)).optional()?)
}

/// Returns options that create a missing file readable only by its owner.
fn private_file_options() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).mode(0o600);
    options
}

fn create_private_directory(directory: &Path) -> Result<(), std::io::Error> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(directory)
}

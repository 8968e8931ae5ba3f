//! The store: what there is, putting and reading.

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

/// Bytes of groups that may wait for a commit; who comes then waits too.
const WAITING: usize = 64 << 20;
/// The unit of it.
const ROOM: usize = 1 << 10;

/// A store in a directory of its own. Share it by [`Arc`].
#[derive(Debug)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) options: Options,
    pub(crate) groups: Mutex<Groups>,
    catalog: Arc<RwLock<Arc<Catalog>>>,
    readers: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
    file: PathBuf,
    /// Locked as long as the store is open.
    _lock: File,
}

/// How much [`Store::read`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// No more groups than this.
    pub groups: usize,
    /// No group after this many bytes before compression; so at least one.
    pub bytes: usize,
    /// Nothing at or behind this position.
    pub end: u64,
}

impl Store {
    /// Opens the store in `directory`, and makes it if nothing is there. Nobody but its owner can read it.
    pub fn open(directory: &Path, options: Options) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        make_private(directory).map_err(failed(directory))?;
        let path = directory.join("lock");
        let lock = private().write(true).open(&path).map_err(failed(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked(directory.to_owned()),
            TryLockError::Error(source) => StoreError::File { path, source },
        })?;
        let file = directory.join("logstore.db");
        // SQLite gives its other files the same mode.
        private().append(true).open(&file).map_err(failed(&file))?;
        let connection = schema::open_writer(&file)?;
        let catalog = Catalog::read(&connection, &Catalog::default())?;
        let groups = Groups::read(&connection, (options.uptime)())?;
        let catalog = Arc::new(RwLock::new(Arc::new(catalog)));
        let writer = Writer::start(connection, Arc::clone(&catalog), Arc::clone(&options.clock))
            .map_err(failed(directory))?;
        Ok(Self {
            writer,
            options,
            groups: Mutex::new(groups),
            catalog,
            readers: Mutex::default(),
            room: Arc::new(Semaphore::new(WAITING / ROOM)),
            file,
            _lock: lock,
        })
    }

    /// What there is just now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores log groups in a shard, one after the other. Returns the position of the first once all are on disk.
    pub async fn put(&self, shard: &Arc<Shard>, groups: Vec<NewGroup>) -> Result<u64, StoreError> {
        let bytes: usize = groups.iter().map(|group| group.body.len()).sum();
        let room = (bytes / ROOM + 1).min(WAITING / ROOM) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(room).await.map_err(|_| StoreError::Closed)?;
        self.writer.put(Arc::clone(shard), groups, room).await
    }

    /// Shows `visit` the groups of a shard from a position on, as long as it wants more. Blocks on the disk.
    ///
    /// A position whose group was deleted since is as good as the oldest. Returns where to go on.
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

    /// When the group at `position` was received, in Unix seconds; at the end, the present. Blocks on the disk.
    pub fn received_at(&self, shard: &Shard, position: u64) -> Result<u64, StoreError> {
        let (begin, end) = (shard.begin(), shard.end());
        if position == end {
            return Ok((self.options.clock)() / 1_000_000);
        }
        if position < begin || position > end {
            return Err(StoreError::NoCursor { shard: shard.number, cursor: position, begin, end });
        }
        // Deleted just now, it is one of those before the first.
        let gone = StoreError::NoCursor { shard: shard.number, cursor: position, begin, end };
        self.with_reader(|connection| received(connection, shard, position)?.ok_or(gone))
    }

    /// The time of the newest log of the group at `position`, in Unix seconds. Blocks on the disk.
    pub(crate) fn newest_at(&self, shard: &Shard, position: u64) -> Result<Option<u64>, StoreError> {
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("SELECT newest FROM log_group WHERE id = ?1")?;
            Ok(statement.query_row([shard.row(position)], |row| row.get(0)).optional()?)
        })
    }

    /// Whether logs can be put: not after [`close`](Self::close), or a failure of the writer.
    pub fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// The position of the first group received at `time` or later, in Unix seconds; the end if there is none.
    /// Blocks on the disk.
    pub fn position_at(&self, shard: &Shard, time: u64) -> Result<u64, StoreError> {
        let (mut low, mut high) = (shard.begin(), shard.end());
        if time > shard.last_received() {
            return Ok(high);
        }
        self.with_reader(|connection| {
            while low < high {
                let middle = low + (high - low) / 2;
                // One that is gone was older than all that are there.
                match received(connection, shard, middle)? {
                    Some(received) if received >= time => high = middle,
                    _ => low = middle + 1,
                }
            }
            Ok(low)
        })
    }

    /// Bytes of the database file and its write-ahead log.
    pub fn size(&self) -> u64 {
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        size(&self.file) + size(Path::new(&log))
    }

    /// Ends the writer, after what was asked for so far. What comes later fails with [`StoreError::Closed`].
    pub fn close(&self) {
        // Readers keep the write-ahead log from being put away.
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

/// A file that only its owner can read, made if it is not there.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).mode(0o600);
    options
}

fn make_private(directory: &Path) -> Result<(), std::io::Error> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(directory)
}

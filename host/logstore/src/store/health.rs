//! The health of writes: whether the store accepts puts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

/// The time without a failed commit after which a probe may end a failure.
const QUIET: Duration = Duration::from_secs(1);

/// The smallest and the largest probe, in bytes.
const MIN_PROBE_BYTES: usize = 4 << 20;
const MAX_PROBE_BYTES: usize = 16 << 20;

/// The health of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Puts succeed.
    Good,
    /// The last commits failed, for example because the disk is full. The store goes on trying.
    Failing(String),
    /// Writes are refused until a restart, because the disk failed or the database is damaged.
    Refusing(String),
}

/// The health of writes, shared by the writer thread and its callers.
#[derive(Debug)]
pub(super) struct Monitor {
    health: Mutex<Health>,
    directory: PathBuf,
}

/// The failure that the writer thread tries to end.
#[derive(Debug)]
pub(super) struct Failure {
    last: Instant,
    /// The bytes of the failed commit.
    bytes: usize,
}

impl Monitor {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { health: Mutex::new(Health::Good), directory }
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the reason why writes are refused, if they are.
    pub(super) fn refusal(&self) -> Option<String> {
        match self.health() {
            Health::Refusing(reason) => Some(reason),
            _ => None,
        }
    }

    /// Records a failed write of so many bytes. Returns the failure to end, unless writes are refused now.
    pub(super) fn fail(
        &self,
        connection: &Connection,
        error: &rusqlite::Error,
        bytes: usize,
    ) -> Option<Failure> {
        let refuses = is_fatal(connection, error);
        let health =
            if refuses { Health::Refusing(reason(error)) } else { Health::Failing(error.to_string()) };
        if let Health::Refusing(reason) = &health {
            tracing::error!(reason, "the store refuses writes until it is restarted");
        }
        self.set(health);
        (!refuses)
            .then(|| Failure { last: Instant::now(), bytes: bytes.clamp(MIN_PROBE_BYTES, MAX_PROBE_BYTES) })
    }

    /// Refuses writes if no later one may be trusted after the error.
    pub(super) fn refuse_after(&self, connection: &Connection, error: &rusqlite::Error) {
        if is_fatal(connection, error) {
            self.fail(connection, error, 0);
        }
    }

    /// Ends a failure if the disk takes as many bytes as the failed commit had. Returns true if it ended.
    pub(super) fn probe(&self, failure: &Failure) -> bool {
        if failure.last.elapsed() < QUIET {
            return false;
        }
        let is_writable = write_probe(&self.directory, failure.bytes).is_ok();
        if is_writable {
            tracing::info!("the disk takes data again");
            self.set(Health::Good);
        }
        is_writable
    }

    fn set(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// Writes a file and deletes it.
fn write_probe(directory: &Path, bytes: usize) -> io::Result<()> {
    let path = directory.join("probe");
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(&vec![0; bytes])?;
        file.sync_all()
    };
    let written = write();
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Returns true if no later write may be trusted: after a failed `fsync` the system may have dropped data, and a write
/// to a damaged database may damage more of it. A full disk, a quota and a limit of the file size are no damage.
fn is_fatal(connection: &Connection, error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => true,
        Some(ErrorCode::SystemIoFailure) => {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            let is_space = [
                ffi::SQLITE_IOERR_NOMEM,
                ffi::SQLITE_IOERR_SHMOPEN,
                ffi::SQLITE_IOERR_SHMSIZE,
                ffi::SQLITE_IOERR_SHMMAP,
                ffi::SQLITE_IOERR_SHMLOCK,
            ];
            let is_write = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_TRUNCATE];
            let is_full = is_write.contains(&code) && is_out_of_space(connection);
            !is_space.contains(&code) && !is_full
        }
        _ => false,
    }
}

/// Returns true if the system's last error on the database is that no space is left for it.
fn is_out_of_space(connection: &Connection) -> bool {
    // SAFETY: the handle is valid as long as the connection, and the function only reads it.
    let code = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    let kind = io::Error::from_raw_os_error(code).kind();
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn reason(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk failed ({error}): check it and the system's log, then restart")
        }
        _ => format!("the database is damaged ({error}): stop the service and run `logship fsck`"),
    }
}

//! Migrations of the schema: the database before them is kept, whatever happens meanwhile.

mod disk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use logship_logstore::{Options, Store, StoreError};
use rusqlite::Connection;
use rusqlite::ffi;

use disk::Disk;

/// The log groups of the old database.
const GROUPS: u64 = 100;

/// Creates a data directory of the first version.
fn old_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let database = Connection::open(directory.path().join("logstore.db")).unwrap();
    database.execute_batch(include_str!("migrations/version-1.sql")).unwrap();
    directory
}

fn open(directory: &Path) -> Result<Store, StoreError> {
    Store::open(directory, Options { expires: false, ..Options::default() })
}

fn kept_copy(directory: &Path) -> PathBuf {
    directory.join("logstore.db.version-1")
}

fn count(database: &Path) -> u64 {
    let database = Connection::open(database).unwrap();
    database.query_row("SELECT count(*) FROM log_group", [], |row| row.get(0)).unwrap()
}

/// Checks that the store opens with all logs, and that the copy has them too.
fn check(directory: &Path) {
    let store = open(directory).unwrap();
    let catalog = store.catalog();
    let shard = catalog.logstore("p", "l").unwrap().shard(0).unwrap();
    assert_eq!(shard.groups_between(shard.begin(), shard.end()), GROUPS);
    store.close();
    assert_eq!(count(&directory.join("logstore.db")), GROUPS);
    let copy = Connection::open(kept_copy(directory)).unwrap();
    let version: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let intact: String = copy.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!((version, intact.as_str(), count(&kept_copy(directory))), (1, "ok", GROUPS));
    assert!(!kept_copy(directory).with_extension("version-1.partial").exists());
}

/// Copies the files of a directory, as a process that is killed now leaves them.
fn killed(directory: &Path) -> tempfile::TempDir {
    let after = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        // The shared memory of a killed process is rebuilt.
        if !entry.path().to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), after.path().join(entry.file_name())).unwrap();
        }
    }
    after
}

#[test]
fn database_before_a_migration_is_kept() {
    let directory = old_directory();
    check(directory.path());
    let copy = kept_copy(directory.path());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    // It stays as it is, and the next start makes no other one.
    let (bytes, files) = (fs::read(&copy).unwrap(), fs::read_dir(directory.path()).unwrap().count());
    open(directory.path()).unwrap().close();
    assert_eq!((fs::read(&copy).unwrap(), fs::read_dir(directory.path()).unwrap().count()), (bytes, files));
    // The copy is a database that can be put back.
    let old = tempfile::tempdir().unwrap();
    fs::copy(&copy, old.path().join("logstore.db")).unwrap();
    check(old.path());
    assert!(!kept_copy(tempfile::tempdir().unwrap().path()).exists(), "a new database has none");
}

#[test]
fn full_disk_stops_the_start_and_changes_nothing() {
    for part in [".partial", ".db", "-wal"] {
        for writes in 1.. {
            let directory = old_directory();
            let disk = Disk::of(directory.path());
            *disk.failing.lock().unwrap() = (writes, part);
            disk.write_error.store(ffi::SQLITE_FULL, Ordering::SeqCst);
            let opened = open(directory.path());
            disk.write_error.store(0, Ordering::SeqCst);
            let Err(error) = opened else {
                assert!(writes > 1, "{part} is never written");
                break;
            };
            let message = error.to_string();
            assert!(message.contains("full"), "{message}");
            if part == ".partial" {
                assert!(message.contains("version-1") && message.contains("Free some space"), "{message}");
                assert!(!kept_copy(directory.path()).exists(), "no half copy");
            }
            assert_eq!(count(&directory.path().join("logstore.db")), GROUPS);
            check(directory.path());
        }
    }
}

#[test]
fn killed_migration_is_repeated() {
    for operation in (0..).step_by(3) {
        let directory = old_directory();
        let disk = Disk::of(directory.path());
        let (path, after) = (directory.path().to_owned(), Arc::new(Mutex::new(None)));
        let killed_at = Arc::clone(&after);
        disk.crash_at(operation, move || *killed_at.lock().unwrap() = Some(killed(&path)));
        open(directory.path()).unwrap().close();
        let Some(after) = after.lock().unwrap().take() else {
            assert!(operation > 20, "{operation} operations");
            break;
        };
        // Without real syncs.
        let _disk = Disk::of(after.path());
        check(after.path());
    }
}

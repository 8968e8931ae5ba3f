//! The tables, and how a database is opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// What `PRAGMA application_id` says of a file of ours: "lgsh".
const APPLICATION: i32 = 0x6c67_7368;

/// Each entry brings the database from the version of its index to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE project (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        created INTEGER NOT NULL,            -- Unix seconds, as every time here that does not say else
        modified INTEGER NOT NULL
    ) STRICT;

    -- Numbers that were used are not used again: what is in memory goes by them.
    CREATE TABLE logstore (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project INTEGER NOT NULL REFERENCES project (id),
        name TEXT NOT NULL,
        ttl INTEGER NOT NULL,                -- days
        settings TEXT NOT NULL,              -- JSON: what clients set, and get back as it was
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        UNIQUE (project, name)
    ) STRICT;

    -- The shard of a logstore that is gone has none; its logs are deleted in small steps, then it is.
    CREATE TABLE shard (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        logstore INTEGER REFERENCES logstore (id),
        number INTEGER NOT NULL,
        writable INTEGER NOT NULL,
        begin_key TEXT NOT NULL,             -- 32 hex digits
        end_key TEXT NOT NULL,
        parents TEXT NOT NULL,               -- JSON: numbers of the shards that it was split or merged from
        created INTEGER NOT NULL,
        origin INTEGER NOT NULL,             -- cursor of the first log group that it ever had
        next INTEGER NOT NULL,               -- the next cursor is at least this: log groups before it may be deleted
        UNIQUE (logstore, number)
    ) STRICT;

    CREATE TABLE log_group (
        id INTEGER PRIMARY KEY,              -- shard.id << 40 | cursor - shard.origin
        received INTEGER NOT NULL,           -- never decreases within a shard
        newest INTEGER NOT NULL,             -- time of its newest log
        logs INTEGER NOT NULL,
        size INTEGER NOT NULL,               -- bytes before compression
        body BLOB NOT NULL                   -- the LogGroup (protobuf) as it came, as one LZ4 block
    ) STRICT;

    CREATE TABLE consumer_group (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        logstore INTEGER NOT NULL REFERENCES logstore (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        timeout INTEGER NOT NULL,            -- seconds
        ordered INTEGER NOT NULL,
        UNIQUE (logstore, name)
    ) STRICT;

    CREATE TABLE checkpoint (
        consumer_group INTEGER NOT NULL REFERENCES consumer_group (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,              -- its number
        cursor INTEGER NOT NULL,             -- the next to read
        updated INTEGER NOT NULL,            -- Unix microseconds
        consumer TEXT NOT NULL,
        PRIMARY KEY (consumer_group, shard)
    ) STRICT, WITHOUT ROWID;

    -- Who may be working on what: after a restart nothing is given to a second one meanwhile.
    CREATE TABLE assignment (
        consumer_group INTEGER NOT NULL REFERENCES consumer_group (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,
        consumer TEXT NOT NULL,
        given INTEGER NOT NULL,              -- whether it was told to own it; else it is still finishing
        PRIMARY KEY (consumer_group, shard, consumer)
    ) STRICT, WITHOUT ROWID;
", "
    -- What ships a logstore. One that was deleted stays: its name can't be taken again.
    CREATE TABLE rule (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        logstore INTEGER NOT NULL REFERENCES logstore (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        target TEXT NOT NULL,                -- oss, odps
        configuration TEXT NOT NULL,         -- JSON: what clients set, and get back as it was
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        deleted INTEGER,
        UNIQUE (logstore, name)
    ) STRICT;

    -- What tasks are made by: a rule and the digests of its stages, as they were at one time.
    CREATE TABLE plan (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        content TEXT NOT NULL,               -- JSON
        created INTEGER NOT NULL,
        UNIQUE (rule, content)
    ) STRICT;

    -- A place in a shard is a log group's cursor, and how many of its logs are before the place.
    CREATE TABLE progress (
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,              -- its number
        next_cursor INTEGER NOT NULL,        -- what is before it is in tasks
        next_log INTEGER NOT NULL,
        done_cursor INTEGER NOT NULL,        -- the checkpoint: what is before it is at the destination
        done_log INTEGER NOT NULL,
        PRIMARY KEY (rule, shard)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE task (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        plan INTEGER NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,              -- its number
        created INTEGER NOT NULL,            -- Unix nanoseconds: the first half of its id
        number INTEGER NOT NULL,             -- the second half
        begin_cursor INTEGER NOT NULL,
        begin_log INTEGER NOT NULL,
        end_cursor INTEGER NOT NULL,         -- may become less until it has rows
        end_log INTEGER NOT NULL,
        object TEXT NOT NULL,                -- the key of its object
        received INTEGER NOT NULL,           -- when its newest log was
        status TEXT NOT NULL,                -- running, success, fail
        attempts INTEGER NOT NULL,
        failures INTEGER NOT NULL,           -- those of them that failed; the others were cut off
        started INTEGER NOT NULL,            -- the last of them, in Unix microseconds
        finished INTEGER NOT NULL,           -- Unix microseconds; 0 while it runs
        next_try INTEGER,                    -- Unix microseconds
        sha256 TEXT,                         -- of the object; with those below it seals the task
        rows INTEGER,
        raw_bytes INTEGER,
        stored_bytes INTEGER,
        code TEXT NOT NULL,
        message TEXT NOT NULL,
        UNIQUE (created, number)
    ) STRICT;
    CREATE INDEX task_open ON task (rule, shard, begin_cursor, begin_log) WHERE status <> 'success';
    CREATE INDEX task_retry ON task (next_try) WHERE next_try IS NOT NULL;
    CREATE INDEX task_plan ON task (plan);
    CREATE INDEX task_rule ON task (rule);
", "
    -- Names of stages. One that is not here is that of the stage that comes with the program.
    CREATE TABLE stage (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL,                  -- encoder, compressor, …
        pinned INTEGER NOT NULL,
        current INTEGER                      -- stage_event.id: what made it stand for what it does
    ) STRICT, WITHOUT ROWID;

    -- The component of a digest is a file of the data directory.
    CREATE TABLE stage_version (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stage TEXT NOT NULL REFERENCES stage (name) ON DELETE CASCADE,
        version TEXT NOT NULL,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,               -- bytes
        source TEXT NOT NULL,
        who TEXT NOT NULL,
        added INTEGER NOT NULL,              -- Unix microseconds
        UNIQUE (stage, version),
        UNIQUE (stage, digest)
    ) STRICT;

    -- What was done. It stays when a name is gone: the greatest id tells what a plan was made by.
    CREATE TABLE stage_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        action TEXT NOT NULL,                -- add, swap, rollback, pin, unpin, remove
        version TEXT NOT NULL,
        digest TEXT,                         -- none: what comes with the program
        at INTEGER NOT NULL,                 -- Unix microseconds
        who TEXT NOT NULL,
        before INTEGER                       -- what a rollback goes back to
    ) STRICT;
    CREATE INDEX stage_event_name ON stage_event (name);

    ALTER TABLE task ADD COLUMN stage TEXT;  -- digest of the stage that it failed in, at the last time
    CREATE INDEX task_stage ON task (stage) WHERE stage IS NOT NULL;
", "
    ALTER TABLE task ADD COLUMN objects TEXT;  -- JSON: each object, where their keys were not known before
"];

/// A commit writes each page that it touches whole, and small puts touch one in every shard: with 16 KiB they are a
/// third slower, large ones a tenth faster.
const PAGE_SIZE: u32 = 4 << 10;

/// The log is written back into the database at this size, in bytes; it is the pause that a commit may meet.
const CHECKPOINT: u32 = 32 << 20;

/// Opens the database for the writer, makes it or brings it up to date.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (tables > 0 && application != APPLICATION) || version > MIGRATIONS.len() {
        return Err(StoreError::Foreign { path: path.to_owned(), version, known: MIGRATIONS.len() });
    }
    if tables == 0 {
        // Both count only before the first table.
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT / page)?;
    connection.pragma_update(None, "journal_size_limit", 2 * CHECKPOINT)?;
    connection.pragma_update(None, "cache_size", -(16 << 10))?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index as u32 + 1)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.commit()?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens the database for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "cache_size", -(2 << 10))?;
    Ok(connection)
}

//! The database schema: opens and migrates the database.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::copy::keep_copy;
use crate::error::StoreError;

/// The `PRAGMA application_id` of a store: "lgsh".
const APPLICATION: i32 = 0x6c67_7368;

/// The migrations. Each entry migrates the database from the version of its index to the next one.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE project (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        created INTEGER NOT NULL,            -- Unix seconds, like all times without another unit
        modified INTEGER NOT NULL
    ) STRICT;

    -- AUTOINCREMENT prevents the reuse of ids: objects in memory refer to them.
    CREATE TABLE logstore (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project INTEGER NOT NULL REFERENCES project (id),
        name TEXT NOT NULL,
        ttl INTEGER NOT NULL,                -- days
        settings TEXT NOT NULL,              -- JSON, exactly as the client set it
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        UNIQUE (project, name)
    ) STRICT;

    -- After a logstore is deleted, its shards have none. Their logs are deleted in small steps, then the shards.
    CREATE TABLE shard (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        logstore INTEGER REFERENCES logstore (id),
        number INTEGER NOT NULL,
        writable INTEGER NOT NULL,
        begin_key TEXT NOT NULL,             -- 32 hex digits
        end_key TEXT NOT NULL,
        parents TEXT NOT NULL,               -- JSON: numbers of the shards it was split or merged from
        created INTEGER NOT NULL,
        origin INTEGER NOT NULL,             -- cursor of the first log group ever stored
        next INTEGER NOT NULL,               -- lower bound of the next cursor, as old log groups may be deleted
        UNIQUE (logstore, number)
    ) STRICT;

    CREATE TABLE log_group (
        id INTEGER PRIMARY KEY,              -- shard.id << 40 | log groups of the shard before it
        received INTEGER NOT NULL,           -- never decreases within a shard
        newest INTEGER NOT NULL,             -- time of the newest log
        logs INTEGER NOT NULL,
        size INTEGER NOT NULL,               -- bytes before compression
        body BLOB NOT NULL                   -- the LogGroup (protobuf) as received, as one LZ4 block
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
        shard INTEGER NOT NULL,              -- shard number
        cursor INTEGER NOT NULL,             -- next position to read
        updated INTEGER NOT NULL,            -- Unix microseconds
        consumer TEXT NOT NULL,
        PRIMARY KEY (consumer_group, shard)
    ) STRICT, WITHOUT ROWID;

    -- The shards that each member may be processing: a restart must not assign them to a second member.
    CREATE TABLE assignment (
        consumer_group INTEGER NOT NULL REFERENCES consumer_group (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,
        consumer TEXT NOT NULL,
        given INTEGER NOT NULL,              -- 1: assigned; 0: revoked, but maybe still being processed
        PRIMARY KEY (consumer_group, shard, consumer)
    ) STRICT, WITHOUT ROWID;
", "
    -- Shipping rules. Deleted rules stay, because their names can't be reused.
    CREATE TABLE rule (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        logstore INTEGER NOT NULL REFERENCES logstore (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        target TEXT NOT NULL,                -- oss, odps
        configuration TEXT NOT NULL,         -- JSON, exactly as the client set it
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        deleted INTEGER,
        UNIQUE (logstore, name)
    ) STRICT;

    -- Plans of tasks: a rule and the digests of its stages at one time.
    CREATE TABLE plan (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        content TEXT NOT NULL,               -- JSON
        created INTEGER NOT NULL,
        UNIQUE (rule, content)
    ) STRICT;

    -- A position in a shard: the cursor of a log group, and the number of its logs before the position.
    CREATE TABLE progress (
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,              -- shard number
        next_cursor INTEGER NOT NULL,        -- start of the next task
        next_log INTEGER NOT NULL,
        done_cursor INTEGER NOT NULL,        -- checkpoint: all logs before it are at the destination
        done_log INTEGER NOT NULL,
        PRIMARY KEY (rule, shard)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE task (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rule INTEGER NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        plan INTEGER NOT NULL REFERENCES plan (id) ON DELETE CASCADE,
        shard INTEGER NOT NULL,              -- shard number
        created INTEGER NOT NULL,            -- Unix nanoseconds; first half of the id
        number INTEGER NOT NULL,             -- second half of the id
        begin_cursor INTEGER NOT NULL,
        begin_log INTEGER NOT NULL,
        end_cursor INTEGER NOT NULL,         -- may decrease until rows is set
        end_log INTEGER NOT NULL,
        object TEXT NOT NULL,                -- key of the object
        received INTEGER NOT NULL,           -- receipt of the newest log
        status TEXT NOT NULL,                -- running, success, fail
        attempts INTEGER NOT NULL,
        failures INTEGER NOT NULL,           -- failed attempts; the others were interrupted
        started INTEGER NOT NULL,            -- last attempt, in Unix microseconds
        finished INTEGER NOT NULL,           -- Unix microseconds; 0 while it runs
        next_try INTEGER,                    -- Unix microseconds
        sha256 TEXT,                         -- of the object; with the columns below, the manifest
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
    -- Stage aliases. Names without a row refer to built-in stages.
    CREATE TABLE stage (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL,                  -- encoder, compressor, …
        pinned INTEGER NOT NULL,
        current INTEGER                      -- stage_event.id of the event that set the current version
    ) STRICT, WITHOUT ROWID;

    -- Versions of stages. The component of each digest is a file of the data directory.
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

    -- Changes of stages. They outlive the alias: the greatest id is the revision that a plan is based on.
    CREATE TABLE stage_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        action TEXT NOT NULL,                -- add, swap, rollback, pin, unpin, remove
        version TEXT NOT NULL,
        digest TEXT,                         -- NULL: the built-in stage
        at INTEGER NOT NULL,                 -- Unix microseconds
        who TEXT NOT NULL,
        before INTEGER                       -- stage_event.id of the version that a rollback restores
    ) STRICT;
    CREATE INDEX stage_event_name ON stage_event (name);

    ALTER TABLE task ADD COLUMN stage TEXT;  -- digest of the stage in which the last attempt failed
    CREATE INDEX task_stage ON task (stage) WHERE stage IS NOT NULL;
", "
    ALTER TABLE task ADD COLUMN objects TEXT;  -- JSON: all objects, if their keys depend on the logs
", "
    -- Clients that identify their puts. Without a reference to the logstore: rows of deleted logstores expire too.
    CREATE TABLE IF NOT EXISTS put_client (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,                   -- id of the access key
        logstore INTEGER NOT NULL,
        name TEXT NOT NULL,
        ids INTEGER NOT NULL,                -- number of rows of put_id
        dropped INTEGER NOT NULL,            -- greatest sequence that was dropped from put_id; -1: none
        used INTEGER NOT NULL,               -- last put
        UNIQUE (key, logstore, name)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS put_client_used ON put_client (key, used);

    CREATE TABLE IF NOT EXISTS put_id (
        client INTEGER NOT NULL,             -- put_client.id
        sequence INTEGER NOT NULL,
        digest BLOB NOT NULL,                -- of the request
        position INTEGER NOT NULL,           -- of its first log group
        stored INTEGER NOT NULL,
        PRIMARY KEY (client, sequence)
    ) STRICT, WITHOUT ROWID;
", "
    -- Digests of 32 bytes. NULL: the log group was stored before checksums, and is not in the chain of its shard.
    ALTER TABLE log_group ADD COLUMN checksum BLOB;
    ALTER TABLE log_group ADD COLUMN head BLOB;  -- head of the chain after the log group

    -- The chain of a shard. A shard without a row has no log groups in its chain.
    CREATE TABLE chain (
        shard INTEGER PRIMARY KEY REFERENCES shard (id) ON DELETE CASCADE,
        start INTEGER NOT NULL,              -- cursor of the oldest stored log group in the chain
        base BLOB NOT NULL,                  -- head before that log group
        next INTEGER NOT NULL,               -- cursor of the next log group
        head BLOB NOT NULL                   -- head before the next log group
    ) STRICT;

    ALTER TABLE task ADD COLUMN head_before BLOB;  -- heads of the chain before and after the range
    ALTER TABLE task ADD COLUMN head_after BLOB;
", "
    -- Generations: the lives of the store. A restored, copied or damaged store begins a new one.
    CREATE TABLE generation (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        token TEXT NOT NULL UNIQUE,          -- random, in hexadecimal
        began INTEGER NOT NULL,              -- Unix microseconds
        reason TEXT NOT NULL,                -- created, restored, copied, rolled-back, replaced
        lost INTEGER NOT NULL                -- acknowledged log groups that are gone
    ) STRICT;

    -- Rules that wait for an operator, because another life of the store may have shipped their logs.
    CREATE TABLE waiting_rule (
        rule INTEGER PRIMARY KEY REFERENCES rule (id) ON DELETE CASCADE
    ) STRICT;

    -- The positions of a shard after its first ones: a generation begins at a position that no other life gave out.
    CREATE TABLE segment (
        shard INTEGER NOT NULL REFERENCES shard (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,           -- cursor of its first log group
        before INTEGER NOT NULL,             -- log groups of the shard before it
        generation INTEGER NOT NULL,
        PRIMARY KEY (shard, position)
    ) STRICT, WITHOUT ROWID;

    -- Sums over removed rows.
    CREATE TABLE counter (
        name TEXT PRIMARY KEY,               -- removed-groups, highest-position
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE task ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
    -- 1: a backup has the task. Logs that do not fit become a task with a predictable id, in the backup and here.
    ALTER TABLE task ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
", "
    -- Values that the audit log needs to keep.
    CREATE TABLE IF NOT EXISTS audit_state (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO audit_state VALUES ('digest-key', hex(randomblob(32)));
", "
    -- Deleted logstores and projects that can still be restored. Their rows have a name that no client can choose.
    CREATE TABLE IF NOT EXISTS deleted_logstore (
        logstore INTEGER PRIMARY KEY REFERENCES logstore (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS deleted_project (
        project INTEGER PRIMARY KEY REFERENCES project (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT;

    -- The rules of deleted logstores, which ship nothing.
    CREATE VIEW IF NOT EXISTS resting_rule AS
        SELECT rule.id FROM rule JOIN logstore ON logstore.id = rule.logstore
        WHERE logstore.id IN (SELECT logstore FROM deleted_logstore)
            OR logstore.project IN (SELECT project FROM deleted_project);
", "
    ALTER TABLE task ADD COLUMN lost TEXT;  -- JSON: values of the logs that are not in the objects, by column
", "
    -- Logstores whose logs do not expire and that can't be deleted.
    CREATE TABLE IF NOT EXISTS legal_hold (
        logstore INTEGER PRIMARY KEY REFERENCES logstore (id) ON DELETE CASCADE,
        reason TEXT NOT NULL,
        placed INTEGER NOT NULL
    ) STRICT;
", "
    ALTER TABLE consumer_group ADD COLUMN creator TEXT;  -- ID of the access key; NULL for groups of older versions
", "
    -- Connections that jobs and rules of a project name.
    CREATE TABLE IF NOT EXISTS data_source (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        content TEXT NOT NULL,               -- JSON, with secrets
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT, WITHOUT ROWID;
", "
    -- Jobs that write the rows of a time range to a table.
    CREATE TABLE IF NOT EXISTS job (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        configuration TEXT NOT NULL,         -- JSON
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        next INTEGER,                        -- next scheduled time; NULL: to be computed from now on, or no schedule
        skipped INTEGER NOT NULL DEFAULT 0,  -- missed runs that were too many to catch up
        waits INTEGER NOT NULL DEFAULT 0,    -- 1: another life of the store may have run it
        UNIQUE (project, name)
    ) STRICT;

    -- Runs of jobs. The plan is everything that decides the rows, and is final once it is set.
    CREATE TABLE IF NOT EXISTS run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
        scheduled INTEGER NOT NULL,
        trigger TEXT NOT NULL,               -- schedule, manual, backfill, rerun
        state TEXT NOT NULL,                 -- waiting, running, success, failed, stopped, unclear
        parameters TEXT NOT NULL,            -- JSON: values that override the job's
        plan TEXT,                           -- JSON
        session TEXT,                        -- id of the upload session
        committing INTEGER NOT NULL DEFAULT 0,  -- 1: the commit of the session may have been sent
        progress TEXT,                       -- JSON: the blocks of each shard that the session has
        attempts INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL,            -- Unix microseconds, like the times below
        started INTEGER NOT NULL DEFAULT 0,
        finished INTEGER NOT NULL DEFAULT 0,
        next_try INTEGER,
        code TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX IF NOT EXISTS run_job ON run (job, id);
    CREATE INDEX IF NOT EXISTS run_active ON run (job) WHERE state IN ('waiting', 'running');
    CREATE UNIQUE INDEX IF NOT EXISTS run_scheduled ON run (job, scheduled) WHERE trigger = 'schedule';
", "
    ALTER TABLE task ADD COLUMN sessions TEXT;  -- JSON: upload sessions of the rows of a task
", "
    -- Dead letters that are being resent as rows.
    CREATE TABLE IF NOT EXISTS resend (
        letters TEXT PRIMARY KEY,            -- key of the object of dead letters
        state TEXT NOT NULL                  -- JSON: upload sessions, and the letters of each
    ) STRICT;
", "
    -- Logs that jobs have not read yet.
    CREATE TABLE IF NOT EXISTS job_unread (
        job INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
        project TEXT NOT NULL,               -- of the Logstore that the job reads
        logstore TEXT NOT NULL,
        since INTEGER NOT NULL               -- receipt of the first unread log, in Unix seconds
    ) STRICT;
"];

/// The page size, in bytes. A commit writes whole pages, and small puts touch one page per shard: with 16 KiB pages
/// small puts are a third slower, and large puts a tenth faster.
const PAGE_SIZE: u32 = 4 << 10;

/// The size of the write-ahead log that triggers a checkpoint, in bytes. It bounds the pause that a checkpoint causes.
pub(crate) const WAL_CHECKPOINT_BYTES: u32 = 32 << 20;

/// Opens the database for the writer: creates or migrates it if necessary.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (tables > 0 && application != APPLICATION) || version > MIGRATIONS.len() {
        return Err(StoreError::UnsupportedFile { path: path.to_owned(), version, known: MIGRATIONS.len() });
    }
    if tables == 0 {
        // SQLite ignores both after the first table exists.
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "journal_size_limit", 2 * WAL_CHECKPOINT_BYTES)?;
    connection.pragma_update(None, "cache_size", -(16 << 10))?;
    if tables > 0 && version < MIGRATIONS.len() {
        keep_copy(&connection, path, version)?;
    }
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

/// Opens an existing database for reading, without a store. Another process may use it.
pub(crate) fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    if let Err(source) = std::fs::metadata(path) {
        return Err(StoreError::File { path: path.to_owned(), source });
    }
    let connection = open_reader(path)?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    let known = MIGRATIONS.len();
    match version.cmp(&known) {
        Ordering::Less => Err(StoreError::OldFile { path: path.to_owned(), version, known }),
        Ordering::Equal => Ok(connection),
        Ordering::Greater => Err(StoreError::UnsupportedFile { path: path.to_owned(), version, known }),
    }
}

/// Opens the database for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "cache_size", -(2 << 10))?;
    Ok(connection)
}

-- The database of the first version, with logs.
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

PRAGMA application_id = 0x6c677368;
PRAGMA user_version = 1;

INSERT INTO project VALUES (1, 'p', '', 1700000000, 1700000000);
INSERT INTO logstore VALUES (1, 1, 'l', 30, 'null', 1700000000, 1700000000);
INSERT INTO shard VALUES (1, 1, 0, 1, '00000000000000000000000000000000', 'ffffffffffffffffffffffffffffffff', '[]',
    1700000000, 1700000000000000, 1700000000000100);
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 99)
    INSERT INTO log_group SELECT (1 << 40) + n, 1700000000, 1700000000, 1, 1000, zeroblob(1000) FROM number;

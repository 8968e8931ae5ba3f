//! Checks stored log groups when they are read.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Rows};

use super::Store;
use crate::damage::{Damage, Flaw};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Catalog, GroupColumns, Shard, StoredGroup};

/// The columns that [`checked_group`] reads.
pub(super) const GROUP_COLUMNS: &str = "id, received, newest, logs, size, body, checksum";

/// Reads a log group and checks it against its checksum. Returns its checksum too; `None` if it was stored before
/// checksums, in front of `chain_start`.
pub(super) fn checked_group<'a>(
    row: &'a Row<'_>,
    shard: &Shard,
    chain_start: u64,
) -> Result<(StoredGroup<'a>, Option<Digest>), Damage> {
    let position = shard.position(row.get(0).unwrap_or_default());
    let damage = |flaw| Damage { shard: shard.number, position, flaw };
    let group = stored_group(row, position).map_err(|error| damage(unreadable(position, &error)))?;
    let Ok(stored) = row.get::<_, Option<Digest>>(6) else { return Err(damage(Flaw::NoChecksum)) };
    match stored {
        None if position < chain_start => Ok((group, None)),
        None => Err(damage(Flaw::NoChecksum)),
        Some(stored) => {
            let StoredGroup { received, newest, logs, size, body, .. } = group;
            let columns = GroupColumns { position, received, newest, logs, size };
            let computed = columns.checksum(shard, &Digest::of(body));
            if computed == stored {
                return Ok((group, Some(stored)));
            }
            Err(damage(Flaw::Checksum { stored, computed }))
        }
    }
}

/// Returns the flaw of a log group that the database can't read.
pub(super) fn unreadable(position: u64, error: &rusqlite::Error) -> Flaw {
    Flaw::Unreadable { to: position + 1, reason: error.to_string() }
}

fn stored_group<'a>(row: &'a Row<'_>, position: u64) -> Result<StoredGroup<'a>, rusqlite::Error> {
    Ok(StoredGroup {
        position,
        received: row.get(1)?,
        newest: row.get(2)?,
        logs: row.get(3)?,
        size: row.get(4)?,
        body: row.get_ref(5)?.as_blob()?,
    })
}

/// The next log group that a reader expects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) shard: &'a Shard,
    /// The position of the group.
    pub(super) position: u64,
    /// The end of the range to read.
    pub(super) end: u64,
    /// The start of the shard's chain.
    pub(super) chain_start: u64,
}

/// Returns the next log group of the range, checked; `None` at its end. It is a later group if retention deleted the
/// expected one.
pub(super) fn next_group<'a>(
    connection: &Connection,
    rows: &'a mut Rows<'_>,
    expected: Expected<'_>,
) -> Result<Option<StoredGroup<'a>>, StoreError> {
    let Expected { shard, position, end, chain_start } = expected;
    let damage = |flaw| StoreError::Damaged(Damage { shard: shard.number, position, flaw });
    let row = rows.next().map_err(|error| match is_damage(&error) {
        true => damage(unreadable(position, &error)),
        false => error.into(),
    })?;
    let found = row.map_or(Ok(end), |row| row.get(0).map(|id| shard.position(id)))?;
    if found > shard.resolve(position) && !is_deleted(connection, shard, found)? {
        return Err(damage(Flaw::Missing { to: found }));
    }
    let Some(row) = row else { return Ok(None) };
    checked_group(row, shard, chain_start).map(|(group, _)| Some(group)).map_err(StoreError::Damaged)
}

/// Returns true if the error shows that the database file is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let codes = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Returns true if retention deleted the log groups in front of `position`.
pub(super) fn is_deleted(connection: &Connection, shard: &Shard, position: u64) -> Result<bool, StoreError> {
    let next = connection
        .prepare_cached("SELECT next FROM shard WHERE id = ?1")?
        .query_row([shard.id], |row| row.get::<_, u64>(0))
        .optional()?;
    Ok(next.is_none_or(|next| next >= position))
}

impl Store {
    /// Logs and counts damage that a reader found. Returns the same error.
    pub(super) fn report_damage(&self, shard: &Shard, error: StoreError) -> StoreError {
        if let StoreError::Damaged(damage) = &error {
            report(&self.catalog(), shard, damage);
        }
        error
    }
}

/// Logs and counts damage.
pub(super) fn report(catalog: &Catalog, shard: &Shard, damage: &Damage) {
    let owner =
        catalog.kept_logstores().find(|logstore| logstore.shards.iter().any(|each| each.id == shard.id));
    let (project, logstore) =
        owner.map_or(("", ""), |logstore| (logstore.project.as_str(), logstore.name.as_str()));
    tracing::error!(project, logstore, %damage, "stored logs are damaged: run `logship verify --store`");
    let labels = [
        ("project", project.to_owned()),
        ("logstore", logstore.to_owned()),
        ("shard", shard.number.to_string()),
    ];
    metrics::counter!("logship_damaged_groups_total", &labels).increment(1);
}

/// Reports each shard whose log groups do not fill the recorded chain: groups were removed, or added, from outside.
pub(super) fn report_chain_ends(connection: &Connection, catalog: &Catalog) -> Result<(), StoreError> {
    for shard in catalog.shards() {
        if let Some(damage) = super::verify::chain_ends(connection, shard)? {
            report(catalog, shard, &damage);
        }
    }
    Ok(())
}

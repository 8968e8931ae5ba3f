//! Reads the segments of shards: the runs of consecutive positions.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::error::StoreError;
use crate::model::Segments;

/// Returns the positions of a shard.
pub(super) fn segments_of(connection: &Connection, shard: i64, origin: u64) -> Result<Segments, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT before, position FROM segment WHERE shard = ?1 ORDER BY position")?;
    let mut rows = select.query([shard])?;
    let mut segments = Segments::from_origin(origin);
    while let Some(row) = rows.next()? {
        segments.push(row.get(0)?, row.get(1)?);
    }
    Ok(segments)
}

/// Returns the segments of a shard: the first one begins at `origin`, the `later` ones are of [`read_segments`].
pub(super) fn segments_from(origin: u64, later: Option<Vec<(u64, u64)>>) -> Segments {
    let mut segments = Segments::from_origin(origin);
    later.into_iter().flatten().for_each(|(before, position)| segments.push(before, position));
    segments
}

/// Reads the later positions of shards: the number of log groups before each run, and its first position.
pub(super) fn read_segments(connection: &Connection) -> Result<HashMap<i64, Vec<(u64, u64)>>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT shard, before, position FROM segment ORDER BY position")?;
    let mut rows = select.query([])?;
    let mut segments: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
    while let Some(row) = rows.next()? {
        segments.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
    }
    Ok(segments)
}

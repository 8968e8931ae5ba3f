//! Logs on their way to a receiver.

use std::fmt;

use logship_sls::log_group::{Malformed, groups};
use serde::{Deserialize, Serialize};

use crate::batch::{BatchBuilder, LogBatch};
use crate::source::CHUNK;

/// Where a log stands in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// A cursor before it, as a number.
    pub cursor: u64,
    /// Log groups behind the cursor before its own.
    pub group: u32,
    /// Logs of its log group before it.
    pub log: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}.{}", self.cursor, self.group, self.log)
    }
}

/// A part of a load that a stage takes at once.
#[derive(Debug)]
pub struct Chunk {
    /// The logs.
    pub batch: LogBatch,
    /// Where each of their log groups begins, and how many logs it has.
    pub groups: Vec<(Position, u32)>,
}

impl Chunk {
    /// Where its log number `log` stands.
    pub fn position(&self, log: usize) -> Position {
        let mut left = log;
        for (begin, logs) in &self.groups {
            if left < *logs as usize {
                return Position { log: begin.log + left as u32, ..*begin };
            }
            left -= *logs as usize;
        }
        self.groups.last().map_or(Position { cursor: 0, group: 0, log: 0 }, |(last, _)| *last)
    }
}

/// The log groups of a pull as chunks. `cursor` is where they were pulled from.
///
/// # Errors
/// When they are no log groups.
pub fn chunks(list: &[u8], cursor: u64) -> Result<Vec<Chunk>, Malformed> {
    let (mut chunks, mut builder, mut found, mut bytes) = (vec![], BatchBuilder::default(), vec![], 0);
    for (number, group) in groups(list).enumerate() {
        let group = group?;
        if bytes + group.len() > CHUNK && bytes > 0 {
            chunks.push(Chunk { batch: builder.take(), groups: std::mem::take(&mut found) });
            bytes = 0;
        }
        let before = builder.len();
        builder.log_group(group)?;
        let begin = Position { cursor, group: number as u32, log: 0 };
        found.push((begin, (builder.len() - before) as u32));
        bytes += group.len();
    }
    if !found.is_empty() {
        chunks.push(Chunk { batch: builder.take(), groups: found });
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_the_positions_that_they_stand_at() {
        let at = |group| Position { cursor: 7, group, log: 0 };
        let chunk = Chunk {
            batch: BatchBuilder::default().take(),
            groups: vec![(at(3), 2), (at(4), 0), (Position { log: 5, ..at(5) }, 3)],
        };
        let shown = |log| chunk.position(log).to_string();
        assert_eq!([shown(0), shown(1), shown(2), shown(4)], ["7+3.0", "7+3.1", "7+5.5", "7+5.7"]);
    }
}

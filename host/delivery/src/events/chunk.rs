//! Chunks of logs with their positions in a shard.

use logship_sls::log_group::{Malformed, groups};

use crate::dead_letter::Position;
use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_source::shard_reader::CHUNK_BYTES;

/// A part of a batch that a stage processes in one call.
#[derive(Debug)]
pub struct Chunk {
    /// The logs.
    pub batch: LogBatch,
    /// Start position and number of logs of each log group.
    pub groups: Vec<(Position, u32)>,
}

impl Chunk {
    /// The position of the log with index `log`.
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

/// Splits the log groups of a pull into chunks. `cursor` is the start of the pull.
///
/// # Errors
/// When `list` is not a list of log groups.
pub fn chunks(list: &[u8], cursor: u64) -> Result<Vec<Chunk>, Malformed> {
    let (mut chunks, mut builder, mut found, mut bytes) = (vec![], BatchBuilder::default(), vec![], 0);
    for (number, group) in groups(list).enumerate() {
        let group = group?;
        if bytes + group.len() > CHUNK_BYTES && bytes > 0 {
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
    fn position_counts_across_groups() {
        let at = |group| Position { cursor: 7, group, log: 0 };
        let chunk = Chunk {
            batch: BatchBuilder::default().take(),
            groups: vec![(at(3), 2), (at(4), 0), (Position { log: 5, ..at(5) }, 3)],
        };
        let shown = |log| chunk.position(log).to_string();
        assert_eq!([shown(0), shown(1), shown(2), shown(4)], ["7+3.0", "7+3.1", "7+5.5", "7+5.7"]);
    }
}

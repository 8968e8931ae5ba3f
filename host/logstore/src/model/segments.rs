//! The positions of a shard, over the generations of the store.

/// The positions of a shard: runs of consecutive numbers, one for each generation of the store that wrote to the shard.
///
/// The numbers between two runs were never given out by this store. The earlier life of a restored store may have given
/// them out, so a cursor among them belongs to logs that this store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segments(Vec<Segment>);

/// A run of consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// The number of log groups before it, ever stored in the shard.
    before: u64,
    /// The position of its first log group.
    position: u64,
}

/// The positions between two runs, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The end of the earlier run: one past its last log group.
    pub(crate) end: u64,
    /// The first position of the later run.
    pub(crate) next: u64,
}

impl Segments {
    /// Returns the positions of a shard of one generation.
    pub(crate) fn from_origin(origin: u64) -> Self {
        Self(vec![Segment { before: 0, position: origin }])
    }

    /// Adds the next run. It begins after `before` log groups.
    pub(crate) fn push(&mut self, before: u64, position: u64) {
        self.0.push(Segment { before, position });
    }

    /// Returns the first position.
    pub(crate) fn origin(&self) -> u64 {
        self.0[0].position
    }

    /// Returns the number of log groups before the last run. `None` if there is only one run.
    pub(crate) fn last_begin(&self) -> Option<u64> {
        self.0.get(1..)?.last().map(|segment| segment.before)
    }

    /// Returns the number of log groups before a position.
    pub(crate) fn groups_before(&self, position: u64) -> u64 {
        let next = self.0.partition_point(|segment| segment.position <= position);
        let Some(segment) = next.checked_sub(1).and_then(|index| self.0.get(index)) else { return 0 };
        let groups = segment.before.saturating_add(position - segment.position);
        self.0.get(next).map_or(groups, |next| groups.min(next.before))
    }

    /// Returns the position of the log group behind `before` other ones.
    pub(crate) fn position(&self, before: u64) -> u64 {
        let next = self.0.partition_point(|segment| segment.before <= before);
        let segment = self.0[next.saturating_sub(1)];
        segment.position.saturating_add(before.saturating_sub(segment.before))
    }

    /// Returns the gap that has this position.
    pub(crate) fn gap(&self, position: u64) -> Option<Gap> {
        let index = self.0.partition_point(|segment| segment.position <= position);
        let (segment, next) = (self.0.get(index.checked_sub(1)?)?, self.0.get(index)?);
        let end = segment.position + (next.before - segment.before);
        (position > end).then_some(Gap { end, next: next.position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three groups from 100 on, none from 500 on, and the rest from 900 on.
    fn segments() -> Segments {
        let mut segments = Segments::from_origin(100);
        segments.push(3, 500);
        segments.push(3, 900);
        segments
    }

    #[test]
    fn positions_of_groups_are_unique_and_increase() {
        let positions: Vec<u64> = (0..5).map(|before| segments().position(before)).collect();
        assert_eq!(positions, [100, 101, 102, 900, 901]);
        for (before, position) in positions.into_iter().enumerate() {
            assert_eq!(segments().groups_before(position), before as u64);
        }
    }

    #[test]
    fn positions_between_runs_belong_to_another_life() {
        let is_gap = |position| segments().gap(position).is_some();
        for position in [0, 99, 100, 102, 103, 500, 900, 901, u64::MAX] {
            assert!(!is_gap(position), "{position}");
        }
        for position in [104, 499, 501, 899] {
            assert!(is_gap(position), "{position}");
            assert_eq!(segments().groups_before(position), 3);
        }
        assert_eq!(segments().gap(104), Some(Gap { end: 103, next: 500 }));
    }

    #[test]
    fn ends_of_runs_lead_to_the_next_group() {
        for end in [103, 500, 900] {
            assert_eq!(segments().position(segments().groups_before(end)), 900);
        }
        assert_eq!(segments().groups_before(7), 0, "positions before the first one");
    }
}

use std::ops::Range;

use crate::{Batch, BatchWriter};

/// The fields of a batch whose key a later field of the same log repeats. Formats with one value for each key leave
/// them out: the last value counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeats(Vec<u32>);

impl Repeats {
    /// Finds the repeated fields of a batch. Returns `None` if no log repeats a key, which is the usual case.
    ///
    /// ```
    /// use logship_stage::{BatchBuilder, Repeats};
    ///
    /// let batch = BatchBuilder::new().log(1, &[("a", "1"), ("b", "2"), ("a", "3")]).build();
    /// assert_eq!(Repeats::of(&batch).unwrap().fields(), [0], "the first `a`");
    /// ```
    pub fn of(batch: &Batch) -> Option<Self> {
        let raw = batch.raw();
        let (mut begin, mut last, mut found) = (0, [].as_slice(), vec![]);
        // Similar logs have the same keys in the same order, so most logs cost one comparison.
        let mut scan = Scan::default();
        for &end in &raw.field_ends {
            let keys = &raw.field_keys[begin..end as usize];
            if keys != last {
                scan.of(keys, raw.keys.len());
                last = keys;
            }
            found.extend(scan.repeated.iter().map(|at| begin as u32 + at));
            begin = end as usize;
        }
        (!found.is_empty()).then_some(Self(found))
    }

    /// Returns the indices of the fields among the batch's fields, sorted.
    pub fn fields(&self) -> &[u32] {
        &self.0
    }

    /// Returns true if one of the fields is repeated.
    pub fn overlap(&self, fields: &Range<usize>) -> bool {
        let first = self.0.partition_point(|&repeated| (repeated as usize) < fields.start);
        self.0.get(first).is_some_and(|&repeated| (repeated as usize) < fields.end)
    }

    /// Returns the batch without the repeated fields: each key of a log has its last value.
    #[cold]
    pub fn removed_from(&self, batch: &Batch) -> Batch {
        let mut writer = BatchWriter::of(batch);
        let mut repeated = self.0.iter().map(|&field| field as usize).peekable();
        for log in batch.groups().flat_map(|group| group.logs()) {
            let mut kept = log.span().0;
            while let Some(field) = repeated.next_if(|&field| field < kept.end) {
                writer.copy_fields(kept.start..field);
                kept.start = field + 1;
            }
            writer.copy_fields(kept);
            writer.end_log(&log);
        }
        Batch::unchecked(writer.finish().batch)
    }
}

/// Finds the repeated keys of one log.
#[derive(Debug, Default)]
struct Scan {
    /// For each key of the batch, the number of the last scan that saw it.
    seen: Vec<u32>,
    number: u32,
    /// The places of the repeated keys in the log.
    repeated: Vec<u32>,
}

impl Scan {
    fn of(&mut self, keys: &[u32], all: usize) {
        self.repeated.clear();
        if keys.is_sorted_by(|one, next| one < next) {
            return;
        }
        self.seen.resize(all, 0);
        self.number += 1;
        for (at, &key) in keys.iter().enumerate().rev() {
            if std::mem::replace(&mut self.seen[key as usize], self.number) == self.number {
                self.repeated.push(at as u32);
            }
        }
        self.repeated.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    #[test]
    fn logs_without_repeated_keys_have_none() {
        let batch = BatchBuilder::new()
            .log(1, &[("a", "1"), ("b", "2")])
            .log(2, &[("b", "1"), ("a", "2")])
            .log(3, &[])
            .build();
        assert_eq!(Repeats::of(&batch), None);
    }

    /// Checks every sequence of up to five fields with three keys, each after a log with other keys.
    #[test]
    fn finds_all_but_the_last_field_of_each_key() {
        for number in 0..4_u32.pow(5) {
            // The digit 3 is no field.
            let digits = (0..5).map(|place| number / 4_u32.pow(place) % 4);
            let keys: Vec<_> =
                digits.filter_map(|digit| ["a", "b", "c"].get(digit as usize).copied()).collect();
            let fields: Vec<_> = keys.iter().map(|key| (*key, "v")).collect();
            let batch = BatchBuilder::new().log(1, &[("c", "v"), ("d", "v")]).log(2, &fields).build();
            let expected: Vec<_> = (0..keys.len())
                .filter(|&at| keys[at + 1..].contains(&keys[at]))
                .map(|at| at as u32 + 2)
                .collect();
            let found = Repeats::of(&batch);
            assert_eq!(found.as_ref().map(Repeats::fields).unwrap_or_default(), expected, "{keys:?}");
            let Some(repeats) = found else { continue };
            assert_eq!((repeats.overlap(&(0..2)), repeats.overlap(&(2..2 + keys.len()))), (false, true));
            let distinct = repeats.removed_from(&batch);
            assert_eq!(Repeats::of(&distinct), None);
            assert_eq!(
                (distinct.len(), distinct.raw().field_keys.len()),
                (2, 2 + keys.len() - expected.len())
            );
        }
    }
}

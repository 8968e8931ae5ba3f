use std::collections::{BTreeSet, HashSet};

use logship_batch::batch::LogBatch;
use logship_batch::reserved::FIELD_PREFIX;
use logship_logstore::{LostColumn, LostValues};

/// The values of fields and tags that have no column, because columns were inferred before they occurred.
#[derive(Debug, Default)]
pub(crate) struct Omitted {
    /// The keys, complete.
    pub(crate) keys: BTreeSet<String>,
    /// The values.
    pub(crate) values: LostValues,
}

/// The longest example, in characters.
const MAX_EXAMPLE: usize = 80;

impl Omitted {
    /// Finds the values of a batch without a column.
    pub(crate) fn of<'b>(batches: impl Iterator<Item = &'b LogBatch>, columns: &HashSet<String>) -> Self {
        let mut omitted = Self::default();
        batches.for_each(|batch| {
            omitted.add_fields(batch, columns);
            omitted.add_tags(batch, columns);
        });
        omitted
    }

    fn add_fields(&mut self, batch: &LogBatch, columns: &HashSet<String>) {
        let unknown: Vec<Option<&str>> = batch
            .keys
            .iter()
            .map(|key| Some(column_of(key)).filter(|column| !columns.contains(*column)))
            .collect();
        if unknown.iter().all(Option::is_none) {
            return;
        }
        let mut found: Vec<Option<(u64, String)>> = vec![None; unknown.len()];
        let mut begin = 0;
        for (&key, &end) in batch.field_keys.iter().zip(&batch.value_ends) {
            if unknown[key as usize].is_some() {
                let value = &batch.values[begin..end as usize];
                found[key as usize].get_or_insert_with(|| (0, example(value))).0 += 1;
            }
            begin = end as usize;
        }
        for (key, found) in unknown.into_iter().zip(found) {
            if let (Some(key), Some((count, example))) = (key, found) {
                self.add(key.to_owned(), count, example);
            }
        }
    }

    fn add_tags(&mut self, batch: &LogBatch, columns: &HashSet<String>) {
        let mut logs = vec![0; batch.groups.len()];
        batch.log_groups.iter().for_each(|&group| logs[group as usize] += 1);
        for (group, &logs) in batch.groups.iter().zip(&logs) {
            for tag in &group.tags {
                let column = format!("__tag__:{}", tag.key);
                if logs > 0 && !columns.contains(&column) {
                    self.add(column, logs, example(tag.value.as_bytes()));
                }
            }
        }
    }

    fn add(&mut self, column: String, count: u64, example: String) {
        let reason = "is of a field that the first lines lack".into();
        self.values.add(column.clone(), LostColumn { count, example, reason });
        self.keys.insert(column);
    }
}

/// Returns the column of a field.
fn column_of(key: &str) -> &str {
    if key.is_empty() { FIELD_PREFIX } else { key }
}

fn example(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(4 * MAX_EXAMPLE)]).chars().take(MAX_EXAMPLE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use logship_batch::batch::{BatchBuilder, LogGroup, Tag};

    #[test]
    fn counts_values_without_a_column() {
        let mut builder = BatchBuilder::default();
        let tags = vec![Tag { key: "host".into(), value: "web-1".into() }];
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags });
        for value in ["1", "2"] {
            for key in ["known", "", "new"] {
                builder.field(key, value.as_bytes());
            }
            builder.end_log(group, 1, 0);
        }
        let batch = builder.take();
        let columns = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let omitted = Omitted::of([&batch].into_iter(), &columns(&["known"]));
        let found: Vec<_> =
            omitted.values.columns.iter().map(|(key, lost)| (&**key, lost.count, &*lost.example)).collect();
        assert_eq!(found, [("__field__:", 2, "1"), ("__tag__:host", 2, "web-1"), ("new", 2, "1")]);
        assert_eq!(omitted.keys.len(), 3);
        let all =
            Omitted::of([&batch].into_iter(), &columns(&["known", "new", "__field__:", "__tag__:host"]));
        assert!(all.values.is_empty() && all.keys.is_empty());
    }
}

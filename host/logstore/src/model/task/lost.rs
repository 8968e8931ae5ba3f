use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The values of logs that are not in the objects made of them, by column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostValues {
    /// The number of lost values.
    pub total: u64,
    /// The lost values of each column or field, of 100 columns at most.
    pub columns: BTreeMap<String, LostColumn>,
}

/// The lost values of a column, or of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostColumn {
    /// The number of values.
    pub count: u64,
    /// The first value, or its beginning.
    pub example: String,
    /// The reason, as the end of a sentence about the value: `is not an int64`.
    pub reason: String,
}

/// The largest number of columns that are counted apart. Values of further columns count only in the total.
const MAX_COLUMNS: usize = 100;

impl LostValues {
    /// Adds the lost values of a column.
    pub fn add(&mut self, column: String, lost: LostColumn) {
        self.total = self.total.saturating_add(lost.count);
        if let Some(known) = self.columns.get_mut(&column) {
            known.count = known.count.saturating_add(lost.count);
        } else if self.columns.len() < MAX_COLUMNS {
            self.columns.insert(column, lost);
        }
    }

    /// Adds all of another object or task.
    pub fn merge(&mut self, other: Self) {
        let counted = other.columns.values().fold(0_u64, |sum, column| sum.saturating_add(column.count));
        self.total = self.total.saturating_add(other.total.saturating_sub(counted));
        other.columns.into_iter().for_each(|(column, lost)| self.add(column, lost));
    }

    /// Returns true if no value was lost.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// Names the first columns, each with an example.
impl fmt::Display for LostValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (index, (column, LostColumn { count, example, reason })) in
            self.columns.iter().take(SHOWN).enumerate()
        {
            f.write_str(if index > 0 { "; " } else { "" })?;
            write!(
                f,
                "{column}: {example:?} {reason} ({count} value{})",
                if *count == 1 { "" } else { "s" }
            )?;
        }
        if self.columns.len() > SHOWN {
            write!(f, "; and {} more columns", self.columns.len() - SHOWN)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(count: u64) -> LostColumn {
        LostColumn { count, example: "x".into(), reason: "is not an int64".into() }
    }

    #[test]
    fn counts_by_column_and_bounds_the_columns() {
        let mut all = LostValues::default();
        for column in 0..MAX_COLUMNS + 50 {
            all.add(format!("c{column:03}"), lost(2));
        }
        all.add("c000".into(), lost(1));
        assert_eq!((all.total, all.columns.len(), all.columns["c000"].count), (301, MAX_COLUMNS, 3));
        let mut twice = all.clone();
        twice.merge(all);
        assert_eq!((twice.total, twice.columns.len(), twice.columns["c000"].count), (602, MAX_COLUMNS, 6));
        let text = twice.to_string();
        assert!(text.starts_with(r#"c000: "x" is not an int64 (6 values); c001: "#), "{text}");
        assert!(text.ends_with("; and 97 more columns"), "{text}");
    }
}

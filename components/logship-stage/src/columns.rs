//! Columns of a table format: maps each log's values to columns.

use std::collections::HashMap;

use crate::{Batch, Error, FIELD_PREFIX, Group, Log, Losses, Repeats, Result};

/// The source of a column's values, derived from the column's key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Time,
    NanosPart,
    Topic,
    Source,
    Tag(String),
    Field,
}

impl Origin {
    fn of(key: &str) -> Self {
        match key {
            "__time__" => Self::Time,
            "__time_ns_part__" => Self::NanosPart,
            "__topic__" => Self::Topic,
            "__source__" => Self::Source,
            _ => key.strip_prefix("__tag__:").map_or(Self::Field, |tag| Self::Tag(tag.to_owned())),
        }
    }
}

/// A log's value in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The log does not have the key.
    Missing,
    /// `__time__` (Unix seconds) or `__time_ns_part__` (nanoseconds in the second).
    Number(u32),
    /// A value: usually text, but any bytes are possible.
    Bytes(&'a [u8]),
}

/// The configured columns of a table format.
///
/// `__time__`, `__time_ns_part__`, `__topic__`, `__source__` and `__tag__:KEY` are reserved; every other key is the
/// key of a field. `__field__:` is the field with the empty key, and `__field__:KEY` a field with a reserved key. If a
/// log repeats a key, the last value counts, as in the JSON objects of `encode-json`.
#[derive(Debug)]
pub struct Columns {
    origins: Vec<Origin>,
    fields: HashMap<String, usize>,
    tags: HashMap<String, usize>,
}

impl Columns {
    /// Creates the columns with these keys, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if there are no columns, or if a key is empty or repeated.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Result<Self> {
        let mut seen = HashMap::new();
        for (index, key) in keys.into_iter().enumerate() {
            let rejected = |reason: String| Err(Error::config(format!("columns[{index}]"), reason));
            if key.is_empty() {
                return rejected("empty key; name the field of the column".into());
            }
            if let Some(first) = seen.insert(key.to_owned(), index) {
                return rejected(format!("key {key:?} repeats that of columns[{first}]; name each key once"));
            }
        }
        if seen.is_empty() {
            let example = r#"such as {"columns": ["__time__", "status"]}"#;
            return Err(Error::config("columns", format!("no columns; name the keys to ship, {example}")));
        }
        let mut origins = vec![Origin::Field; seen.len()];
        for (key, &index) in &seen {
            origins[index] = Origin::of(key);
        }
        let tag = |(index, origin): (usize, &Origin)| match origin {
            Origin::Tag(key) => Some((key.clone(), index)),
            _ => None,
        };
        let tags = origins.iter().enumerate().filter_map(tag).collect();
        seen.retain(|_, index| origins[*index] == Origin::Field);
        if let Some(index) = seen.remove(FIELD_PREFIX) {
            seen.insert(String::new(), index);
        }
        Ok(Self { origins, fields: seen, tags })
    }

    /// Returns the number of columns.
    #[allow(clippy::len_without_is_empty, reason = "a table has at least one column")]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Calls `row` with each log of the batch and its cells, one per column.
    ///
    /// # Errors
    /// The first error that `row` returns.
    pub fn for_each_row<'a>(
        &self,
        batch: &'a Batch,
        mut row: impl FnMut(&Log<'a>, &[Cell<'a>]) -> Result<()>,
    ) -> Result<()> {
        // Computed once per batch, so that each field costs one table lookup.
        let column_of: Vec<Option<usize>> =
            batch.raw().keys.iter().map(|key| self.fields.get(key).copied()).collect();
        let numbers = self.origins.iter().enumerate().filter_map(|(column, origin)| match origin {
            Origin::Time => Some((column, Number::Time)),
            Origin::NanosPart => Some((column, Number::NanosPart)),
            _ => None,
        });
        let own_cells = OwnCells { column_of, numbers: numbers.collect() };
        let mut shared_by_group = vec![None; batch.raw().groups.len()];
        let mut cells = vec![Cell::Missing; self.len()];
        for group in batch.groups() {
            let shared: &Vec<_> =
                shared_by_group[group.index()].get_or_insert_with(|| self.shared_cells(&group));
            for log in group.logs() {
                cells.copy_from_slice(shared);
                own_cells.fill(&log, &mut cells);
                row(&log, &cells)?;
            }
        }
        Ok(())
    }
}

impl Columns {
    /// Counts the values of columns that have no place: all but the last value of a key that a log repeats.
    pub fn count_repeats(&self, batch: &Batch, losses: &mut Losses) {
        losses.add_repeated_tags(batch, |tag| self.tags.contains_key(tag));
        if let Some(repeats) = Repeats::of(batch) {
            losses.add_repeats(batch, &repeats, |key| self.fields.contains_key(key));
        }
    }

    /// Returns the cells that all logs of the group share. The last of repeated tags counts.
    fn shared_cells<'a>(&self, group: &Group<'a>) -> Vec<Cell<'a>> {
        let cell = |origin: &Origin| match origin {
            Origin::Topic => Cell::Bytes(group.topic().as_bytes()),
            Origin::Source => Cell::Bytes(group.source().as_bytes()),
            Origin::Tag(_) | Origin::Time | Origin::NanosPart | Origin::Field => Cell::Missing,
        };
        let mut cells: Vec<_> = self.origins.iter().map(cell).collect();
        for tag in group.tags() {
            if let Some(&column) = self.tags.get(&tag.key) {
                cells[column] = Cell::Bytes(tag.value.as_bytes());
            }
        }
        cells
    }
}

/// A numeric value of a log.
#[derive(Debug)]
enum Number {
    Time,
    NanosPart,
}

/// The positions in a row of the cells that a log does not share with its group.
#[derive(Debug)]
struct OwnCells {
    /// The column of each key, by key index.
    column_of: Vec<Option<usize>>,
    numbers: Vec<(usize, Number)>,
}

impl OwnCells {
    /// A separate function, small enough for a wasm compiler to keep the loop in registers.
    #[inline(never)]
    fn fill<'a>(&self, log: &Log<'a>, cells: &mut [Cell<'a>]) {
        for (column, number) in &self.numbers {
            cells[*column] = match number {
                Number::Time => Cell::Number(log.time()),
                Number::NanosPart => log.nanos().map_or(Cell::Missing, Cell::Number),
            };
        }
        for field in log.fields() {
            if let Some(column) = self.column_of[field.key_index()] {
                cells[column] = Cell::Bytes(field.value());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    #[test]
    fn fills_reserved_keys_fields_and_missing_cells() {
        let keys = ["b", "__time__", "__topic__", "__source__", "__tag__:host", "__time_ns_part__", "gone"];
        let columns = Columns::new(keys).unwrap();
        let batch = BatchBuilder::new()
            .group("t", "s", &[("host", "first"), ("host", "last")])
            .log(7, &[("a", "x"), ("b", "1"), ("b", "2")])
            .nanos(5)
            .group("", "", &[])
            .log(8, &[])
            .build();
        let mut rows = Vec::new();
        columns
            .for_each_row(&batch, |log, cells| {
                rows.push(format!("{} {cells:?}", log.index()));
                Ok(())
            })
            .unwrap();
        let text = |text: &'static str| Cell::Bytes(text.as_bytes());
        let missing = Cell::Missing;
        let first =
            [text("2"), Cell::Number(7), text("t"), text("s"), text("last"), Cell::Number(5), missing];
        let second = [missing, Cell::Number(8), text(""), text(""), missing, Cell::Number(0), missing];
        assert_eq!(rows, [format!("0 {first:?}"), format!("1 {second:?}")]);
    }

    #[test]
    fn field_prefix_names_empty_and_reserved_keys() {
        let columns = Columns::new(["__field__:", "__field__:__time__", "__time__"]).unwrap();
        let batch = BatchBuilder::new().log(7, &[("", "empty"), ("__time__", "forged")]).build();
        let mut rows = Vec::new();
        columns
            .for_each_row(&batch, |_, cells| {
                rows.push(cells.to_vec());
                Ok(())
            })
            .unwrap();
        assert_eq!(rows, [[Cell::Bytes(b"empty"), Cell::Bytes(b"forged"), Cell::Number(7)]]);
    }

    #[test]
    fn counts_repeated_values_of_columns_only() {
        let columns = Columns::new(["a", "__tag__:host"]).unwrap();
        let batch = BatchBuilder::new()
            .group("", "", &[("host", "first"), ("zone", "x"), ("host", "last"), ("zone", "y")])
            .log(1, &[("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("a", "3")])
            .log(2, &[("a", "4")])
            .build();
        let mut losses = Losses::default();
        columns.count_repeats(&batch, &mut losses);
        let found: Vec<_> =
            losses.take().into_iter().map(|loss| (loss.column, loss.count, loss.example)).collect();
        let loss = |column: &str, count, example: &str| (column.to_owned(), count, example.to_owned());
        assert_eq!(found, [loss("__tag__:host", 2, "first"), loss("a", 2, "1")]);
    }

    #[test]
    fn rejects_invalid_columns_with_their_index() {
        let rejected = |keys: &[&str]| Columns::new(keys.iter().copied()).unwrap_err().to_string();
        assert!(rejected(&[]).starts_with("columns: no columns"));
        assert!(rejected(&["a", ""]).starts_with("columns[1]: empty key"));
        assert!(rejected(&["a", "b", "a"]).starts_with("columns[2]: key \"a\" repeats that of columns[0]"));
    }
}

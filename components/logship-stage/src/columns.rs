//! Columns of a table format: which value of a log stands in which column.

use std::collections::HashMap;

use crate::{Batch, Error, Group, Log, Result};

/// Where a column's values come from, found from its key.
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

/// What a log has in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The log has no such key.
    Missing,
    /// `__time__` (Unix seconds) or `__time_ns_part__` (nanoseconds in the second).
    Number(u32),
    /// A value; text as a rule, but any bytes may come.
    Bytes(&'a [u8]),
}

/// The columns that a table format was configured with.
///
/// `__time__`, `__time_ns_part__`, `__topic__`, `__source__` and `__tag__:KEY` are reserved, every
/// other key is a field's. Where a log has a key twice the last value counts, as it does for a
/// reader of the JSON object that `encode-json` writes.
#[derive(Debug)]
pub struct Columns {
    origins: Vec<Origin>,
    fields: HashMap<String, usize>,
}

impl Columns {
    /// The columns with these keys, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] when there is none, or a key is empty or comes twice.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Result<Self> {
        let mut seen = HashMap::new();
        for (index, key) in keys.into_iter().enumerate() {
            let refused = |reason: String| Err(Error::config(format!("columns[{index}]"), reason));
            if key.is_empty() {
                return refused("an empty key; name the field that the column is for".into());
            }
            if let Some(first) = seen.insert(key.to_owned(), index) {
                return refused(format!("key {key:?} is that of columns[{first}] too; name it once"));
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
        seen.retain(|_, index| origins[*index] == Origin::Field);
        Ok(Self { origins, fields: seen })
    }

    /// How many columns there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Calls `row` with each log of the batch and its cells, one a column.
    ///
    /// # Errors
    /// The first that `row` returns.
    pub fn for_each_row<'a>(
        &self,
        batch: &'a Batch,
        mut row: impl FnMut(&Log<'a>, &[Cell<'a>]) -> Result<()>,
    ) -> Result<()> {
        // Worked out once a batch, so that a field costs one look into a table.
        let column_of: Vec<Option<usize>> =
            batch.raw().keys.iter().map(|key| self.fields.get(key).copied()).collect();
        let numbers = self.origins.iter().enumerate().filter_map(|(column, origin)| match origin {
            Origin::Time => Some((column, Number::Time)),
            Origin::NanosPart => Some((column, Number::NanosPart)),
            _ => None,
        });
        let filling = Filling { column_of, numbers: numbers.collect() };
        let mut shared_by_group = vec![None; batch.raw().groups.len()];
        let mut cells = vec![Cell::Missing; self.len()];
        for group in batch.groups() {
            let shared: &Vec<_> = shared_by_group[group.index()].get_or_insert_with(|| {
                self.origins.iter().map(|origin| shared_cell(origin, &group)).collect()
            });
            for log in group.logs() {
                cells.copy_from_slice(shared);
                filling.fill(&log, &mut cells);
                row(&log, &cells)?;
            }
        }
        Ok(())
    }
}

/// A number that a log has of its own.
#[derive(Debug)]
enum Number {
    Time,
    NanosPart,
}

/// Where in a row the cells go that a log does not share with its group.
#[derive(Debug)]
struct Filling {
    /// By key index, the column of the field.
    column_of: Vec<Option<usize>>,
    numbers: Vec<(usize, Number)>,
}

impl Filling {
    /// A function of its own, small enough for a wasm compiler to keep its loop in registers.
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

/// What every log of the group has in the column.
fn shared_cell<'a>(origin: &Origin, group: &Group<'a>) -> Cell<'a> {
    match origin {
        Origin::Topic => Cell::Bytes(group.topic().as_bytes()),
        Origin::Source => Cell::Bytes(group.source().as_bytes()),
        Origin::Tag(key) => {
            let tag = group.tags().iter().rev().find(|tag| tag.key == *key);
            tag.map_or(Cell::Missing, |tag| Cell::Bytes(tag.value.as_bytes()))
        }
        Origin::Time | Origin::NanosPart | Origin::Field => Cell::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    #[test]
    fn reserved_keys_fields_and_what_is_missing() {
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
    fn columns_that_cannot_be_are_refused_by_place() {
        let refused = |keys: &[&str]| Columns::new(keys.iter().copied()).unwrap_err().to_string();
        assert!(refused(&[]).starts_with("columns: no columns"));
        assert!(refused(&["a", ""]).starts_with("columns[1]: an empty key"));
        assert!(refused(&["a", "b", "a"]).starts_with("columns[2]: key \"a\" is that of columns[0] too"));
    }
}

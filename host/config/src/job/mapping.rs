//! The mapping of a job: what each column of the table gets.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::JobError;
use super::template::{Context, Template};
use crate::column_mapping::{ColumnMapping, ColumnValue, MappedColumn};

/// All columns.
const ALL: &str = "*";

/// An entry of the reader's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderColumn {
    /// `*`: the field with the name of each column.
    All,
    /// A field of the logs, by its key. Keys such as `__time__` are reserved for values that each log has.
    Field(String),
    /// A constant: `'abc'`, or a parameter such as `${bizdate}`.
    Constant(Template),
}

/// The way in which the reader's and the writer's columns belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappingMode {
    /// The first of the one to the first of the other, and so on.
    #[default]
    SameRow,
    /// Each column of the writer gets the field of the same name.
    SameName,
}

impl MappingMode {
    /// Returns true for the default.
    pub fn is_same_row(&self) -> bool {
        *self == Self::SameRow
    }
}

impl ReaderColumn {
    /// Parses an entry: a key, `'constant'`, or a text with parameters.
    ///
    /// # Errors
    /// If it is none of these, such as `now()`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed == ALL {
            return Ok(Self::All);
        }
        if trimmed.is_empty() {
            return Err("a column is empty: name a field, or write a constant in single quotes".into());
        }
        if let Some(quoted) = trimmed.strip_prefix('\'') {
            let inner = quoted.strip_suffix('\'').filter(|inner| !inner.replace("''", "").contains('\''));
            let inner = inner.ok_or_else(|| not_identified(text))?.replace("''", "'");
            return Template::parse(&inner).map(Self::Constant);
        }
        if trimmed.contains("${") || trimmed.contains("$[") {
            return Template::parse(trimmed).map(Self::Constant);
        }
        if is_call(trimmed) || trimmed.starts_with('"') || trimmed.ends_with('\'') {
            return Err(not_identified(text));
        }
        Ok(Self::Field(text.to_owned()))
    }
}

fn not_identified(text: &str) -> String {
    format!(
        "{text}: Not identified. A column is the key of a field, a constant in single quotes such as 'abc', or a parameter such as ${{bizdate}}; functions are not evaluated. Write a key that looks like a function as {{\"name\": {text:?}}}"
    )
}

/// Returns true if a text contains a call of a function: `now()`, `count(1)`, `max(a) + 1`.
fn is_call(text: &str) -> bool {
    let Some((name, arguments)) = text.split_once('(') else { return false };
    let name = name.trim_end();
    let ends_with_name = name.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
    arguments.contains(')') && (ends_with_name || name.is_empty())
}

/// Pairs the columns of a job.
///
/// `table` has the names of the table's columns in their order, without the partition's.
///
/// # Errors
/// If they don't fit.
pub fn pair(
    mode: MappingMode,
    reader: &[ReaderColumn],
    writer: &[String],
    table: &[String],
    context: Context<'_>,
) -> Result<ColumnMapping, JobError> {
    let reads_all = reader == [ReaderColumn::All];
    let writes_all = writer == [ALL];
    if !reads_all && reader.contains(&ReaderColumn::All) {
        return Err(JobError::member("reader.column", "`*` stands alone: remove it, or the other columns"));
    }
    if !writes_all && writer.iter().any(|column| column == ALL) {
        return Err(JobError::member("writer.column", "`*` stands alone: remove it, or the other columns"));
    }
    let columns = named_columns(if writes_all { table } else { writer }, table)?;
    let columns = if reads_all {
        let same = |(name, column): &(&String, &String)| mapped(column, ColumnValue::Field((*name).clone()));
        columns.iter().map(same).collect()
    } else if mode == MappingMode::SameName {
        pair_by_name(reader, &columns)?
    } else {
        check_lengths(reader.len(), columns.len(), writes_all)?;
        let pairs = reader.iter().zip(&columns);
        pairs
            .map(|(read, (_, column))| Ok(mapped(column, value(read, context)?)))
            .collect::<Result<_, JobError>>()?
    };
    Ok(ColumnMapping { columns })
}

fn mapped(column: &str, value: ColumnValue) -> MappedColumn {
    MappedColumn { column: column.into(), value }
}

fn value(column: &ReaderColumn, context: Context<'_>) -> Result<ColumnValue, JobError> {
    let wrong = |problem: String| JobError::member("reader.column", problem);
    match column {
        ReaderColumn::Field(key) => Ok(ColumnValue::Field(key.clone())),
        ReaderColumn::Constant(template) => {
            template.evaluate(context).map(ColumnValue::Constant).map_err(wrong)
        }
        ReaderColumn::All => Err(wrong("`*` stands alone: remove it, or the other columns".into())),
    }
}

/// Returns the columns as they are named, and with their names in the table, where case does not matter.
fn named_columns<'a>(
    columns: &'a [String],
    table: &'a [String],
) -> Result<Vec<(&'a String, &'a String)>, JobError> {
    let mut named: Vec<(&String, &String)> = vec![];
    for column in columns {
        let lower = column.to_lowercase();
        let Some(known) = table.iter().find(|known| known.to_lowercase() == lower) else {
            let known = table.join(", ");
            let problem = format!("the table has no column {column:?}: it has {known}");
            return Err(JobError::member("writer.column", problem));
        };
        if named.iter().any(|(_, before)| *before == known) {
            let problem = format!("{column:?} is written twice: remove one");
            return Err(JobError::member("writer.column", problem));
        }
        named.push((column, known));
    }
    Ok(named)
}

fn check_lengths(reader: usize, writer: usize, writes_all: bool) -> Result<(), JobError> {
    if reader == writer || (writes_all && reader < writer) {
        return Ok(());
    }
    let problem = if writes_all {
        format!("the reader has {reader} columns, and the table only {writer}: remove the others")
    } else {
        format!(
            "the reader has {reader} columns and the writer {writer}: each needs its counterpart in the same place"
        )
    };
    Err(JobError::member("writer.column", problem))
}

/// Pairs the writer's columns with the fields of the same names. Constants have no name.
fn pair_by_name(
    reader: &[ReaderColumn],
    columns: &[(&String, &String)],
) -> Result<Vec<MappedColumn>, JobError> {
    let mut fields = vec![];
    for column in reader {
        match column {
            ReaderColumn::Field(key) if columns.iter().any(|(name, _)| *name == key) => fields.push(key),
            ReaderColumn::Field(key) => {
                let problem = format!(
                    "the writer has no column {key:?} for the field of this name: add it, or map by `same-row`"
                );
                return Err(JobError::member("reader.column", problem));
            }
            _ => {
                let problem = "a constant has no name to map by: use the mapping `same-row`";
                return Err(JobError::member("reader.column", problem));
            }
        }
    }
    let paired = columns.iter().filter(|(name, _)| fields.contains(name));
    Ok(paired.map(|(name, column)| mapped(column, ColumnValue::Field((*name).clone()))).collect())
}

impl Serialize for ReaderColumn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str(ALL),
            Self::Field(key) if Self::parse(key).as_ref() == Ok(self) => serializer.serialize_str(key),
            Self::Field(key) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("name", key)?;
                map.end()
            }
            Self::Constant(template) => {
                serializer.serialize_str(&format!("'{}'", template.as_str().replace('\'', "''")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for ReaderColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Column;
        impl<'de> Visitor<'de> for Column {
            type Value = ReaderColumn;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(r#"a key, a constant in single quotes, or {"name": KEY}"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ReaderColumn, E> {
                ReaderColumn::parse(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReaderColumn, A::Error> {
                let column = match map.next_entry::<String, String>()? {
                    Some((name, key)) if name == "name" => ReaderColumn::Field(key),
                    Some((name, value)) if name == "value" => {
                        ReaderColumn::Constant(Template::parse(&value).map_err(de::Error::custom)?)
                    }
                    Some((name, _)) => return Err(de::Error::unknown_field(&name, &["name", "value"])),
                    None => return Err(de::Error::missing_field("name")),
                };
                match map.next_entry::<String, de::IgnoredAny>()? {
                    Some((name, _)) => Err(de::Error::unknown_field(&name, &["name"])),
                    None => Ok(column),
                }
            }
        }
        deserializer.deserialize_any(Column)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use ColumnValue::{Constant, Field};

    fn columns(entries: &[&str]) -> Vec<ReaderColumn> {
        entries.iter().map(|entry| ReaderColumn::parse(entry).unwrap()).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn paired(
        mode: MappingMode,
        reader: &[&str],
        writer: &[&str],
    ) -> Result<Vec<(String, ColumnValue)>, String> {
        let parameters = BTreeMap::new();
        let context = Context {
            scheduled: "2026-12-01T00:10:00Z".parse().unwrap(),
            zone: Default::default(),
            parameters: &parameters,
        };
        let table = names(&["a", "b", "c"]);
        let mapped = pair(mode, &columns(reader), &names(writer), &table, context);
        Ok(mapped
            .map_err(|error| error.to_string())?
            .columns
            .into_iter()
            .map(|pair| (pair.column, pair.value))
            .collect())
    }

    fn value(column: &str, value: ColumnValue) -> (String, ColumnValue) {
        (column.into(), value)
    }

    #[test]
    fn functions_are_not_identified() {
        for text in [
            "now()",
            "count(1)",
            "COUNT(*)",
            " now( ) ",
            "max(a)+1",
            "concat(a, 'b')",
            "latency(ms)",
            "'abc",
            "abc'",
            "'a'b'",
            "\"abc\"",
            "(select 1)",
            "日期()",
        ] {
            let problem = ReaderColumn::parse(text).unwrap_err();
            assert!(problem.starts_with(text) && problem.contains("Not identified"), "{problem}");
        }
        for key in ["now", "a b", "__time__", "__tag__:__hostname__", "a-b", "123", "a.b", "(", "f(x", ":)"] {
            assert_eq!(ReaderColumn::parse(key), Ok(ReaderColumn::Field(key.into())), "{key}");
        }
    }

    #[test]
    fn quotes_make_constants() {
        let constant = |text: &str| match ReaderColumn::parse(text) {
            Ok(ReaderColumn::Constant(template)) => template.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        for (text, expected) in [
            ("'abc'", "abc"),
            ("''", ""),
            ("'it''s'", "it's"),
            ("'now()'", "now()"),
            ("'123'", "123"),
            ("${bizdate}", "${bizdate}"),
            ("'${bizdate}'", "${bizdate}"),
            ("'*'", "*"),
        ] {
            assert_eq!(constant(text), expected, "{text}");
        }
    }

    #[test]
    fn pairs_by_row_name_and_star() {
        use MappingMode::{SameName, SameRow};
        let field = |column: &str, key: &str| value(column, Field(key.into()));
        assert_eq!(
            paired(SameRow, &["k1", "'x'", "${bizdate}"], &["c", "a", "b"]).unwrap(),
            [field("c", "k1"), value("a", Constant("x".into())), value("b", Constant("20261130".into()))]
        );
        assert_eq!(
            paired(SameRow, &["*"], &["*"]).unwrap(),
            [field("a", "a"), field("b", "b"), field("c", "c")]
        );
        assert_eq!(paired(SameRow, &["*"], &["C"]).unwrap(), [field("c", "C")]);
        assert_eq!(paired(SameRow, &["x", "y"], &["*"]).unwrap(), [field("a", "x"), field("b", "y")]);
        assert_eq!(
            paired(SameName, &["c", "a"], &["a", "b", "c"]).unwrap(),
            [field("a", "a"), field("c", "c")]
        );
    }

    #[test]
    fn rejects_columns_that_do_not_fit() {
        use MappingMode::{SameName, SameRow};
        for (mode, reader, writer, problem) in [
            (SameRow, &["x"][..], &["a", "b"][..], "reader has 1 columns and the writer 2"),
            (SameRow, &["w", "x", "y", "z"], &["*"], "the table only 3"),
            (SameRow, &["x"], &["d"], "no column \"d\""),
            (SameRow, &["x", "y"], &["a", "A"], "\"A\" is written twice"),
            (SameRow, &["x", "*"], &["a", "b"], "`*` stands alone"),
            (SameRow, &["x", "y"], &["a", "*"], "`*` stands alone"),
            (SameName, &["x"], &["*"], "no column \"x\""),
            (SameName, &["'x'"], &["*"], "a constant has no name"),
            (SameRow, &["${ds}"], &["a"], "${ds} has no value"),
        ] {
            let shown = paired(mode, reader, writer).unwrap_err();
            assert!(shown.contains(problem), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn columns_round_trip(key in ".*", constant in "[a-z' ]*") {
            let all = [ReaderColumn::Field(key), ReaderColumn::Constant(Template::parse(&constant).unwrap())];
            for column in all {
                let text = serde_json::to_string(&column).unwrap();
                prop_assert_eq!(serde_json::from_str::<ReaderColumn>(&text).unwrap(), column);
            }
        }
    }
}

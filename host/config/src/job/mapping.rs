//! The mapping of a job: what each column of the table gets.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::JobError;
use super::template::{Context, Template};

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

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    /// The column of the table.
    pub column: String,
    /// Its value.
    pub value: MappedValue,
}

/// The value of a column in each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedValue {
    /// A field of the log, by its key. Null if the log lacks it.
    Field(String),
    /// A constant.
    Constant(String),
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
) -> Result<Vec<MappedColumn>, JobError> {
    let reads_all = reader == [ReaderColumn::All];
    let writes_all = writer == [ALL];
    if !reads_all && reader.contains(&ReaderColumn::All) {
        return Err(JobError::member("reader.column", "`*` stands alone: remove it, or the other columns"));
    }
    if !writes_all && writer.iter().any(|column| column == ALL) {
        return Err(JobError::member("writer.column", "`*` stands alone: remove it, or the other columns"));
    }
    let columns = if writes_all { table } else { writer };
    check_columns(columns, table)?;
    let value = |column: &ReaderColumn| match column {
        ReaderColumn::All => unreachable_all(),
        ReaderColumn::Field(key) => Ok(MappedValue::Field(key.clone())),
        ReaderColumn::Constant(template) => template
            .evaluate(context)
            .map(MappedValue::Constant)
            .map_err(|problem| JobError::member("reader.column", problem)),
    };
    if reads_all {
        let same = |column: &String| MappedColumn {
            column: column.clone(),
            value: MappedValue::Field(column.clone()),
        };
        return Ok(columns.iter().map(same).collect());
    }
    match mode {
        MappingMode::SameName => pair_by_name(reader, columns),
        MappingMode::SameRow => {
            check_lengths(reader.len(), columns.len(), writes_all)?;
            let pairs = reader.iter().zip(columns);
            pairs
                .map(|(read, column)| Ok(MappedColumn { column: column.clone(), value: value(read)? }))
                .collect()
        }
    }
}

fn unreachable_all() -> Result<MappedValue, JobError> {
    Err(JobError::member("reader.column", "`*` stands alone: remove it, or the other columns"))
}

fn check_columns(columns: &[String], table: &[String]) -> Result<(), JobError> {
    let mut seen = BTreeMap::new();
    for column in columns {
        let lower = column.to_lowercase();
        if !table.iter().any(|known| known.to_lowercase() == lower) {
            let known = table.join(", ");
            let problem = format!("the table has no column {column:?}: it has {known}");
            return Err(JobError::member("writer.column", problem));
        }
        if seen.insert(lower, ()).is_some() {
            let problem = format!("{column:?} is written twice: remove one");
            return Err(JobError::member("writer.column", problem));
        }
    }
    Ok(())
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
fn pair_by_name(reader: &[ReaderColumn], columns: &[String]) -> Result<Vec<MappedColumn>, JobError> {
    let mut fields = vec![];
    for column in reader {
        match column {
            ReaderColumn::Field(key) if columns.contains(key) => fields.push(key),
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
    let mapped = columns.iter().filter(|column| fields.contains(column));
    let same =
        |column: &String| MappedColumn { column: column.clone(), value: MappedValue::Field(column.clone()) };
    Ok(mapped.map(same).collect())
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
    use proptest::prelude::*;

    use super::*;
    use MappedValue::{Constant, Field};

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
    ) -> Result<Vec<(String, MappedValue)>, String> {
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
            .into_iter()
            .map(|pair| (pair.column, pair.value))
            .collect())
    }

    fn value(column: &str, value: MappedValue) -> (String, MappedValue) {
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
        assert_eq!(paired(SameRow, &["*"], &["c"]).unwrap(), [field("c", "c")]);
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

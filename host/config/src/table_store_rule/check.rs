//! Checks of rules of Table Store that need no service.

use super::{TableStoreRule, WriteMode};
use crate::limit::{ROWS_SIZE_MB, ROWS_TIME_SECONDS};
use crate::rule::{RuleError, check_name, check_range, check_source, check_transforms};
use crate::table_store_rule::Conversion;

/// The most columns of a primary key.
const MAX_KEY_COLUMNS: usize = 4;

/// The most columns that a rule names.
const MAX_COLUMNS: usize = 1024;

impl TableStoreRule {
    /// Checks the rule without the service.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first invalid field.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        check_range("size_mb", self.size_mb, ROWS_SIZE_MB, "MB")?;
        check_range("time_seconds", self.time_seconds, ROWS_TIME_SECONDS, "seconds")?;
        if let Some(connection) = check_source(&self.source, self.connection.as_ref(), "Table Store")? {
            connection.check().map_err(|error| RuleError::field("connection", error))?;
        }
        if !is_identifier(&self.table) {
            return Err(RuleError::field("table", name_problem(&self.table)));
        }
        self.check_columns()?;
        self.check_key()?;
        check_transforms(&self.transform)
    }

    fn check_columns(&self) -> Result<(), RuleError> {
        if self.columns.len() > MAX_COLUMNS {
            let problem = format!("{} columns are too many: a row has {MAX_COLUMNS}", self.columns.len());
            return Err(RuleError::field("columns", problem));
        }
        match self.columns.keys().find(|name| !is_identifier(name)) {
            Some(name) => Err(RuleError::field("columns", name_problem(name))),
            None => Ok(()),
        }
    }

    fn check_key(&self) -> Result<(), RuleError> {
        let wrong = |problem: String| Err(RuleError::field("key", problem));
        if self.has_default_key() {
            if self.write == WriteMode::Update {
                let problem =
                    "`update` needs a `key` of fields: with the default key no row has others' columns";
                return Err(RuleError::field("write", problem));
            }
            let taken = self.key_columns().into_iter().find(|(name, _)| self.columns.contains_key(name));
            return match taken {
                Some((name, _)) => Err(RuleError::field(
                    "columns",
                    format!("{name:?} is a column of the default key: choose another name, or set `key`"),
                )),
                None => Ok(()),
            };
        }
        if self.key.len() > MAX_KEY_COLUMNS {
            return wrong(format!("{} columns are too many: a key has {MAX_KEY_COLUMNS}", self.key.len()));
        }
        for (index, name) in self.key.iter().enumerate() {
            if !is_identifier(name) {
                return wrong(name_problem(name));
            }
            if self.key[..index].contains(name) {
                return wrong(format!("has {name:?} twice"));
            }
            if self.exclude.contains(name) && !self.columns.contains_key(name) {
                return wrong(format!("{name:?} is excluded: remove it from `exclude`"));
            }
            let conversion = self.expression(name).conversion;
            if matches!(conversion, Conversion::Double | Conversion::Boolean) {
                return wrong(format!("{name:?} must be an integer, a string or binary"));
            }
        }
        Ok(())
    }
}

/// Returns true if Table Store accepts the name of a table or a column.
pub(super) fn is_identifier(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=255).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        && !bytes[0].is_ascii_digit()
}

fn name_problem(name: &str) -> String {
    if name.is_empty() {
        return "is missing: a name has 1-255 letters, digits and `_`, and begins with no digit".into();
    }
    format!(
        "{name:?} is no name that Table Store accepts: use 1-255 letters, digits and `_`, with no digit first"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: &str) -> String {
        let text = format!("name = 'r-1'\nsource = 's'\ntable = 't'\n{change}");
        // A later line overrides an earlier one.
        let mut table = toml::Table::new();
        for line in text.lines() {
            table.extend(toml::from_str::<toml::Table>(line).unwrap());
        }
        let rule: TableStoreRule = table.try_into().unwrap();
        rule.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn checks_each_field() {
        assert_eq!(problem(""), "");
        for (change, expected) in [
            ("name = 'x'", "name"),
            ("source = ''", "logship source list"),
            ("connection = {}", "besides `source`"),
            ("table = ''", "table: is missing"),
            ("table = 'a-b'", "\"a-b\" is no name"),
            ("table = '1a'", "\"1a\" is no name"),
            ("columns = { a-b = 'c' }", "columns: \"a-b\""),
            ("columns = { _n = 'c' }", "default key"),
            ("write = 'update'", "needs a `key`"),
            ("key = ['a', 'b', 'c', 'd', 'e']", "too many"),
            ("key = ['a', 'a']", "twice"),
            ("key = ['user-agent']", "\"user-agent\" is no name"),
            ("key = ['a']\nexclude = ['a']", "excluded"),
            ("key = ['a']\ncolumns = { a = '(->double b)' }", "must be an integer"),
            ("size_mb = 0", "out of range: 1-256 MB"),
            ("time_seconds = 901", "out of range: 1-900 seconds"),
        ] {
            let found = problem(change);
            assert!(found.contains(expected), "{change}: {found}");
        }
        assert_eq!(problem("key = ['a']\nwrite = 'update'\ncolumns = { a = '(->int 10 b)' }"), "");
    }
}

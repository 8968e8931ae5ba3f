use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The columns and the dialect.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars", extend("required" = ["columns"]))]
pub struct Config {
    /// The keys to ship, in order: keys of fields, and the reserved keys `__time__`, `__time_ns_part__`, `__topic__`,
    /// `__source__`, `__tag__:KEY`.
    #[schemars(length(min = 1))]
    pub columns: Vec<String>,
    /// The separator between two fields: one ASCII character.
    pub delimiter: char,
    /// The quote around fields with the delimiter, the quote or a line break: one ASCII character. It is doubled inside
    /// the field.
    pub quote: char,
    /// The text for a key that the log does not have. A value equal to this text is quoted.
    pub null: String,
    /// True if the first line has the names of the columns.
    pub header: bool,
    /// The handling of bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
}

/// The handling of bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum InvalidUtf8 {
    /// Replaces them with U+FFFD. One invalid byte makes most readers reject the whole file.
    Replace,
    /// Keeps them unchanged.
    Keep,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            columns: vec![],
            delimiter: ',',
            quote: '"',
            null: String::new(),
            header: false,
            invalid_utf8: InvalidUtf8::Replace,
        }
    }
}

impl Config {
    /// Rejects dialects that no reader can parse.
    pub(crate) fn check(&self) -> Result<()> {
        for (path, char) in [("delimiter", self.delimiter), ("quote", self.quote)] {
            if !char.is_ascii() || ['\0', '\r', '\n'].contains(&char) {
                let reason = "use one ASCII character other than a line break or NUL";
                return Err(Error::config(path, format!("{char:?} is not valid; {reason}")));
            }
        }
        if self.delimiter == self.quote {
            let reason = format!("{:?} is also the delimiter; choose another", self.quote);
            return Err(Error::config("quote", reason));
        }
        if self.null.contains([self.delimiter, self.quote, '\r', '\n']) {
            let reason = format!(
                "{:?} contains the delimiter, the quote or a line break, but is never quoted",
                self.null
            );
            return Err(Error::config("null", format!("{reason}; choose a text without them")));
        }
        Ok(())
    }
}

use logship_stage::{Error, JsonSchema, Result};
use serde::Deserialize;

/// The columns, and the dialect.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars", extend("required" = ["columns"]))]
pub struct Config {
    /// The keys to ship, in order: of fields, and of what is reserved: `__time__`,
    /// `__time_ns_part__`, `__topic__`, `__source__`, `__tag__:KEY`.
    #[schemars(length(min = 1))]
    pub columns: Vec<String>,
    /// What stands between two fields: one ASCII character.
    pub delimiter: char,
    /// What encloses a field that holds the delimiter, the quote or a line break: one ASCII
    /// character. Inside, it is doubled.
    pub quote: char,
    /// What stands for a key that the log does not have. A value that is the same text is quoted.
    pub null: String,
    /// Whether the first line names the columns.
    pub header: bool,
    /// What becomes of bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
}

/// What becomes of bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum InvalidUtf8 {
    /// They become U+FFFD: most readers refuse a whole file for one of them.
    Replace,
    /// They stay as they are.
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
    /// Refuses a dialect that no reader could read.
    pub(crate) fn check(&self) -> Result<()> {
        for (path, char) in [("delimiter", self.delimiter), ("quote", self.quote)] {
            if !char.is_ascii() || ['\0', '\r', '\n'].contains(&char) {
                let reason = "one ASCII character, and neither a line break nor NUL, is what readers take";
                return Err(Error::config(path, format!("{char:?} can't be it; {reason}")));
            }
        }
        if self.delimiter == self.quote {
            let reason = format!("{:?} is the delimiter too; choose another", self.quote);
            return Err(Error::config("quote", reason));
        }
        if self.null.contains([self.delimiter, self.quote, '\r', '\n']) {
            let reason =
                format!("{:?} holds delimiter, quote or a line break; it is never quoted", self.null);
            return Err(Error::config("null", format!("{reason}, so choose a text without them")));
        }
        Ok(())
    }
}

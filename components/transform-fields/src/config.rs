use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use logship_stage::JsonSchema;
use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::shape::{Either, Short};

/// The transformations of logs, in this order. Settings name keys of fields. Some also accept what all logs of a group
/// share: `__topic__`, `__source__`, `__tag__:KEY`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The logs to keep: those that meet all conditions of the table, or of one table of a list. A missing value counts
    /// as empty. Also accepts what a group shares.
    pub r#where: Conditions,
    /// The logs to filter, by the same kind of conditions.
    pub unless: Conditions,
    /// Fields to replace by the fields parsed from their values. A value that is not completely of the format is kept. A
    /// parsed field with a reserved key, such as `__time__`, is called `__field__:__time__`.
    pub parse: BTreeMap<String, Either<Parse>>,
    /// New keys of fields, by old keys.
    pub rename: BTreeMap<String, String>,
    /// Values to set at the end of the log. They replace fields with the same key. Also accepts what a group shares.
    pub set: BTreeMap<String, Either<Value>>,
    /// The parts of values to mask; `*` is every field. Also accepts what a group shares.
    pub mask: BTreeMap<String, Either<Mask>>,
    /// Values to replace by their SHA-256, in hexadecimal; empty values stay empty. Also accepts what a group shares.
    pub hash: Vec<String>,
    /// The key for HMAC-SHA-256 instead of SHA-256. Without the key, nobody can find values by trying.
    pub hash_key: Option<String>,
    /// The only fields to keep.
    pub keep: Option<Vec<String>>,
    /// Fields to drop. Also accepts what a group shares: a topic or source becomes empty, a tag is dropped.
    pub drop: Vec<String>,
}

/// Conditions on a log: all conditions of at least one table.
#[derive(Debug, Clone, Default)]
pub struct Conditions(pub Vec<Table>);

type Table = BTreeMap<String, Either<Condition>>;

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables;
        impl<'de> Visitor<'de> for Tables {
            type Value = Conditions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of conditions, or a list of such tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Conditions, A::Error> {
                Ok(Conditions(vec![Table::deserialize(MapAccessDeserializer::new(entries))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Conditions, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Conditions)
            }
        }
        deserializer.deserialize_any(Tables)
    }
}

impl JsonSchema for Conditions {
    fn schema_name() -> Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<Table>();
        json_schema!({ "anyOf": [table, { "type": "array", "items": table }] })
    }
}

/// A condition on a value: equal to a text, equal to one text of a list, or matched by a pattern.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(from = "Pattern")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Condition {
    /// The value is one of these texts.
    OneOf(Vec<String>),
    /// The pattern matches a part of the value.
    Matches(String),
}

/// A pattern that matches a part of a value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Pattern {
    /// The pattern, in the syntax of the crate regex.
    matches: String,
}

impl From<Pattern> for Condition {
    fn from(pattern: Pattern) -> Self {
        Self::Matches(pattern.matches)
    }
}

impl Short for Condition {
    const EXPECTED: &'static str = "a text, a list of texts, or a table with `matches`";
    const LIST: bool = true;

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        Ok(Self::OneOf(texts))
    }
}

/// The parsing of a value into fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Parse {
    /// The format of the value.
    pub r#as: Format,
    /// The prefix of each parsed field's key.
    #[serde(default)]
    pub prefix: String,
    /// The separator between two pairs of `key-value`; whitespace by default.
    #[serde(default)]
    pub separator: Option<String>,
}

/// The format of a value with fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Format {
    /// A JSON object. Strings are used unquoted, other values as their JSON text. A null becomes no field.
    Json,
    /// `KEY=VALUE KEY="VALUE"`. In quotes, a backslash escapes quotes and backslashes; `\n`, `\r` and `\t` mean the
    /// same as in JSON.
    KeyValue,
}

impl Short for Parse {
    const EXPECTED: &'static str = "`json`, `key-value`, or a table with `as`";

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        let r#as = match texts.concat().as_str() {
            "json" => Format::Json,
            "key-value" => Format::KeyValue,
            other => return Err(format!("unknown format {other:?}; use json or key-value")),
        };
        Ok(Self { r#as, prefix: String::new(), separator: None })
    }
}

/// A value to set: a text, or the origin of the value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(from = "Source")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Value {
    /// This text.
    Is(String),
    /// The value of this origin. If it is missing or empty, nothing is set.
    From(String),
}

/// The origin of a value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Source {
    /// The key of a field before renaming, or what a group shares. Nothing is set if the log has no value.
    from: String,
}

impl From<Source> for Value {
    fn from(source: Source) -> Self {
        Self::From(source.from)
    }
}

impl Short for Value {
    const EXPECTED: &'static str = "a text, or a table with `from`";

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        Ok(Self::Is(texts.concat()))
    }
}

/// The masking of a value: a pattern and the replacement of its matches.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Mask {
    /// The pattern, in the syntax of the crate regex.
    pub matches: String,
    /// The replacement of each match; `$1` or `${name}` is the match of a capture group, `$$` is a dollar sign.
    #[serde(default = "default_replacement")]
    pub with: String,
}

fn default_replacement() -> String {
    "***".into()
}

impl Short for Mask {
    const EXPECTED: &'static str = "a pattern, or a table with `matches`";

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        Ok(Self { matches: texts.concat(), with: default_replacement() })
    }
}

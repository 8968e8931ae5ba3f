use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use logship_stage::JsonSchema;
use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::shape::{Either, Short};

/// What becomes of logs, in this order. Members have keys of fields; where it is said, also what all logs of a group
/// share: `__topic__`, `__source__`, `__tag__:KEY`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Config {
    /// The logs that stay: those that meet all conditions of the table, or of one of the tables of a list. A value that
    /// is not there is an empty one. Also of what a group shares.
    pub r#where: Conditions,
    /// The logs that are left out, by conditions of the same kind.
    pub unless: Conditions,
    /// Fields whose values have fields in them, which take their place. A value that is not wholly of the format stays.
    pub parse: BTreeMap<String, Either<Parse>>,
    /// New keys of fields, by old ones.
    pub rename: BTreeMap<String, String>,
    /// Values that are set, at the end of the log; what it had of that key is left out. Also of what a group shares.
    pub set: BTreeMap<String, Either<Value>>,
    /// What in a value nobody is to see; `*` is every field. Also of what a group shares.
    pub mask: BTreeMap<String, Either<Mask>>,
    /// Values that become their SHA-256, in hexadecimal; empty ones stay empty. Also of what a group shares.
    pub hash: Vec<String>,
    /// With it they become their HMAC-SHA-256 under this key: who does not have it can't find values by trying.
    pub hash_key: Option<String>,
    /// The only fields that stay.
    pub keep: Option<Vec<String>>,
    /// Fields that are left out. A topic or source is made empty, a tag left out.
    pub drop: Vec<String>,
}

/// Conditions on a log: all that a table says, of one of the tables.
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

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Conditions, A::Error> {
                Ok(Conditions(vec![Table::deserialize(MapAccessDeserializer::new(members))?]))
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

/// What a value has to be: a text, one of the texts of a list, or something that a pattern is found in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(from = "Pattern")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Condition {
    /// One of these.
    OneOf(Vec<String>),
    /// Something that the pattern is found in.
    Matches(String),
}

/// A pattern that is found in a value.
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

/// Fields in a value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Parse {
    /// What the value is.
    pub r#as: Format,
    /// What stands before the key of each field.
    #[serde(default)]
    pub prefix: String,
    /// What stands between two pairs of `key-value`; by default blanks.
    #[serde(default)]
    pub separator: Option<String>,
}

/// What a value with fields in it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Format {
    /// A JSON object: texts as they are, anything else as its JSON text.
    Json,
    /// `KEY=VALUE KEY="VALUE"`; in quotes a backslash stands before quotes and backslashes, `\n`, `\r` and `\t` are
    /// what they are in JSON.
    KeyValue,
}

impl Short for Parse {
    const EXPECTED: &'static str = "`json`, `key-value`, or a table with `as`";

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        let r#as = match texts.concat().as_str() {
            "json" => Format::Json,
            "key-value" => Format::KeyValue,
            other => return Err(format!("there is no format {other:?}; there is json and key-value")),
        };
        Ok(Self { r#as, prefix: String::new(), separator: None })
    }
}

/// A value that is set: a text, or where it is from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(from = "Source")]
#[schemars(crate = "logship_stage::schemars")]
pub enum Value {
    /// This one.
    Is(String),
    /// What something else has, if there is something in it; nothing is set otherwise.
    From(String),
}

/// Where a value is from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Source {
    /// The key of a field, as it is before any is renamed, or what a group shares. Nothing is set where the log has none.
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

/// What in a value nobody is to see: a pattern, or a pattern with what takes the place of its matches.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
pub struct Mask {
    /// The pattern, in the syntax of the crate regex.
    pub matches: String,
    /// What takes the place of each match; `$1` or `${name}` is what a group of the pattern matched, `$$` a dollar.
    #[serde(default = "stars")]
    pub with: String,
}

fn stars() -> String {
    "***".into()
}

impl Short for Mask {
    const EXPECTED: &'static str = "a pattern, or a table with `matches`";

    fn of_texts(texts: Vec<String>) -> Result<Self, String> {
        Ok(Self { matches: texts.concat(), with: stars() })
    }
}

//! Expressions of columns, as LogHub Shipper writes them: a field, or `(->int 10 FIELD)`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The origin of a column's value, and its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    /// The origin.
    pub origin: Origin,
    /// The conversion.
    pub conversion: Conversion,
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A field of the log, or a property: `__time__`, `__receive_time__`, `__topic__`, `__source__`, `__tag__:NAME`,
    /// `__shard__`, `__cursor__`, `__index__`.
    Field(String),
    /// A constant.
    Constant(String),
}

/// The conversion of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// The text as it is; an integer for properties that are numbers.
    None,
    /// An integer in a base.
    Integer(u8),
    /// A floating-point number.
    Double,
    /// `true` or `false`.
    Boolean,
    /// Bytes, which need not be UTF-8.
    Binary,
}

/// The forms of an expression, for errors.
const FORMS: &str =
    "use FIELD, 'CONSTANT', (->int BASE FIELD), (->double FIELD), (->bool FIELD) or (->blob FIELD)";

impl Expression {
    /// Returns the type of the column, as a destination names it.
    pub fn data_type(&self) -> &'static str {
        match self.conversion {
            Conversion::None if self.is_number() => "integer",
            Conversion::None => "string",
            Conversion::Integer(_) => "integer",
            Conversion::Double => "double",
            Conversion::Boolean => "boolean",
            Conversion::Binary => "binary",
        }
    }

    /// Returns true if the origin is a property that is a number.
    fn is_number(&self) -> bool {
        let Origin::Field(field) = &self.origin else { return false };
        matches!(
            field.as_str(),
            "__time__" | "__time_ns_part__" | "__receive_time__" | "__shard__" | "__cursor__" | "__index__"
        )
    }

    /// The expression of a field, unchanged.
    pub fn field(name: &str) -> Self {
        Self { origin: Origin::Field(name.into()), conversion: Conversion::None }
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |problem: &str| format!("expression {text:?} {problem}: {FORMS}");
        if text.is_empty() {
            return Err(invalid("is empty"));
        }
        let Some(call) = text.strip_prefix("(->") else {
            return Ok(Self { origin: origin(text), conversion: Conversion::None });
        };
        let call = call.strip_suffix(')').ok_or_else(|| invalid("has no closing parenthesis"))?;
        let (name, rest) = call.split_once(' ').ok_or_else(|| invalid("names no field"))?;
        let (conversion, field) = match name {
            "int" => {
                let (base, field) =
                    rest.trim_start().split_once(' ').ok_or_else(|| invalid("has no base"))?;
                let base = base.parse().ok().filter(|base| (2..=36).contains(base));
                (Conversion::Integer(base.ok_or_else(|| invalid("has no base from 2 to 36"))?), field)
            }
            "double" => (Conversion::Double, rest),
            "bool" => (Conversion::Boolean, rest),
            "blob" | "bytes" => (Conversion::Binary, rest),
            "string" => (Conversion::None, rest),
            _ => return Err(invalid("has an unknown conversion")),
        };
        match field.trim() {
            "" => Err(invalid("names no field")),
            field => Ok(Self { origin: origin(field), conversion }),
        }
    }
}

fn origin(text: &str) -> Origin {
    let constant = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match constant {
        Some(constant) => Origin::Constant(constant.into()),
        None => Origin::Field(text.into()),
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::Field(field) => field.clone(),
            Origin::Constant(constant) => format!("'{constant}'"),
        };
        match self.conversion {
            Conversion::None if origin.starts_with("(->") => write!(formatter, "(->string {origin})"),
            Conversion::None => formatter.write_str(&origin),
            Conversion::Integer(base) => write!(formatter, "(->int {base} {origin})"),
            Conversion::Double => write!(formatter, "(->double {origin})"),
            Conversion::Boolean => write!(formatter, "(->bool {origin})"),
            Conversion::Binary => write!(formatter, "(->blob {origin})"),
        }
    }
}

impl TryFrom<String> for Expression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.to_string()
    }
}

impl JsonSchema for Expression {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expression".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_round_trip() {
        for (text, data_type) in [
            ("original", "string"),
            ("user agent", "string"),
            ("'a b'", "string"),
            ("__time__", "integer"),
            ("__tag__:host", "string"),
            ("(->int 10 original)", "integer"),
            ("(->int 16 user agent)", "integer"),
            ("(->double price)", "double"),
            ("(->bool ok)", "boolean"),
            ("(->blob body)", "binary"),
            ("(->string (->odd)", "string"),
        ] {
            let expression: Expression = text.parse().unwrap();
            assert_eq!((expression.to_string().as_str(), expression.data_type()), (text, data_type));
        }
    }

    #[test]
    fn errors_list_the_forms() {
        for text in [
            "",
            "(->int original)",
            "(->int 1 a)",
            "(->int 37 a)",
            "(->int 10 )",
            "(->long a)",
            "(->int 10 a",
        ] {
            let error = text.parse::<Expression>().unwrap_err();
            assert!(error.contains("(->int BASE FIELD)"), "{text}: {error}");
        }
    }
}

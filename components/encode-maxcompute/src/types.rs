//! The types of columns, parsed from their names in MaxCompute.

/// A type of MaxCompute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean,
    /// A whole number of this many bytes: 1, 2, 4 or 8.
    Integer(usize),
    Float,
    Double,
    /// `string`; or `char` and `varchar`, cut at this many characters.
    Text(Option<usize>),
    Binary,
    Json,
    Decimal {
        precision: usize,
        scale: usize,
    },
    Date,
    Datetime,
    Timestamp,
    TimestampNtz,
    IntervalDayTime,
    IntervalYearMonth,
    Array(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<(String, Type)>),
    Vector(Box<Type>, usize),
}

/// The precision and scale of `decimal`, in projects that don't write them.
const OLD_DECIMAL: Type = Type::Decimal { precision: 54, scale: 18 };
/// The largest precision with room in 256 bits.
const MAX_PRECISION: usize = 76;
/// The deepest nesting of types.
const MAX_DEPTH: usize = 16;

impl Type {
    /// Parses the name of a type, such as `decimal(10,2)` or `map<string,array<bigint>>`, in any case.
    ///
    /// # Errors
    /// The reason, with the part that is not a type.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let parsed = parser.parse(0)?;
        match parser.rest {
            "" => Ok(parsed),
            rest => Err(format!("{rest:?} follows the type in {text:?}")),
        }
    }

    /// Returns the part of the type that has no form in Arrow record batches, if any.
    pub(crate) fn without_arrow_form(&self) -> Option<&'static str> {
        match self {
            Self::Json => Some("json"),
            Self::IntervalYearMonth => Some("interval_year_month"),
            Self::Array(item) | Self::Vector(item, _) => item.without_arrow_form(),
            Self::Map(key, value) => key.without_arrow_form().or_else(|| value.without_arrow_form()),
            Self::Struct(fields) => fields.iter().find_map(|(_, field)| field.without_arrow_form()),
            _ => None,
        }
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn parse(&mut self, depth: usize) -> Result<Type, String> {
        if depth > MAX_DEPTH {
            return Err(format!("a type is nested deeper than {MAX_DEPTH} levels"));
        }
        let name = self.word().to_ascii_lowercase();
        Ok(match name.as_str() {
            "boolean" => Type::Boolean,
            "tinyint" => Type::Integer(1),
            "smallint" => Type::Integer(2),
            "int" => Type::Integer(4),
            "bigint" => Type::Integer(8),
            "float" => Type::Float,
            "double" => Type::Double,
            "string" => Type::Text(None),
            "binary" => Type::Binary,
            "json" => Type::Json,
            "date" => Type::Date,
            "datetime" => Type::Datetime,
            "timestamp" => Type::Timestamp,
            "timestamp_ntz" => Type::TimestampNtz,
            "interval_day_time" => Type::IntervalDayTime,
            "interval_year_month" => Type::IntervalYearMonth,
            "char" | "varchar" => match self.numbers()?[..] {
                [length] if length > 0 => Type::Text(Some(length)),
                _ => return Err(format!("{name} needs a length, as in {name}(20)")),
            },
            "decimal" => self.decimal()?,
            "array" => {
                let item = self.between('<', '>', |parser| parser.parse(depth + 1))?;
                Type::Array(Box::new(item))
            }
            "map" => self.between('<', '>', |parser| {
                let key = parser.parse(depth + 1)?;
                parser.expect(',')?;
                Ok(Type::Map(Box::new(key), Box::new(parser.parse(depth + 1)?)))
            })?,
            "struct" => self.between('<', '>', |parser| parser.fields(depth + 1))?,
            "vector" => {
                let (open, close) = if self.rest.starts_with('<') { ('<', '>') } else { ('(', ')') };
                self.between(open, close, |parser| {
                    let item = parser.parse(depth + 1)?;
                    parser.expect(',')?;
                    Ok(Type::Vector(Box::new(item), parser.number()?))
                })?
            }
            "" => return Err(format!("a type is missing before {:?}", self.rest)),
            _ => return Err(format!("the type {name:?} is unknown")),
        })
    }

    fn decimal(&mut self) -> Result<Type, String> {
        let (precision, scale) = match self.numbers()?[..] {
            [] => return Ok(OLD_DECIMAL),
            [precision] => (precision, 0),
            [precision, scale] => (precision, scale),
            _ => return Err("decimal has a precision and a scale, as in decimal(10,2)".into()),
        };
        if precision == 0 || precision > MAX_PRECISION || scale > precision {
            return Err(format!(
                "decimal({precision},{scale}) is invalid: use a precision of 1 to {MAX_PRECISION}, and a scale of at most the precision"
            ));
        }
        Ok(Type::Decimal { precision, scale })
    }

    fn fields(&mut self, depth: usize) -> Result<Type, String> {
        let mut fields = vec![];
        loop {
            let name = self.name()?;
            self.expect(':')?;
            fields.push((name, self.parse(depth)?));
            if !self.take(',') {
                return Ok(Type::Struct(fields));
            }
        }
    }

    /// Parses the name of a field, which may be in backquotes.
    fn name(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let quoted = self.rest.strip_prefix('`').and_then(|rest| rest.split_once('`'));
        if let Some((name, rest)) = quoted {
            self.rest = rest;
            return Ok(name.to_owned());
        }
        match self.word() {
            "" => Err(format!("a field's name is missing before {:?}", self.rest)),
            name => Ok(name.to_owned()),
        }
    }

    /// Parses the numbers in parentheses, if there are any.
    fn numbers(&mut self) -> Result<Vec<usize>, String> {
        if !self.rest.trim_start().starts_with('(') {
            return Ok(vec![]);
        }
        self.between('(', ')', |parser| {
            let mut numbers = vec![parser.number()?];
            while parser.take(',') {
                numbers.push(parser.number()?);
            }
            Ok(numbers)
        })
    }

    fn number(&mut self) -> Result<usize, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("a number is expected instead of {word:?}"))
    }

    fn between<T>(
        &mut self,
        open: char,
        close: char,
        parse: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        self.expect(open)?;
        let parsed = parse(self)?;
        self.expect(close)?;
        Ok(parsed)
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("{wanted:?} is expected before {:?}", self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_in_any_case() {
        let map = Type::Map(Box::new(Type::Text(None)), Box::new(Type::Array(Box::new(Type::Integer(8)))));
        for (text, expected) in [
            ("BIGINT", Type::Integer(8)),
            ("varchar( 10 )", Type::Text(Some(10))),
            ("decimal", OLD_DECIMAL),
            ("decimal(10)", Type::Decimal { precision: 10, scale: 0 }),
            ("DECIMAL(38, 18)", Type::Decimal { precision: 38, scale: 18 }),
            ("MAP<STRING, ARRAY<BIGINT>>", map.clone()),
            (
                "struct<`a`:bigint,b:map<string,array<bigint>>>",
                Type::Struct(vec![("a".into(), Type::Integer(8)), ("b".into(), map)]),
            ),
            ("vector(float,3)", Type::Vector(Box::new(Type::Float), 3)),
            ("VECTOR<float,3>", Type::Vector(Box::new(Type::Float), 3)),
        ] {
            assert_eq!(Type::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rejects_other_names() {
        let deep = format!("{}bigint{}", "array<".repeat(20), ">".repeat(20));
        for text in [
            "",
            "bigin",
            "bigint x",
            "char",
            "char(0)",
            "decimal(0)",
            "decimal(3,4)",
            "decimal(77)",
            "array",
            "array<>",
            "array<bigint",
            "map<string>",
            "struct<>",
            "struct<a>",
            "decimal(a)",
            "varchar(99999999999999999999)",
            &deep,
        ] {
            assert!(Type::parse(text).is_err(), "{text}");
        }
    }
}

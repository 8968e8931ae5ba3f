//! Texts with parameters and scheduling expressions: `pt=${bizdate}`, `$[yyyymmdd-1]`.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use logship_batch::time_zone::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::expression::{Expression, Formatted};

/// The deepest chain of parameters whose values name other parameters.
const MAX_DEPTH: usize = 8;

/// The most parameters that are replaced in a text. Parameters that name several others multiply.
const MAX_REPLACED: usize = 1000;

/// The parameters that the scheduler provides, by the expression of their value.
const SYSTEM: [(&str, &str); 6] = [
    ("bdp.system.bizdate", "yyyymmdd-1"),
    ("bizdate", "yyyymmdd-1"),
    ("bdp.system.cyctime", "yyyymmddhh24miss"),
    ("cyctime", "yyyymmddhh24miss"),
    ("bdp.system.bizmonth", "add_months(yyyymm,-1)"),
    ("bdp.system.date", "yyyymmdd"),
];

/// A text with parameters and expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Parameter(String),
    Expression(Expression),
}

/// The values that templates are evaluated with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The scheduled time of the run.
    pub scheduled: DateTime<Utc>,
    /// The time zone.
    pub zone: TimeZone,
    /// The parameters of the job and of the run.
    pub parameters: &'a BTreeMap<String, Template>,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// The problem with an expression or a parameter.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut rest, mut parts) = (text, vec![]);
        while let Some(begin) = rest.find("$[").into_iter().chain(rest.find("${")).min() {
            if begin > 0 {
                parts.push(Part::Literal(rest[..begin].to_owned()));
            }
            let is_expression = rest[begin..].starts_with("$[");
            let close = if is_expression { ']' } else { '}' };
            let Some(length) = rest[begin..].find(close) else {
                return Err(format!("{:?} has no `{close}`", &rest[begin..]));
            };
            let (whole, inner) = (&rest[begin..=begin + length], &rest[begin + 2..begin + length]);
            parts.push(match is_expression {
                true => {
                    Part::Expression(Expression::parse(inner).map_err(|error| format!("{whole}: {error}"))?)
                }
                false => Part::Parameter(parameter_name(inner).ok_or_else(|| {
                    format!("{whole}: use letters, digits, `_` and `.` in the name of a parameter")
                })?),
            });
            rest = &rest[begin + length + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { text: text.into(), parts })
    }

    /// Parses the value of a parameter, which may also be `$bizdate` or `$cyctime`.
    ///
    /// # Errors
    /// The problem with an expression or a parameter.
    pub fn parse_value(text: &str) -> Result<Self, String> {
        match text.strip_prefix('$').filter(|name| matches!(*name, "bizdate" | "cyctime")) {
            Some(name) => Ok(Self { text: text.into(), parts: vec![Part::Parameter(name.into())] }),
            None => Self::parse(text),
        }
    }

    /// Returns the text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if the text has no parameters and expressions.
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Returns the text with the values of its parameters and expressions.
    ///
    /// # Errors
    /// If a parameter has no value, or a value is out of range.
    pub fn evaluate(&self, context: Context<'_>) -> Result<String, String> {
        Ok(self.resolve(context)?.text)
    }

    fn resolve(&self, context: Context<'_>) -> Result<Formatted, String> {
        self.resolve_nested(context, 0, &mut 0)
    }

    fn resolve_nested(
        &self,
        context: Context<'_>,
        depth: usize,
        replaced: &mut usize,
    ) -> Result<Formatted, String> {
        if let [part] = &*self.parts {
            return part.resolve(context, depth, replaced);
        }
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.resolve(context, depth, replaced)?.text);
        }
        Ok(Formatted { text, moment: None })
    }

    /// Evaluates the text to a time: `yyyyMMddHHmmss`, or `yyyyMMdd` for the start of a day, in the time zone.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and if the value is no time.
    pub fn evaluate_time(&self, context: Context<'_>) -> Result<DateTime<Utc>, String> {
        let Formatted { text, moment } = self.resolve(context)?;
        match moment {
            Some(moment) => Ok(moment),
            None => parse_time(&text, context.zone),
        }
    }
}

impl Part {
    fn resolve(&self, context: Context<'_>, depth: usize, replaced: &mut usize) -> Result<Formatted, String> {
        let Context { scheduled, zone, parameters } = context;
        let name = match self {
            Self::Literal(text) => return Ok(Formatted { text: text.clone(), moment: None }),
            Self::Expression(expression) => return expression.evaluate(scheduled, zone),
            Self::Parameter(name) => name,
        };
        if depth == MAX_DEPTH {
            return Err(format!("the value of ${{{name}}} refers to itself"));
        }
        *replaced += 1;
        if *replaced > MAX_REPLACED {
            return Err(format!("more than {MAX_REPLACED} parameters are to be replaced: use fewer"));
        }
        if let Some(value) = parameters.get(name) {
            return value.resolve_nested(context, depth + 1, replaced);
        }
        let system = SYSTEM.iter().find(|(system, _)| system == name);
        let expression = match system {
            Some((_, expression)) => Some(Expression::parse(expression)?),
            None => Expression::parse_business_date(name),
        };
        match (expression, system) {
            (Some(expression), Some(_)) => expression.evaluate(scheduled, zone),
            // `${yyyymmdd}` is the business date: the day before the scheduled time.
            (Some(expression), None) => {
                let day_before = zone.moment(zone.local(scheduled) - chrono::TimeDelta::days(1));
                expression.evaluate(day_before, zone)
            }
            _ => Err(format!(
                "parameter ${{{name}}} has no value: add it to `parameters`, or give it to the run, as in --param {name}=VALUE"
            )),
        }
    }
}

/// Returns the name of a parameter, if it is valid. Formats of the business date may have separators and an offset.
fn parameter_name(text: &str) -> Option<String> {
    let name = text.trim();
    let is_name = !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'));
    (is_name || Expression::parse_business_date(name).is_some()).then(|| name.to_owned())
}

/// Parses `yyyyMMddHHmmss` or `yyyyMMdd` in a time zone.
///
/// # Errors
/// If the text is no such time.
pub fn parse_time(text: &str, zone: TimeZone) -> Result<DateTime<Utc>, String> {
    let wrong = || {
        format!(
            "{text:?} is no time: use yyyyMMddHHmmss, as in 20261201000000, or yyyyMMdd for the start of a day"
        )
    };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let local = match text.len() {
        14 => NaiveDateTime::parse_from_str(text, "%Y%m%d%H%M%S").map_err(|_| wrong())?,
        8 => {
            return NaiveDate::parse_from_str(text, "%Y%m%d")
                .map(|day| zone.start_of_day(day))
                .map_err(|_| wrong());
        }
        _ => return Err(wrong()),
    };
    Ok(zone.moment(local))
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(values: &[(&str, &str)]) -> BTreeMap<String, Template> {
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Template::parse_value(value).unwrap()))
            .collect()
    }

    fn value(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
        let parameters = parameters(values);
        let scheduled = "2026-12-01T00:10:00Z".parse().unwrap();
        let context = Context { scheduled, zone: "Asia/Shanghai".parse().unwrap(), parameters: &parameters };
        Template::parse(template)?.evaluate(context)
    }

    #[test]
    fn replaces_parameters_and_expressions() {
        let given = [
            ("startTime", "$[yyyymmddhh24miss-10/24/60]"),
            ("day", "$bizdate"),
            ("region", "cn"),
            ("r", "${region}-1"),
        ];
        for (template, expected) in [
            ("pt=${bdp.system.bizdate}", "pt=20261130"),
            ("${bizdate}", "20261130"),
            ("${bdp.system.cyctime}", "20261201081000"),
            ("${startTime}", "20261201080000"),
            ("pt=${day},r=${r},hh=$[hh24-1/24]", "pt=20261130,r=cn-1,hh=07"),
            ("${yyyymmdd}", "20261130"),
            ("${yyyymmdd-1}", "20261129"),
            ("${yyyy-mm-dd}", "2026-11-30"),
            ("${yyyymm-1}", "202610"),
            ("no $ parameter }]", "no $ parameter }]"),
            ("", ""),
        ] {
            assert_eq!(value(template, &given).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn names_the_parameter_without_value() {
        let problem = value("pt=${ds}", &[]).unwrap_err();
        assert!(problem.contains("${ds} has no value") && problem.contains("--param ds=VALUE"), "{problem}");
        let problem = value("${a}", &[("a", "${b}"), ("b", "${a}")]).unwrap_err();
        assert!(problem.contains("refers to itself"), "{problem}");
        for (template, problem) in [
            ("${ds", "no `}`"),
            ("$[yyyymmdd", "no `]`"),
            ("${}", "use letters"),
            ("${a b}", "use letters"),
            ("$[xx]", "no unit"),
        ] {
            assert!(value(template, &[]).unwrap_err().contains(problem), "{template}");
        }
    }

    #[test]
    fn parameters_that_multiply_are_rejected() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let mut values: Vec<_> =
            names.windows(2).map(|pair| (pair[0], format!("${{{}}}", pair[1]).repeat(100))).collect();
        values.push(("g", String::new()));
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert!(value("${a}", &values).unwrap_err().contains("more than 1000 parameters"));
        assert_eq!(value("${f}", &values).as_deref(), Ok(""));
    }

    #[test]
    fn own_parameter_overrides_system_parameter() {
        assert_eq!(value("${bizdate}", &[("bizdate", "20200101")]).as_deref(), Ok("20200101"));
    }

    #[test]
    fn parses_times() {
        let zone = "Asia/Shanghai".parse().unwrap();
        let shown = |text| parse_time(text, zone).map(|time| time.to_rfc3339());
        assert_eq!(shown("20261201080000").as_deref(), Ok("2026-12-01T00:00:00+00:00"));
        assert_eq!(shown("20261201").as_deref(), Ok("2026-11-30T16:00:00+00:00"));
        for wrong in [
            "",
            "2026",
            "2026120108",
            "20261301",
            "20261201250000",
            "2026-12-01",
            "+2026120",
            "２０２６１２０１",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}

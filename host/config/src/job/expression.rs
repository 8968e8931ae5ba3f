//! Scheduling expressions: `$[yyyymmddhh24miss-10/24/60]`, a format and an offset from the scheduled time.
//!
//! Offsets in days and months follow the calendar of the time zone. Offsets in hours, minutes and seconds are elapsed
//! time, so that the windows of successive runs join when daylight saving begins or ends.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Months, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use logship_batch::time_zone::TimeZone;

/// The largest offset, in days, and the largest one in months.
const MAX_DAYS: i64 = 36_600;
const MAX_MONTHS: i64 = 1200;

/// The first and the last year that an expression may give.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    format: Vec<Part>,
    offset: Offset,
}

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Year,
    Month,
    Day,
    Hour,
    /// The hour from 01 to 12.
    Hour12,
    Minute,
    Second,
    Literal(char),
}

/// The units by which formats name the parts of a time. Longer ones come first.
const UNITS: [(&str, Part); 7] = [
    ("yyyy", Part::Year),
    ("hh24", Part::Hour),
    ("hh12", Part::Hour12),
    ("mm", Part::Month),
    ("dd", Part::Day),
    ("mi", Part::Minute),
    ("ss", Part::Second),
];

/// An offset from the scheduled time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Offset {
    months: i64,
    days: i64,
    seconds: i64,
}

/// The value of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    /// The text.
    pub text: String,
    /// The moment, if the text has its date and time to the second. A text alone is ambiguous when daylight saving ends.
    pub moment: Option<DateTime<Utc>>,
}

impl Expression {
    /// Parses the text between `$[` and `]`.
    ///
    /// # Errors
    /// The problem, and the valid forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (format, offset) = match text.strip_prefix("add_months(").map(|inner| inner.strip_suffix(')')) {
            Some(Some(inner)) => add_months(inner)?,
            Some(None) => return Err("`add_months(` has no `)` at the end".into()),
            None => split(text)?,
        };
        Ok(Self { format: parse_format(format.trim())?, offset })
    }

    /// Parses an expression of the business date, as in `${yyyymmdd-1}`: the offset counts the last unit of the format,
    /// years, months or days. Returns `None` if it is no such expression.
    pub fn parse_business_date(text: &str) -> Option<Self> {
        let (format, mut offset) = split(text).ok()?;
        let format = parse_format(format).ok()?;
        let last = format.iter().rfind(|part| !matches!(part, Part::Literal(_)))?;
        offset = match (last, offset) {
            (_, Offset { seconds, .. }) if seconds != 0 => return None,
            (Part::Year, Offset { days, .. }) => {
                Offset { months: days.checked_mul(12)?, ..Offset::default() }
            }
            (Part::Month, Offset { days, .. }) => Offset { months: days, ..Offset::default() },
            (Part::Day, offset) => offset,
            _ => return None,
        };
        Some(Self { format, offset })
    }

    /// Returns the value at a time.
    ///
    /// # Errors
    /// If the result is out of range.
    pub fn evaluate(&self, time: DateTime<Utc>, zone: TimeZone) -> Result<Formatted, String> {
        let Offset { months, days, seconds } = self.offset;
        let out_of_range = || "the offset gives a time before 1970 or after 9999".to_owned();
        let mut moment = time;
        if months != 0 || days != 0 {
            let local = shift(zone.local(moment), months, days).ok_or_else(out_of_range)?;
            if !YEARS.contains(&local.year()) {
                return Err(out_of_range());
            }
            moment = zone.moment(local);
        }
        moment = moment.checked_add_signed(TimeDelta::seconds(seconds)).ok_or_else(out_of_range)?;
        let local = zone.local(moment);
        if !YEARS.contains(&local.year()) {
            return Err(out_of_range());
        }
        Ok(Formatted { text: self.format(local), moment: self.is_complete().then_some(moment) })
    }

    /// Returns true if the format shows a complete time, as the digits `yyyyMMddHHmmss`.
    fn is_complete(&self) -> bool {
        use Part::{Day, Hour, Minute, Month, Second, Year};
        self.format == [Year, Month, Day, Hour, Minute, Second]
    }

    fn format(&self, time: NaiveDateTime) -> String {
        let mut text = String::new();
        for part in &self.format {
            // Writing to a string never fails.
            let _ = match part {
                Part::Year => write!(text, "{:04}", time.year()),
                Part::Month => write!(text, "{:02}", time.month()),
                Part::Day => write!(text, "{:02}", time.day()),
                Part::Hour => write!(text, "{:02}", time.hour()),
                Part::Hour12 => write!(text, "{:02}", time.hour12().1),
                Part::Minute => write!(text, "{:02}", time.minute()),
                Part::Second => write!(text, "{:02}", time.second()),
                Part::Literal(letter) => write!(text, "{letter}"),
            };
        }
        text
    }
}

fn shift(time: NaiveDateTime, months: i64, days: i64) -> Option<NaiveDateTime> {
    let count = Months::new(months.unsigned_abs().try_into().ok()?);
    let shifted = if months < 0 { time.checked_sub_months(count)? } else { time.checked_add_months(count)? };
    shifted.checked_add_signed(TimeDelta::try_days(days)?)
}

/// Splits `FORMAT,N` of `add_months(FORMAT,N)`.
fn add_months(inner: &str) -> Result<(&str, Offset), String> {
    let (format, count) =
        inner.rsplit_once(',').ok_or("`add_months` needs a format and a number: add_months(yyyymm,-1)")?;
    let count = count.trim();
    let months = product(count.strip_prefix('+').unwrap_or(count))
        .filter(|months| (-MAX_MONTHS..=MAX_MONTHS).contains(months))
        .ok_or_else(|| format!("{count:?} is no number of months: use a number such as -1, or 12*-1"))?;
    Ok((format, Offset { months, ..Offset::default() }))
}

/// Splits a format and the offsets behind it: each a sign, a number of days, and `/24`, `/24/60` or `/24/60/60` for hours,
/// minutes or seconds.
fn split(text: &str) -> Result<(&str, Offset), String> {
    let (mut format, mut offset) = (text, Offset::default());
    while let Some((before, term)) = last_term(format) {
        let negative = term.starts_with('-');
        let (count, unit) = match term[1..].split_once('/') {
            Some((count, unit)) => (count, unit),
            None => (&term[1..], ""),
        };
        let unit: String = unit.chars().filter(|letter| !letter.is_whitespace()).collect();
        let seconds = match &*unit {
            "" => None,
            "24" => Some(3600),
            "24/60" | "1440" => Some(60),
            "24/60/60" | "24/3600" | "1440/60" | "86400" => Some(1),
            other => {
                return Err(format!(
                    "the unit `/{other}` is unknown: a number alone counts days, `/24` hours, `/24/60` minutes, and `/24/60/60` seconds"
                ));
            }
        };
        let too_large = || format!("the offset {term:?} is too large: use up to {MAX_DAYS} days");
        let count = product(count).ok_or_else(too_large)?;
        let count = if negative { -count } else { count };
        match seconds {
            None => offset.days = offset.days.checked_add(count).ok_or_else(too_large)?,
            Some(unit) => {
                let seconds = count.checked_mul(unit).ok_or_else(too_large)?;
                offset.seconds = offset.seconds.checked_add(seconds).ok_or_else(too_large)?;
            }
        }
        if offset.days.abs() > MAX_DAYS || offset.seconds.abs() > MAX_DAYS * 86_400 {
            return Err(too_large());
        }
        format = before;
    }
    Ok((format, offset))
}

/// Finds the last offset of a text: a sign, a digit, and only digits, `*`, `/` and spaces behind it.
fn last_term(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let is_term = |letter: char| letter.is_ascii_digit() || matches!(letter, '*' | '/' | ' ');
    let sign = text.rfind(|letter| !is_term(letter))?;
    let rest = text[sign..].strip_prefix(['-', '+'])?;
    rest.trim_start().starts_with(|first: char| first.is_ascii_digit()).then(|| text.split_at(sign))
}

/// Returns the product of numbers: `7*2`.
fn product(text: &str) -> Option<i64> {
    text.split('*').try_fold(1_i64, |product, factor| product.checked_mul(factor.trim().parse().ok()?))
}

fn parse_format(text: &str) -> Result<Vec<Part>, String> {
    let lower = text.to_ascii_lowercase();
    let (mut rest, mut parts) = (&*lower, vec![]);
    while let Some(first) = rest.chars().next() {
        if let Some((unit, part)) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit)) {
            let is_after_hour = matches!(parts.last(), Some(Part::Hour | Part::Hour12));
            if *part == Part::Month && is_after_hour {
                return Err("`mm` is the month: minutes are `mi`".into());
            }
            parts.push(part.clone());
            rest = &rest[unit.len()..];
        } else if rest.starts_with("hh") {
            // As in Oracle's formats, where it counts to 12, it would make two hours of a day one.
            return Err("`hh` is ambiguous: use `hh24`, or `hh12`".into());
        } else if first.is_ascii_alphanumeric() {
            return Err(format!(
                "`{rest}` is no unit of time: use yyyy, mm (month), dd, hh24, mi (minute) and ss, and an offset such as -1 or -10/24/60"
            ));
        } else {
            parts.push(Part::Literal(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    if !parts.iter().any(|part| !matches!(part, Part::Literal(_))) {
        return Err("the expression has no format: use one such as yyyymmdd".into());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at a local time of a zone.
    fn value(expression: &str, zone: &str, time: &str) -> String {
        let time: DateTime<Utc> = time.parse().unwrap();
        match Expression::parse(expression).and_then(|parsed| parsed.evaluate(time, zone.parse().unwrap())) {
            Ok(formatted) => formatted.text,
            Err(problem) => format!("error: {problem}"),
        }
    }

    #[test]
    fn offsets_count_days_hours_minutes_and_seconds() {
        let at = "2026-12-01T00:03:20Z";
        for (expression, expected) in [
            ("yyyymmddhh24miss", "20261201080320"),
            ("yyyymmddhh24miss-10/24/60", "20261201075320"),
            ("yyyymmddhh24miss - 10/24/60", "20261201075320"),
            ("yyyymmddhh24miss-5/24/60/60", "20261201080315"),
            ("yyyymmddhh24miss-1/24-10/24/60", "20261201065320"),
            ("hh24-1/24", "07"),
            ("hh24-9/24", "23"),
            ("hh12+12/24", "08"),
            ("yyyymmdd-1", "20261130"),
            ("yyyymmdd+7*2", "20261215"),
            ("yyyymmdd-9/24", "20261130"),
            ("yyyy-mm-dd", "2026-12-01"),
            ("yyyy-mm-dd-1", "2026-11-30"),
            ("yyyy-mm-dd hh24:mi:ss-1/24", "2026-12-01 07:03:20"),
            ("YYYYMMDD", "20261201"),
            ("yyyymmdd-hh24", "20261201-08"),
            ("add_months(yyyymmdd,-1)", "20261101"),
            ("add_months(yyyymm, 12*-1)", "202512"),
            ("add_months(yyyymmdd,+3)", "20270301"),
            ("mm", "12"),
            ("yyyymmdd-20700", "19700330"),
        ] {
            assert_eq!(value(expression, "Asia/Shanghai", at), expected, "{expression}");
        }
    }

    #[test]
    fn months_end_within_shorter_months() {
        assert_eq!(value("add_months(yyyymmdd,-1)", "UTC", "2026-03-31T12:00:00Z"), "20260228");
        assert_eq!(value("add_months(yyyymmdd,-1)", "UTC", "2028-03-30T12:00:00Z"), "20280229");
    }

    #[test]
    fn rejects_invalid_expressions() {
        for (expression, problem) in [
            ("", "has no format"),
            ("-1", "has no format"),
            ("yyyymmddhhmiss", "`hh` is ambiguous"),
            ("yyyyMMddHH24mmss", "minutes are `mi`"),
            ("yyyymmdd-1/7", "unit `/7` is unknown"),
            ("yyyymmdd-1/24/60/60/60", "is unknown"),
            ("yyyymmdd-999999", "too large"),
            ("yyyymmdd-99999999999999999999", "too large"),
            ("yyyymmdd-1--1", "is no unit"),
            ("yyyymmddx", "`x` is no unit"),
            ("now()", "is no unit"),
            ("add_months(yyyymm)", "needs a format"),
            ("add_months(yyyymm,-1", "no `)`"),
            ("add_months(yyyymm,x)", "no number of months"),
            ("add_months(yyyymm,-9223372036854775808)", "no number of months"),
            ("yyyymmdd-36500", "before 1970"),
        ] {
            let shown = value(expression, "UTC", "2026-12-01T00:00:00Z");
            assert!(shown.starts_with("error: ") && shown.contains(problem), "{expression}: {shown}");
        }
    }

    #[test]
    fn elapsed_offsets_cross_daylight_saving_and_days_keep_the_clock() {
        let zone = "America/New_York";
        // The clock goes from 02:00 to 03:00 on March 8, and from 02:00 to 01:00 on November 1.
        assert_eq!(value("yyyymmddhh24miss-10/24/60", zone, "2026-03-08T07:05:00Z"), "20260308015500");
        assert_eq!(value("yyyymmddhh24miss-1", zone, "2026-03-09T06:30:00Z"), "20260308030000");
        assert_eq!(value("yyyymmddhh24miss-1", zone, "2026-03-08T16:00:00Z"), "20260307120000");
        let parsed = Expression::parse("yyyymmddhh24miss-10/24/60").unwrap();
        let at = |time: &str| parsed.evaluate(time.parse().unwrap(), zone.parse().unwrap()).unwrap();
        // The same text twice, and two moments.
        let (first, second) = (at("2026-11-01T05:40:00Z"), at("2026-11-01T06:40:00Z"));
        assert_eq!([first.text, second.text], ["20261101013000", "20261101013000"]);
        assert_eq!(second.moment.unwrap() - first.moment.unwrap(), TimeDelta::hours(1));
    }

    #[test]
    fn business_date_counts_the_last_unit() {
        let at = |text: &str| {
            let parsed = Expression::parse_business_date(text)?;
            Some(parsed.evaluate("2026-03-31T00:00:00Z".parse().unwrap(), TimeZone::default()).unwrap().text)
        };
        assert_eq!(at("yyyymmdd").as_deref(), Some("20260331"));
        assert_eq!(at("yyyymmdd-1").as_deref(), Some("20260330"));
        assert_eq!(at("yyyymm-1").as_deref(), Some("202602"));
        assert_eq!(at("yyyy+1").as_deref(), Some("2027"));
        assert_eq!([at("startTime"), at("hh24"), at("yyyymmdd-1/24"), at("")], [None, None, None, None]);
    }
}

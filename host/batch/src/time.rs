//! Parses the timestamps that logs contain.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, FixedOffset, NaiveDateTime};

/// A log's time: Unix seconds, and nanoseconds within the second.
pub type Time = (u32, u32);

/// Returns the current time.
pub fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs().try_into().unwrap_or(u32::MAX), now.subsec_nanos())
}

/// Parses a timestamp. Returns `None` if it has none of these forms:
///
/// - RFC 3339, such as `2017-01-20T19:50:43.351+08:00`. A space may replace the `T`, a comma may precede the
///   fraction, and the offset may be `+0800`, ` +08:00` or ` UTC`. Without an offset the time is UTC.
/// - Unix time in seconds (up to 10 digits), milliseconds (13 digits), microseconds (16) or nanoseconds (19), with an
///   optional fraction. An exponent is resolved first: `1.484913043e9` has 10 digits.
///
/// White space around it is ignored.
pub fn parse(text: &str) -> Option<Time> {
    let text = text.trim_ascii();
    epoch(text).or_else(|| rfc3339(text))
}

fn epoch(text: &str) -> Option<Time> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !is_digits(integer) || !is_digits(fraction) {
        return epoch_with_exponent(text);
    }
    let number: u64 = integer.parse().ok()?;
    // Digits of the integer that are a fraction of a second.
    let subsecond_digits = match integer.len() {
        ..=10 => 0,
        13 => 3,
        16 => 6,
        19 => 9,
        // 14 digits are more likely a date such as 20170120195043 than a Unix time.
        _ => return None,
    };
    let unit = 10_u64.pow(subsecond_digits);
    let subseconds = number % unit * 10_u64.pow(9 - subsecond_digits);
    let nanos = subseconds + fraction_nanos(fraction) / unit;
    Some(((number / unit).try_into().ok()?, nanos as u32))
}

/// Parses a number such as `1.4849130433515e9`, as many JSON writers show large numbers.
#[cold]
fn epoch_with_exponent(text: &str) -> Option<Time> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let exponent: i8 = exponent.parse().ok()?;
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // A time has at most 20 digits.
    if integer.is_empty() || !(-20..=20).contains(&exponent) {
        return None;
    }
    let zeros = "0".repeat(20);
    let digits = [&zeros, integer, fraction, &zeros].concat();
    let (integer, fraction) =
        digits.split_at_checked((20 + integer.len()).checked_add_signed(exponent.into())?)?;
    // Without zeros in front, which would count as digits of a unit.
    let integer = integer.trim_start_matches('0');
    epoch(&format!("{}.{fraction}", if integer.is_empty() { "0" } else { integer }))
}

/// Converts the first nine digits of a fraction to nanoseconds.
fn fraction_nanos(digits: &str) -> u64 {
    let digits = &digits[..digits.len().min(9)];
    digits.parse::<u64>().unwrap_or(0) * 10_u64.pow(9 - digits.len() as u32)
}

/// The characters of a date.
const DATE_CHARS: usize = "2017-01-20".len();

fn rfc3339(text: &str) -> Option<Time> {
    let with_offset =
        |text: &str| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z").map(|time| time.to_utc());
    let without =
        |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc());
    let time = DateTime::<FixedOffset>::parse_from_rfc3339(text).map(|time| time.to_utc()).or_else(|_| {
        // Logstash and log4j write a comma before the fraction and an offset without a colon. PostgreSQL and Ruby write
        // the name of the zone, and Go both an offset and a name.
        let text = text.strip_suffix(" UTC").unwrap_or(text).replace(',', ".");
        let text = match text.split_at_checked(DATE_CHARS) {
            Some((date, rest)) if rest.starts_with(' ') => format!("{date}T{}", &rest[1..]),
            _ => text,
        };
        with_offset(&text).or_else(|_| without(&text))
    });
    let time = time.ok()?;
    Some((time.timestamp().try_into().ok()?, time.timestamp_subsec_nanos().min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn parses_common_timestamps() {
        let cases = [
            ("1484913043", Some((1_484_913_043, 0))),
            ("1484913043.35", Some((1_484_913_043, 350_000_000))),
            ("1484913043.3513515259", Some((1_484_913_043, 351_351_525))),
            ("1484913043351", Some((1_484_913_043, 351_000_000))),
            ("1484913043351525", Some((1_484_913_043, 351_525_000))),
            ("1484913043351525351", Some((1_484_913_043, 351_525_351))),
            ("0", Some((0, 0))),
            ("4294967295", Some((u32::MAX, 0))),
            ("4294967296", None),
            ("2017-01-20T19:50:43+08:00", Some((1_484_913_043, 0))),
            ("2017-01-20T11:50:43.351Z", Some((1_484_913_043, 351_000_000))),
            ("2017-01-20 11:50:43", Some((1_484_913_043, 0))),
            ("2017-01-20T11:50:43.5", Some((1_484_913_043, 500_000_000))),
            ("2017-01-20 19:50:43,351 +0800", Some((1_484_913_043, 351_000_000))),
            ("2017-01-20T19:50:43,351+0800", Some((1_484_913_043, 351_000_000))),
            ("2017-01-20T19:50:43.351 +08:00", Some((1_484_913_043, 351_000_000))),
            ("2017-01-20 11:50:43.5 UTC", Some((1_484_913_043, 500_000_000))),
            ("2017-01-20 11:50:43 +0000 UTC", Some((1_484_913_043, 0))),
            (" 1484913043\t", Some((1_484_913_043, 0))),
            (" 2017-01-20 11:50:43 ", Some((1_484_913_043, 0))),
            ("2017-01-20  11:50:43 CET", None),
            ("2017-01-2\u{e9} 11:50:43", None),
            ("14849 13043", None),
            ("20170120195043", None),
            ("1484913043351.5", Some((1_484_913_043, 351_500_000))),
            ("1484913043351.0", Some((1_484_913_043, 351_000_000))),
            ("1484913043351525.25", Some((1_484_913_043, 351_525_250))),
            ("1484913043351525351.9", Some((1_484_913_043, 351_525_351))),
            ("1.484913043e9", Some((1_484_913_043, 0))),
            ("1.48491304335e+09", Some((1_484_913_043, 350_000_000))),
            ("1.484913043351E12", Some((1_484_913_043, 351_000_000))),
            ("14849130433515E-4", Some((1_484_913_043, 351_500_000))),
            ("0.0001484913043351e16", Some((1_484_913_043, 351_000_000))),
            ("1e9", Some((1_000_000_000, 0))),
            ("1e400", None),
            ("1e99999999999999999999", None),
            ("1e-9", Some((0, 1))),
            ("e9", None),
            (".e9", None),
            ("1e", None),
            ("1.5.5e9", None),
            ("1e5e5", None),
            ("1ee5", None),
            ("-1e9", None),
            ("1.\u{e9}e9", None),
            ("1969-12-31T23:59:59Z", None),
            ("2017-01-20", None),
            ("yesterday", None),
            ("-1", None),
            ("", None),
            (".5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

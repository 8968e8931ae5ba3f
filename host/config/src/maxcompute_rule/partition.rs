//! Values of partitions: the log's time in a format.

use std::fmt::Write as _;

use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::TimeZone;

/// The reserved field whose value is the log's time in the format of partitions.
pub const PARTITION_TIME: &str = "__partition_time__";

/// The longest value of a partition, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// The style of a time format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TimeFormatType {
    /// `%Y_%m_%d`.
    #[default]
    StrfTimeFormat,
    /// `yyyy_MM_dd`.
    JavaSimpleDateFormat,
}

/// An unreadable time format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{format:?} is not a time format: {problem}")]
pub struct PartitionFormatError {
    /// The format.
    pub format: String,
    /// The unreadable part.
    pub problem: String,
}

/// Formats the time of logs as values of partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionFormat {
    items: Vec<Item<'static>>,
    seconds: u64,
    zone: TimeZone,
}

impl PartitionFormat {
    /// Parses a format. Times are rounded down to multiples of `seconds` in the time zone.
    ///
    /// # Errors
    /// When the format can't be read, or makes values that are none of partitions.
    pub fn new(
        format: &str,
        style: TimeFormatType,
        seconds: u64,
        zone: TimeZone,
    ) -> Result<Self, PartitionFormatError> {
        let wrong = |problem: String| PartitionFormatError { format: format.into(), problem };
        let pattern = match style {
            TimeFormatType::StrfTimeFormat => format.to_owned(),
            TimeFormatType::JavaSimpleDateFormat => strftime_of(format).map_err(wrong)?,
        };
        let items = StrftimeItems::new(&pattern).parse_to_owned();
        let items = items.map_err(|_| wrong("use letters such as %Y, %m, %d, %H and %M".into()))?;
        let made = Self { items, seconds: seconds.max(1), zone };
        match made.value(1_764_489_780) {
            value if is_partition_value(&value) => Ok(made),
            value => Err(wrong(format!("it makes {value:?}, and values of partitions {VALID}"))),
        }
    }

    /// Returns the value for a log's time, in Unix seconds.
    pub fn value(&self, time: u32) -> String {
        let Some(moment) = DateTime::from_timestamp(time.into(), 0) else { return String::new() };
        let offset = i64::from(self.zone.offset(moment));
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        let local = (i64::from(time) + offset).div_euclid(seconds).saturating_mul(seconds);
        let local = DateTime::from_timestamp(local, 0).unwrap_or(moment).naive_utc();
        let mut value = String::new();
        // An item that has no value for a local time, such as a zone, makes an empty value, which is rejected.
        match write!(value, "{}", local.format_with_items(self.items.iter())) {
            Ok(()) => value,
            Err(_) => String::new(),
        }
    }
}

/// The valid values of partitions, for errors.
pub(super) const VALID: &str = "have 1-255 bytes of letters, digits, spaces and -_:$#.!@";

/// Returns true if a text can be the value of a partition.
pub fn is_partition_value(value: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_ :$#.!@".contains(&byte);
    !value.is_empty()
        && value.len() <= MAX_VALUE_BYTES
        && value.trim() == value
        && value.bytes().all(is_allowed)
}

/// Converts a format of Java's `SimpleDateFormat`.
fn strftime_of(format: &str) -> Result<String, String> {
    let (mut made, mut rest) = (String::new(), format);
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let quoted = rest[1..].split_once('\'').ok_or("a quote is not closed")?;
            made.push_str(&if quoted.0.is_empty() { "'".into() } else { quoted.0.replace('%', "%%") });
            rest = quoted.1;
            continue;
        }
        let count = rest.chars().take_while(|letter| *letter == first).count();
        let run = &rest[..count * first.len_utf8()];
        rest = &rest[run.len()..];
        if !first.is_ascii_alphabetic() {
            made.push_str(&run.replace('%', "%%"));
            continue;
        }
        made.push_str(match run {
            "yyyy" | "YYYY" => "%Y",
            "yy" => "%y",
            "MM" => "%m",
            "dd" => "%d",
            "HH" => "%H",
            "mm" => "%M",
            "ss" => "%S",
            other => return Err(format!("{other} is not supported: use yyyy, yy, MM, dd, HH, mm and ss")),
        });
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeFormatType::{JavaSimpleDateFormat, StrfTimeFormat};

    fn value(format: &str, style: TimeFormatType, seconds: u64, zone: &str) -> Result<String, String> {
        let format = PartitionFormat::new(format, style, seconds, zone.parse().unwrap());
        // 2017-05-19 10:43:00 UTC.
        format.map(|format| format.value(1_495_190_580)).map_err(|error| error.to_string())
    }

    #[test]
    fn rounds_down_in_the_time_zone() {
        let strf = |seconds, zone| value("%Y_%m_%d_%H_%M", StrfTimeFormat, seconds, zone).unwrap();
        assert_eq!(strf(3600, "+00:00"), "2017_05_19_10_00");
        assert_eq!(strf(1800, "+00:00"), "2017_05_19_10_30");
        assert_eq!(strf(3600, "+08:00"), "2017_05_19_18_00");
        assert_eq!(strf(3600, "+05:30"), "2017_05_19_16_00", "the local hour is rounded, not UTC's");
        assert_eq!(strf(1, "Asia/Shanghai"), "2017_05_19_18_43");
        let java = |format| value(format, JavaSimpleDateFormat, 3600, "+00:00");
        assert_eq!(java("yyyy_MM_dd_HH_mm").unwrap(), "2017_05_19_10_00");
        assert_eq!(java("'pt'yyMMdd").unwrap(), "pt170519");
    }

    #[test]
    fn rejects_unreadable_formats_and_values() {
        let problem = |format, style| value(format, style, 1800, "+00:00").unwrap_err();
        assert!(problem("%Q", StrfTimeFormat).contains("%Y"));
        assert!(problem("%Y/%m", StrfTimeFormat).contains("values of partitions"));
        assert!(problem("", StrfTimeFormat).contains("values of partitions"));
        assert!(problem("%Z", StrfTimeFormat).contains("values of partitions"));
        assert!(problem("yyyy_EEE", JavaSimpleDateFormat).contains("EEE"));
        assert!(problem("yyyy'x", JavaSimpleDateFormat).contains("quote"));
        assert!(problem("yyyy'%m'", JavaSimpleDateFormat).contains("2025%m"));
    }
}

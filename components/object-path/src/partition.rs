use chrono::{DateTime, FixedOffset};
use logship_stage::{Error, Result};

/// The supported specifiers of a partition format.
const SUPPORTED: &str = "%Y %C %y %m %B %b %h %d %j %F %a %A %u %w %U %W %G %g %V %H %I %p %M %S %s %z %%";

/// Renders a partition format at `nanos` since the Unix epoch; `utc_offset` is in seconds east of UTC.
pub(crate) fn render(format: &str, nanos: u64, utc_offset: i32) -> Result<String> {
    let format = to_chrono(format)?;
    let zone = FixedOffset::east_opt(utc_offset).ok_or_else(|| {
        invalid(format!("the UTC offset of {utc_offset} s is a day or more; use less than 86,400 s"))
    })?;
    let time = DateTime::from_timestamp((nanos / 1_000_000_000) as i64, 0)
        .ok_or_else(|| invalid(format!("{nanos} ns since 1970 is not a time")))?;
    Ok(time.with_timezone(&zone).format(&format).to_string())
}

/// Translates the format to chrono's. Rejects specifiers that only chrono knows; `%s` is the second, not the Unix time.
fn to_chrono(format: &str) -> Result<String> {
    let mut translated = String::with_capacity(format.len());
    let mut chars = format.char_indices();
    while let Some((at, char)) = chars.next() {
        translated.push(char);
        if char != '%' {
            continue;
        }
        match chars.next() {
            Some((_, 's')) => translated.push('S'),
            Some((_, specifier)) if SUPPORTED.contains(&format!("%{specifier}")) => {
                translated.push(specifier)
            }
            Some((_, other)) => {
                let problem =
                    format!("%{} at byte {at} of {format:?} is not supported", other.escape_debug());
                return Err(invalid(format!("{problem}; use one of {SUPPORTED}")));
            }
            None => {
                let problem = format!("{format:?} ends in a single %, at byte {at}");
                return Err(invalid(format!("{problem}; write %% for a percent sign")));
            }
        }
    }
    Ok(translated)
}

fn invalid(reason: String) -> Error {
    Error::config("partition-format", reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2017-01-20 19:50:43 at +08:00, a Friday.
    const FRIDAY: u64 = 1_484_913_043_351_525_351;

    #[test]
    fn specifiers_render_padded_and_in_english() {
        let cases = [
            ("%Y %C %y", "2017 20 17"),
            ("%m %B %b %h", "01 January Jan Jan"),
            ("%d %j %F", "20 020 2017-01-20"),
            ("%a %A %u %w", "Fri Friday 5 5"),
            ("%U %W", "03 03"),
            ("%G %g %V", "2017 17 03"),
            ("%H %I %p", "19 07 PM"),
            ("%M %S %s", "50 43 43"),
            ("%z %%", "+0800 %"),
            ("%%Y é/%%", "%Y é/%"),
            ("", ""),
        ];
        for (format, expected) in cases {
            assert_eq!(render(format, FRIDAY, 28_800).unwrap(), expected, "{format}");
        }
        let named: usize = cases.iter().map(|(format, _)| format.matches('%').count()).sum();
        assert!(named >= SUPPORTED.matches('%').count(), "a specifier has no case");
    }

    #[test]
    fn offset_changes_the_date() {
        let format = "%Y-%m-%d %H:%M:%S %z";
        assert_eq!(render(format, FRIDAY, -43_200).unwrap(), "2017-01-19 23:50:43 -1200");
        assert_eq!(render(format, 0, -3_600).unwrap(), "1969-12-31 23:00:00 -0100");
        assert_eq!(render(format, u64::MAX, 0).unwrap(), "2554-07-21 23:34:33 +0000");
        let error = render(format, FRIDAY, 86_400).unwrap_err().to_string();
        assert!(error.starts_with("partition-format: the UTC offset of 86400 s"), "{error}");
        assert!(render(format, FRIDAY, i32::MIN).is_err());
    }

    #[test]
    fn rejects_unsupported_specifiers_with_their_offset() {
        let invalid = |format| render(format, FRIDAY, 0).unwrap_err().to_string();
        let error = invalid("ds=%Y%q");
        assert!(
            error.starts_with(
                "partition-format: %q at byte 5 of \"ds=%Y%q\" is not supported; use one of %Y %C"
            ),
            "{error}"
        );
        assert!(invalid("%Y%").contains("ends in a single %, at byte 2"));
        for format in [
            "%c", "%x", "%X", "%e", "%D", "%T", "%f", "%Z", "%n", "%t", "%-d", "%_d", "%3f", "%:z", "%é",
            "% ",
        ] {
            assert!(invalid(format).contains("at byte 0"), "{format}");
        }
    }

    /// Returns year, month and day by counting days, month by month.
    fn date(days: u64) -> (u64, u64, u64) {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut left) = (1970, days);
        while left >= 365 + u64::from(leap(year)) {
            left -= 365 + u64::from(leap(year));
            year += 1;
        }
        let february = 28 + u64::from(leap(year));
        let mut month = 0;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            month += 1;
            if left < days {
                break;
            }
            left -= days;
        }
        (year, month, left + 1)
    }

    proptest! {
        #[test]
        fn dates_match_another_implementation(nanos: u64, offset in -86_399..86_400i32) {
            let seconds = (nanos / 1_000_000_000).saturating_add_signed(offset.into());
            prop_assume!(nanos / 1_000_000_000 >= u64::from(offset.unsigned_abs()));
            let (year, month, day) = date(seconds / 86_400);
            let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
            let expected = format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}");
            prop_assert_eq!(render("%Y/%m/%d %H:%M:%s", nanos, offset).unwrap(), expected);
        }

        #[test]
        fn any_format_is_rendered_or_rejected(format: String, nanos: u64, offset: i32) {
            let _ = render(&format, nanos, offset);
            let _ = render(&format!("%{format}%%"), nanos, offset % 86_400);
        }
    }
}

use chrono::{DateTime, FixedOffset};
use logship_stage::{Error, Result};

/// The specifiers that a partition format may have.
const SUPPORTED: &str = "%Y %C %y %m %B %b %h %d %j %F %a %A %u %w %U %W %G %g %V %H %I %p %M %S %s %z %%";

/// Renders a partition format at nanoseconds since the epoch, seconds east of UTC.
pub(crate) fn render(format: &str, nanos: u64, utc_offset: i32) -> Result<String> {
    let format = checked(format)?;
    let zone = FixedOffset::east_opt(utc_offset).ok_or_else(|| {
        refused(format!("a UTC offset of {utc_offset} s is a day or more; no time zone is that far from UTC"))
    })?;
    let time = DateTime::from_timestamp((nanos / 1_000_000_000) as i64, 0)
        .ok_or_else(|| refused(format!("{nanos} ns since 1970 is not a time")))?;
    Ok(time.with_timezone(&zone).format(&format).to_string())
}

/// The format in chrono's terms: it would take more specifiers than ours, and `%s` for the Unix time.
fn checked(format: &str) -> Result<String> {
    let mut checked = String::with_capacity(format.len());
    let mut chars = format.char_indices();
    while let Some((at, char)) = chars.next() {
        checked.push(char);
        if char != '%' {
            continue;
        }
        match chars.next() {
            Some((_, 's')) => checked.push('S'),
            Some((_, specifier)) if SUPPORTED.contains(&format!("%{specifier}")) => checked.push(specifier),
            Some((_, other)) => {
                let what = format!("%{} at byte {at} of {format:?} is not supported", other.escape_debug());
                return Err(refused(format!("{what}; {SUPPORTED} are")));
            }
            None => {
                let what = format!("{format:?} ends in a single %, at byte {at}");
                return Err(refused(format!("{what}; write %% for a percent sign")));
            }
        }
    }
    Ok(checked)
}

fn refused(reason: String) -> Error {
    Error::config("partition-format", reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2017-01-20 19:50:43 at +08:00, a Friday.
    const FRIDAY: u64 = 1_484_913_043_351_525_351;

    #[test]
    fn each_specifier_renders_padded_and_in_english() {
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
    fn the_offset_moves_the_date() {
        let format = "%Y-%m-%d %H:%M:%S %z";
        assert_eq!(render(format, FRIDAY, -43_200).unwrap(), "2017-01-19 23:50:43 -1200");
        assert_eq!(render(format, 0, -3_600).unwrap(), "1969-12-31 23:00:00 -0100");
        assert_eq!(render(format, u64::MAX, 0).unwrap(), "2554-07-21 23:34:33 +0000");
        let error = render(format, FRIDAY, 86_400).unwrap_err().to_string();
        assert!(error.starts_with("partition-format: a UTC offset of 86400 s"), "{error}");
        assert!(render(format, FRIDAY, i32::MIN).is_err());
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_place() {
        let refused = |format| render(format, FRIDAY, 0).unwrap_err().to_string();
        let error = refused("ds=%Y%q");
        assert!(
            error.starts_with("partition-format: %q at byte 5 of \"ds=%Y%q\" is not supported; %Y %C"),
            "{error}"
        );
        assert!(refused("%Y%").contains("ends in a single %, at byte 2"));
        for format in [
            "%c", "%x", "%X", "%e", "%D", "%T", "%f", "%Z", "%n", "%t", "%-d", "%_d", "%3f", "%:z", "%é",
            "% ",
        ] {
            assert!(refused(format).contains("at byte 0"), "{format}");
        }
    }

    /// The day of a date by counting days, month by month.
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
        fn dates_and_times_are_those_of_another_count(nanos: u64, offset in -86_399..86_400i32) {
            let seconds = (nanos / 1_000_000_000).saturating_add_signed(offset.into());
            prop_assume!(nanos / 1_000_000_000 >= u64::from(offset.unsigned_abs()));
            let (year, month, day) = date(seconds / 86_400);
            let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
            let expected = format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}");
            prop_assert_eq!(render("%Y/%m/%d %H:%M:%s", nanos, offset).unwrap(), expected);
        }

        #[test]
        fn any_format_is_rendered_or_refused(format: String, nanos: u64, offset: i32) {
            let _ = render(&format, nanos, offset);
            let _ = render(&format!("%{format}%%"), nanos, offset % 86_400);
        }
    }
}

//! Dates and times as text.

/// The seconds of a day.
const DAY: i64 = 86_400;

/// Parses `YYYY-MM-DD` as days since 1970.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let year = digits(&[y0, y1, y2, y3])?;
    let (month, day) = (digits(&[m0, m1])?, digits(&[d0, d1])?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        1..=12 => 31,
        _ => return None,
    };
    (1..=days).contains(&day).then(|| days_since_1970(year, month, day) as i32)
}

/// Parses `YYYY-MM-DD HH:MM:SS`, also with `T` between, a fraction of up to nine digits, and a zone (`Z` or `+08:00`). Returns
/// Unix seconds and nanoseconds. Without a zone, the time has `offset` seconds from UTC.
pub(crate) fn datetime(text: &[u8], offset: i64) -> Option<(i64, u32)> {
    let days = date(text.get(..10)?)?;
    let [b' ' | b'T', h0, h1, b':', m0, m1, b':', s0, s1] = *text.get(10..19)? else { return None };
    let (hour, minute, second) = (digits(&[h0, h1])?, digits(&[m0, m1])?, digits(&[s0, s1])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(&text[19..])?;
    let offset = match zone {
        [] => offset,
        zone => zone_offset(zone)?,
    };
    let seconds = i64::from(days) * DAY + hour * 3_600 + minute * 60 + second - offset;
    Some((seconds, nanos))
}

/// Parses an offset from UTC, `Z` or `+08:00`, as seconds.
pub(crate) fn zone_offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        b"Z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match *rest {
        [h0, h1, b':', m0, m1] | [h0, h1, m0, m1] => (digits(&[h0, h1])?, digits(&[m0, m1])?),
        [h0, h1] => (digits(&[h0, h1])?, 0),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Parses a fraction of a second, as nanoseconds, and returns the text after it.
pub(crate) fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let nanos = digits(&rest[..length])? * 10i64.pow(9 - length as u32);
    Some((nanos as u32, &rest[length..]))
}

/// Parses decimal digits, at most nine.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// Returns the days since 1970 of a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_dates_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2026-12-01", 20_788),
            ("2024-02-29", 19_782),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(date(text.as_bytes()), Some(days), "{text}");
        }
        for text in [
            "2023-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2026-1-1",
            "2026-12-01 ",
            "",
            "２026-12",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn parses_times_with_fraction_and_zone() {
        let at = |text: &str| datetime(text.as_bytes(), 8 * 3_600);
        assert_eq!(at("2026-12-01 08:00:00"), Some((1_796_083_200, 0)));
        assert_eq!(at("2026-12-01T00:00:00Z"), Some((1_796_083_200, 0)));
        assert_eq!(at("2026-12-01T00:00:00.5+00:00"), Some((1_796_083_200, 500_000_000)));
        assert_eq!(at("2026-12-01 01:30:00.000000001+0130"), Some((1_796_083_200, 1)));
        assert_eq!(at("1969-12-31 23:59:59.5-00:30"), Some((1_799, 500_000_000)));
        for text in [
            "2026-12-01",
            "2026-12-01 24:00:00",
            "2026-12-01 08:60:00",
            "2026-12-01 08:00:60",
            "2026-12-01 08:00",
            "2026-12-01 08:00:00.",
            "2026-12-01 08:00:00.1234567890",
            "2026-12-01 08:00:00 ",
            "2026-12-01 08:00:00+24:00",
            "2026-12-01 08:00:00 UTC",
            "1796083200",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}

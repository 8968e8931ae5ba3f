//! Converts a log's values to a column's type. Returns `None` for values that cannot be converted.

use std::str::FromStr;

use logship_stage::columns::Cell;

use crate::Kind;

/// Converts to an integer: decimal digits with an optional sign, in the range of the type.
#[inline(always)]
pub(crate) fn integer<T: FromStr + TryFrom<u32> + TryFrom<i64>>(cell: Cell<'_>) -> Option<T> {
    match cell {
        Cell::Missing => None,
        Cell::Number(number) => T::try_from(number).ok(),
        Cell::Bytes(bytes) => match short_integer(bytes) {
            Some(number) => T::try_from(number).ok(),
            None => std::str::from_utf8(bytes).ok()?.parse().ok(),
        },
    }
}

/// Parses an integer that is too short to overflow. Returns `None` if the standard library must parse the text.
#[inline(always)]
fn short_integer(bytes: &[u8]) -> Option<i64> {
    if !(1..=18).contains(&bytes.len()) {
        return None;
    }
    let (mut number, mut invalid) = (0i64, false);
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        invalid |= digit > 9;
        number = number * 10 + i64::from(digit & 15);
    }
    (!invalid).then_some(number)
}

/// Converts to a floating-point number: decimal or scientific notation, finite.
#[inline(always)]
pub(crate) fn float<T: FromStr + Into<f64> + Copy>(cell: Cell<'_>) -> Option<T> {
    let number: T = match cell {
        Cell::Missing => return None,
        Cell::Number(number) => itoa::Buffer::new().format(number).parse().ok()?,
        Cell::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok()?,
    };
    number.into().is_finite().then_some(number)
}

/// Returns true if a number has the digits of its text. A fraction may have as many digits as the shortest text of a
/// double: such texts come from doubles.
#[inline(always)]
pub(crate) fn keeps_digits(cell: Cell<'_>, number: f64) -> bool {
    match cell {
        Cell::Bytes(text) => text.len() <= SAFE_DIGITS || has_digits(text, number, SHORTEST_DIGITS),
        _ => true,
    }
}

/// Returns true if a 32-bit number has the digits of its text, or the text is not an integer.
#[inline(always)]
pub(crate) fn keeps_integer(cell: Cell<'_>, number: f32) -> bool {
    match cell {
        Cell::Bytes(text) => text.len() <= SAFE_FLOAT_DIGITS || has_digits(text, number.into(), usize::MAX),
        _ => true,
    }
}

/// The number of decimal digits that every double, and every float, keeps.
const SAFE_DIGITS: usize = 15;
const SAFE_FLOAT_DIGITS: usize = 6;
/// The largest number of digits in the shortest text of a double.
const SHORTEST_DIGITS: usize = 17;

/// Returns true if a number has the significant digits of its text. Fractions of up to `unchecked` digits pass.
#[inline(never)]
fn has_digits(text: &[u8], number: f64, unchecked: usize) -> bool {
    let mantissa = text.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let is_integer = mantissa.len() == text.len() && !mantissa.contains(&b'.');
    let digits = significant(mantissa);
    if digits.len() <= SAFE_FLOAT_DIGITS || !is_integer && digits.len() <= unchecked {
        return true;
    }
    let written = format!("{number:.*e}", digits.len() - 1);
    significant(written.split('e').next().unwrap_or_default().as_bytes()) == digits
}

/// Returns the digits without leading and trailing zeros.
fn significant(mantissa: &[u8]) -> Vec<u8> {
    let digits = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0');
    let mut digits: Vec<u8> = digits.collect();
    digits.truncate(digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1));
    digits
}

/// Returns the reason why a column of a kind does not hold a value, or `None` if it does.
#[cold]
pub(crate) fn loss(kind: Kind, cell: Cell<'_>) -> Option<&'static str> {
    let number = |number: Option<f64>, keeps: bool| match number {
        None => Some(kind.misfit()),
        Some(_) => (!keeps).then_some(kind.rounded()),
    };
    match (kind, cell) {
        (_, Cell::Missing) | (Kind::String, _) => None,
        (Kind::Boolean, cell) => boolean(cell).is_none().then_some(kind.misfit()),
        (Kind::Int32, cell) => integer::<i32>(cell).is_none().then_some(kind.misfit()),
        (Kind::Int64, cell) => integer::<i64>(cell).is_none().then_some(kind.misfit()),
        (Kind::Float, cell) => {
            let value = float::<f32>(cell);
            number(value.map(f64::from), value.is_some_and(|value| keeps_integer(cell, value)))
        }
        (Kind::Double, cell) => {
            let value = float::<f64>(cell);
            number(value, value.is_some_and(|value| keeps_digits(cell, value)))
        }
    }
}

/// Converts to a boolean: `true` and `false` in any case, `1` and `0`. Times do not convert.
#[inline(always)]
pub(crate) fn boolean(cell: Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Bytes(b"1") => Some(true),
        Cell::Bytes(b"0") => Some(false),
        Cell::Bytes(bytes) if bytes.eq_ignore_ascii_case(b"true") => Some(true),
        Cell::Bytes(bytes) if bytes.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Bytes(text.as_bytes())
    }

    #[test]
    fn integers_are_decimal_and_in_range() {
        for (value, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("+7", Some(7)),
            ("007", Some(7)),
            ("2147483647", Some(i32::MAX)),
            ("-2147483648", Some(i32::MIN)),
            ("2147483648", None),
            ("", None),
            ("-", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("1e3", None),
            ("0x10", None),
            ("1_000", None),
            ("١", None),
        ] {
            assert_eq!(integer::<i32>(text(value)), expected, "{value:?}");
        }
        assert_eq!(integer::<i64>(text("-9223372036854775808")), Some(i64::MIN));
        assert_eq!(integer::<i64>(text("9223372036854775808")), None);
        assert_eq!(integer::<i64>(Cell::Bytes(b"1\xff")), None);
        assert_eq!(integer::<i32>(Cell::Number(2_147_483_648)), None);
        assert_eq!(integer::<i64>(Cell::Number(u32::MAX)), Some(4_294_967_295));
        assert_eq!(integer::<i32>(Cell::Missing), None);
    }

    #[test]
    fn floats_are_finite() {
        for (value, expected) in [
            ("1.5", Some(1.5)),
            ("-1.5e-3", Some(-0.0015)),
            ("+1E2", Some(100.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("7", Some(7.0)),
            ("1e-400", Some(0.0)),
            ("1e400", None),
            ("NaN", None),
            ("inf", None),
            ("-infinity", None),
            ("", None),
            (" 1", None),
            ("1,5", None),
            ("0x1p3", None),
        ] {
            assert_eq!(float::<f64>(text(value)), expected, "{value:?}");
        }
        assert_eq!(float::<f32>(text("1e39")), None);
        assert_eq!(float::<f32>(text("0.1")), Some(0.1));
        assert_eq!(float::<f64>(Cell::Number(1_484_913_043)), Some(1_484_913_043.0));
    }

    #[test]
    fn booleans_are_words_or_digits() {
        for value in ["true", "TRUE", "True", "1"] {
            assert_eq!(boolean(text(value)), Some(true), "{value:?}");
        }
        for value in ["false", "FALSE", "fAlse", "0"] {
            assert_eq!(boolean(text(value)), Some(false), "{value:?}");
        }
        for value in ["", "yes", "t", "true ", "01"] {
            assert_eq!(boolean(text(value)), None, "{value:?}");
        }
        assert_eq!(boolean(Cell::Number(1)), None);
    }
}

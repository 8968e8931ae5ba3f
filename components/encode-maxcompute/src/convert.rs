//! Converts values to the types of columns.

use logship_stage::mapping::Value;

use crate::array::{Array, Data};
use crate::decimal::{Decimal, NoDecimal};
use crate::json;
use crate::time::{date, datetime, fraction};
use crate::types::Type;

/// The largest value of a column, in bytes.
pub(crate) const MAX_FIELD: usize = 8 << 20;
/// The largest precision of a decimal of 128 bits.
const MAX_128_BITS: usize = 38;

/// The rules of conversion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The offset from UTC of texts without a zone, in seconds.
    pub(crate) offset: i64,
    /// True if an empty value is null.
    pub(crate) empty_is_null: bool,
    /// True if a text that is no date or time is null, instead of a dirty value.
    pub(crate) bad_date_is_null: bool,
    /// True if decimals are texts, as in the record stream.
    pub(crate) decimal_is_text: bool,
    /// True if all values of the batch are UTF-8, and need no check.
    pub(crate) is_utf8: bool,
}

impl Rules {
    /// Returns an empty array for values of a type.
    pub(crate) fn array(&self, data_type: &Type) -> Array {
        match data_type {
            Type::Boolean => Array::new(Data::Bits(vec![])),
            Type::Integer(width) => Array::fixed(*width),
            Type::Float | Type::Date | Type::IntervalYearMonth => Array::fixed(4),
            Type::Double | Type::Datetime | Type::Timestamp | Type::TimestampNtz => Array::fixed(8),
            Type::Text(_) | Type::Binary | Type::Json => Array::bytes(),
            Type::Decimal { .. } if self.decimal_is_text => Array::bytes(),
            Type::Decimal { precision, .. } => Array::fixed(if *precision > MAX_128_BITS { 32 } else { 16 }),
            Type::IntervalDayTime => Array::new(Data::Struct(vec![Array::fixed(8), Array::fixed(4)])),
            Type::Array(item) | Type::Vector(item, _) => Array::list(self.array(item)),
            Type::Map(key, value) => {
                let entries = vec![self.array(key), self.array(value)];
                Array::list(Array::new(Data::Struct(entries)))
            }
            Type::Struct(fields) => {
                Array::new(Data::Struct(fields.iter().map(|(_, field)| self.array(field)).collect()))
            }
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// The reason why it does not convert. The array may have a part of the value then: truncate it.
    #[inline(always)]
    pub(crate) fn append(&self, array: &mut Array, data_type: &Type, value: Value<'_>) -> Result<(), String> {
        match value {
            Value::Missing => array.push_null(),
            Value::Bytes(text) => return self.append_text(array, data_type, text),
            Value::Time(seconds, nanos) => return self.append_time(array, data_type, seconds, nanos),
            Value::Number(number) => {
                return self.append_text(array, data_type, itoa::Buffer::new().format(number).as_bytes());
            }
        }
        Ok(())
    }

    /// Appends a time of the log. It is Unix seconds where the type is no time.
    fn append_time(
        &self,
        array: &mut Array,
        data_type: &Type,
        seconds: u32,
        nanos: u32,
    ) -> Result<(), String> {
        match data_type {
            Type::Datetime | Type::Timestamp | Type::TimestampNtz => {
                append_instant(array, data_type, i64::from(seconds), nanos)
            }
            Type::Date => {
                let days = (i64::from(seconds) + self.offset).div_euclid(86_400);
                array.push_fixed((days as i32).to_le_bytes());
                Ok(())
            }
            _ => self.append_text(array, data_type, itoa::Buffer::new().format(seconds).as_bytes()),
        }
    }

    /// Appends a value that is text or other bytes.
    #[inline(always)]
    pub(crate) fn append_text(&self, array: &mut Array, data_type: &Type, text: &[u8]) -> Result<(), String> {
        if text.is_empty() && self.empty_is_null {
            array.push_null();
            return Ok(());
        }
        match data_type {
            Type::Text(None) => self.append_string(array, text),
            Type::Integer(width) => append_integer(array, *width, text),
            _ => self.append_other(array, data_type, text),
        }
    }

    #[inline(never)]
    fn append_other(&self, array: &mut Array, data_type: &Type, text: &[u8]) -> Result<(), String> {
        match data_type {
            Type::Boolean => {
                let value = boolean(text).ok_or_else(|| no(text, "true, false, 1 or 0"))?;
                array.push_bit(value);
            }
            Type::Float => array.push_fixed(float::<f32>(text, f32::is_finite)?.to_le_bytes()),
            Type::Double => array.push_fixed(float::<f64>(text, f64::is_finite)?.to_le_bytes()),
            Type::Text(Some(length)) => return append_bytes(array, cut(text, *length).as_bytes()),
            Type::Binary => return append_bytes(array, text),
            Type::Json => {
                if !json::is_valid(text) {
                    return Err(no(text, "JSON"));
                }
                return append_bytes(array, text);
            }
            Type::Decimal { precision, scale } => {
                return self.append_decimal(array, text, *precision, *scale);
            }
            Type::Date => match date(text) {
                Some(days) => array.push_fixed(days.to_le_bytes()),
                None => return self.bad_date(array, text, "a date, such as 2026-12-01"),
            },
            Type::Datetime | Type::Timestamp | Type::TimestampNtz => {
                let offset = if *data_type == Type::TimestampNtz { 0 } else { self.offset };
                match datetime(text, offset) {
                    Some((seconds, nanos)) => return append_instant(array, data_type, seconds, nanos),
                    None => return self.bad_date(array, text, "a time, such as 2026-12-01 23:59:59"),
                }
            }
            Type::IntervalDayTime => append_interval(array, text)?,
            Type::IntervalYearMonth => append_integer(array, 4, text)?,
            Type::Array(_) | Type::Map(..) | Type::Struct(_) | Type::Vector(..) => {
                return json::append(self, array, data_type, text);
            }
            Type::Text(None) | Type::Integer(_) => {}
        }
        Ok(())
    }

    /// Appends a text. Bytes that are not UTF-8 become U+FFFD.
    #[inline(always)]
    fn append_string(&self, array: &mut Array, text: &[u8]) -> Result<(), String> {
        if self.is_utf8 || std::str::from_utf8(text).is_ok() {
            append_bytes(array, text)
        } else {
            append_bytes(array, String::from_utf8_lossy(text).as_bytes())
        }
    }

    fn bad_date(&self, array: &mut Array, text: &[u8], what: &str) -> Result<(), String> {
        if !self.bad_date_is_null {
            return Err(no(text, what));
        }
        array.push_null();
        Ok(())
    }

    fn append_decimal(
        &self,
        array: &mut Array,
        text: &[u8],
        precision: usize,
        scale: usize,
    ) -> Result<(), String> {
        let decimal = Decimal::parse(text, precision, scale).map_err(|error| match error {
            NoDecimal::Syntax => no(text, "a decimal number"),
            NoDecimal::Overflow => {
                format!("{} has more digits before the point than decimal({precision},{scale})", shown(text))
            }
        })?;
        if self.decimal_is_text {
            let mut text = vec![];
            decimal.write(scale, &mut text);
            array.push_bytes(&text);
        } else if precision > MAX_128_BITS {
            array.push_fixed(decimal.to_bytes());
        } else {
            let [low, _] = halves(decimal.to_bytes());
            array.push_fixed(low);
        }
        Ok(())
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    halves.iter_mut().zip(bytes.chunks_exact(16)).for_each(|(half, bytes)| half.copy_from_slice(bytes));
    halves
}

#[inline(always)]
fn append_bytes(array: &mut Array, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_FIELD {
        return Err(format!("the value has {} bytes, and a column takes {MAX_FIELD} at most", bytes.len()));
    }
    array.push_bytes(bytes);
    Ok(())
}

/// Returns the first characters of a text.
fn cut(text: &[u8], characters: usize) -> String {
    String::from_utf8_lossy(text).chars().take(characters).collect()
}

#[inline(always)]
fn append_integer(array: &mut Array, width: usize, text: &[u8]) -> Result<(), String> {
    let number = integer(text);
    let pushed = number.is_some_and(|number| match width {
        1 => i8::try_from(number).map(|number| array.push_fixed(number.to_le_bytes())).is_ok(),
        2 => i16::try_from(number).map(|number| array.push_fixed(number.to_le_bytes())).is_ok(),
        4 => i32::try_from(number).map(|number| array.push_fixed(number.to_le_bytes())).is_ok(),
        _ => {
            array.push_fixed(number.to_le_bytes());
            true
        }
    });
    if pushed { Ok(()) } else { Err(no(text, &format!("a whole number of {} bits", 8 * width))) }
}

/// Parses a whole number: digits with an optional sign.
#[inline(always)]
fn integer(text: &[u8]) -> Option<i64> {
    // Up to eighteen digits never overflow.
    if (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')));
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

fn float<F>(text: &[u8], is_finite: fn(F) -> bool) -> Result<F, String>
where
    F: std::str::FromStr + Copy,
{
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<F>().ok());
    number.filter(|number| is_finite(*number)).ok_or_else(|| no(text, "a finite number"))
}

/// Appends Unix seconds and nanoseconds to a column of times.
fn append_instant(array: &mut Array, data_type: &Type, seconds: i64, nanos: u32) -> Result<(), String> {
    let value = match data_type {
        Type::Datetime => seconds.checked_mul(1_000).map(|millis| millis + i64::from(nanos / 1_000_000)),
        _ => seconds.checked_mul(1_000_000_000).and_then(|value| value.checked_add(nanos.into())),
    };
    match value {
        Some(value) => array.push_fixed(value.to_le_bytes()),
        None => return Err("the time is outside the years 1678 to 2261, which a timestamp can hold".into()),
    }
    Ok(())
}

/// Appends an interval: seconds, such as `-1.5`.
fn append_interval(array: &mut Array, text: &[u8]) -> Result<(), String> {
    let error = || no(text, "an interval in seconds, such as 1.5");
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len());
    let seconds = integer(&digits[..point]).filter(|_| digits[0].is_ascii_digit()).ok_or_else(error)?;
    let (nanos, rest) = fraction(&digits[point..]).ok_or_else(error)?;
    if !rest.is_empty() {
        return Err(error());
    }
    let sign = if is_negative { -1 } else { 1 };
    if let Data::Struct(parts) = &mut array.data {
        parts[0].push_fixed((sign * seconds).to_le_bytes());
        parts[1].push_fixed((sign as i32 * nanos as i32).to_le_bytes());
        array.valid.push(1);
    }
    Ok(())
}

/// Returns the reason why a text does not convert.
fn no(text: &[u8], what: &str) -> String {
    format!("{} is not {what}", shown(text))
}

/// Returns the beginning of a text, for messages.
pub(crate) fn shown(text: &[u8]) -> String {
    const MAX_CHARS: usize = 64;
    let begin: String =
        String::from_utf8_lossy(&text[..text.len().min(4 * MAX_CHARS)]).chars().take(MAX_CHARS).collect();
    let more = if begin.len() < text.len() { "…" } else { "" };
    format!("{begin:?}{more}")
}

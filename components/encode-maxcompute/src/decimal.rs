//! Decimal numbers: rounded to a scale, as text and as 128 or 256 bits.

/// A decimal number of a scale: its digits, the last ones after the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    /// Digits from 0 to 9, without leading zeros.
    digits: Vec<u8>,
}

/// The reason why a text is no decimal of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoDecimal {
    Syntax,
    /// More digits before the point than the type has.
    Overflow,
}

impl Decimal {
    /// Parses a number such as `-12.345` or `1e3`, rounded half up to `scale` digits after the point.
    pub(crate) fn parse(text: &[u8], precision: usize, scale: usize) -> Result<Self, NoDecimal> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let exponent = if end < text.len() { exponent(&text[end + 1..])? } else { 0 };
        let point = text[..end].iter().position(|&byte| byte == b'.').unwrap_or(end);
        let (whole, part) = (&text[..point], text[..end].get(point + 1..).unwrap_or_default());
        let all = || whole.iter().chain(part);
        if all().next().is_none() || !all().all(u8::is_ascii_digit) {
            return Err(NoDecimal::Syntax);
        }
        let mut digits: Vec<u8> = all().map(|digit| digit - b'0').collect();
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Ok(Self { is_negative: false, digits });
        }
        // The digits to keep, of which some may be missing or none may be left.
        let kept = (whole.len() as i64 - zeros as i64).saturating_add(exponent).saturating_add(scale as i64);
        if kept > precision as i64 {
            return Err(NoDecimal::Overflow);
        }
        let digits = round(digits, kept);
        if digits.len() > precision {
            return Err(NoDecimal::Overflow);
        }
        Ok(Self { is_negative: is_negative && !digits.is_empty(), digits })
    }

    /// Returns the number times 10 to the power of the scale, as little-endian bytes in two's complement.
    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        let mut words = [0u64; 4];
        for &digit in &self.digits {
            let mut carry = u128::from(digit);
            for word in &mut words {
                carry += u128::from(*word) * 10;
                *word = carry as u64;
                carry >>= 64;
            }
        }
        if self.is_negative {
            let mut carry = true;
            for word in &mut words {
                (*word, carry) = (!*word).overflowing_add(carry.into());
            }
        }
        let mut bytes = [0; 32];
        for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Appends the number as text, with all digits of the scale.
    pub(crate) fn write(&self, scale: usize, out: &mut Vec<u8>) {
        if self.is_negative {
            out.push(b'-');
        }
        let whole = self.digits.len().saturating_sub(scale);
        match whole {
            0 => out.push(b'0'),
            _ => out.extend(self.digits[..whole].iter().map(|digit| b'0' + digit)),
        }
        if scale > 0 {
            out.push(b'.');
            let part = &self.digits[whole..];
            out.resize(out.len() + scale - part.len(), b'0');
            out.extend(part.iter().map(|digit| b'0' + digit));
        }
    }
}

/// Keeps some digits, adds missing zeros, and rounds half up.
fn round(mut digits: Vec<u8>, kept: i64) -> Vec<u8> {
    let Ok(kept) = usize::try_from(kept) else { return vec![] };
    let is_up = digits.get(kept).is_some_and(|&digit| digit >= 5);
    digits.resize(kept, 0);
    if is_up {
        let nines = digits.iter().rev().take_while(|&&digit| digit == 9).count();
        let at = digits.len() - nines;
        digits[at..].fill(0);
        match at.checked_sub(1) {
            Some(at) => digits[at] += 1,
            None => digits.insert(0, 1),
        }
    }
    digits
}

/// Parses an exponent. A huge one is as good as a large one.
fn exponent(text: &[u8]) -> Result<i64, NoDecimal> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NoDecimal::Syntax);
    }
    let number = digits
        .iter()
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Ok(sign * number.min(1 << 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: &str, precision: usize, scale: usize) -> Result<String, NoDecimal> {
        let mut out = vec![];
        Decimal::parse(number.as_bytes(), precision, scale)?.write(scale, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn rounds_half_up_to_the_scale() {
        for (number, expected) in [
            ("12.3", "12.30"),
            ("12.345", "12.35"),
            ("-12.345", "-12.35"),
            ("12.344999", "12.34"),
            ("0.005", "0.01"),
            ("0.004", "0.00"),
            ("-0.004", "0.00"),
            ("9.995", "10.00"),
            ("1e3", "1000.00"),
            ("1.5E-1", "0.15"),
            (".5", "0.50"),
            ("5.", "5.00"),
            ("+7", "7.00"),
            ("0", "0.00"),
            ("-0", "0.00"),
            ("0e99999999999999999999", "0.00"),
            ("1e-99999999999999999999", "0.00"),
            ("00012", "12.00"),
            ("99999999.99", "99999999.99"),
            ("0.05", "0.05"),
            ("123456789e-1", "12345678.90"),
        ] {
            assert_eq!(text(number, 10, 2).as_deref(), Ok(expected), "{number}");
        }
        assert_eq!(text("2.5", 3, 0).as_deref(), Ok("3"));
    }

    #[test]
    fn rejects_overflow_and_other_texts() {
        for number in ["100000000", "99999999.995", "1e9", "1e99999999999999999999", "-123456789012"] {
            assert_eq!(text(number, 10, 2), Err(NoDecimal::Overflow), "{number}");
        }
        for number in ["", ".", "-", "1.2.3", "1e", "e1", "1e+", "0x1", " 1", "1 ", "NaN", "inf", "1_000"] {
            assert_eq!(text(number, 10, 2), Err(NoDecimal::Syntax), "{number}");
        }
    }

    #[test]
    fn bytes_are_in_twos_complement() {
        let bytes = |number: &str| Decimal::parse(number.as_bytes(), 38, 2).unwrap().to_bytes();
        let number = |text: &str| i128::from_le_bytes(bytes(text)[..16].try_into().unwrap());
        assert_eq!((number("12.3"), number("-0.01"), number("0")), (1_230, -1, 0));
        let large = "999999999999999999999999999999999999.99";
        assert_eq!(number(large), 10i128.pow(38) - 1);
        assert_eq!(number(&format!("-{large}")), 1 - 10i128.pow(38));
        assert_eq!((bytes("-1")[31], bytes("1")[31]), (0xff, 0));
    }
}

//! Protocol buffers: as much of them as Table Store's messages need.

/// Writes a message.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Adds a number.
    pub(super) fn number(mut self, field: u32, value: i64) -> Self {
        varint(&mut self.0, u64::from(field << 3));
        // Negative numbers have ten bytes.
        varint(&mut self.0, value as u64);
        self
    }

    /// Adds a text, bytes or an embedded message.
    pub(super) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        self.push_bytes(field, value.as_ref());
        self
    }

    /// Adds a text, bytes or an embedded message.
    pub(super) fn push_bytes(&mut self, field: u32, value: &[u8]) {
        varint(&mut self.0, u64::from(field << 3 | LENGTH_DELIMITED));
        varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Returns the message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl AsRef<[u8]> for Writer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

const LENGTH_DELIMITED: u32 = 2;

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed size, which no field of Table Store's answers that we read has.
    Fixed,
}

impl<'a> Value<'a> {
    /// Returns the bytes of a text or a message; empty for numbers.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// Returns the number; 0 for bytes.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            _ => 0,
        }
    }

    /// Returns the text, with replacement characters for invalid bytes.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no message of Table Store")]
pub(super) struct Malformed;

/// Reads the fields of a message, in order.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>), Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let key = read_varint(rest)?;
    let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
    let value = match key & 7 {
        0 => Value::Number(read_varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(read_varint(rest)?).map_err(|_| Malformed)?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok((number, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let inner = Writer::default().number(1, -1).number(2, 300);
        let message = Writer::default().bytes(1, "text").bytes(4, &inner).number(16, 0).finish();
        let read: Result<Vec<_>, _> = fields(&message).collect();
        let read = read.unwrap();
        assert_eq!(read[0], (1, Value::Bytes(b"text")));
        assert_eq!(read[2], (16, Value::Number(0)));
        let inner: Vec<_> = fields(read[1].1.bytes()).map(Result::unwrap).collect();
        assert_eq!(inner, [(1, Value::Number(u64::MAX)), (2, Value::Number(300))]);
    }

    #[test]
    fn malformed_messages_are_errors() {
        for message in [
            &[0x08][..],
            &[0x0a, 5, 1],
            &[0x0b],
            &[0xff; 11],
            &[0x0d, 0],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            assert_eq!(fields(message).last(), Some(Err(Malformed)), "{message:?}");
        }
    }
}

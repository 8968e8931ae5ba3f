//! Decodes UTF-16, as Windows tools write it.

/// The order of a unit's two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// The low byte comes first.
    Little,
    /// The high byte comes first.
    Big,
}

impl Endian {
    /// Returns the order of a text by its byte order mark, or of UTF-16 without one by its first characters, which are
    /// ASCII in all formats of logs. Returns `None` for text that is not UTF-16.
    pub fn detect(head: &[u8]) -> Option<Self> {
        match head {
            // UTF-32.
            [0xff, 0xfe, 0, 0, ..] => return None,
            [0xff, 0xfe, ..] => return Some(Self::Little),
            [0xfe, 0xff, ..] => return Some(Self::Big),
            _ => {}
        }
        let all = |offset: usize, is_zero: bool| {
            head.iter().skip(offset).step_by(2).take(4).all(|&byte| (byte == 0) == is_zero)
        };
        match head.len() >= 4 {
            true if all(0, false) && all(1, true) => Some(Self::Little),
            true if all(0, true) && all(1, false) => Some(Self::Big),
            _ => None,
        }
    }
}

/// Decodes UTF-16 in parts.
#[derive(Debug)]
pub struct Utf16Decoder {
    endian: Endian,
    /// The bytes of a character that is not complete.
    partial: Vec<u8>,
}

impl Utf16Decoder {
    /// Creates a decoder.
    pub fn new(endian: Endian) -> Self {
        Self { endian, partial: vec![] }
    }

    /// Appends the complete characters as UTF-8. A surrogate without its pair becomes a byte that is not UTF-8, so that
    /// its line is rejected.
    pub fn decode(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let unit = |pair: &[u8; 2]| match self.endian {
            Endian::Little => u16::from_le_bytes(*pair),
            Endian::Big => u16::from_be_bytes(*pair),
        };
        let (pairs, odd) = self.partial.as_chunks::<2>();
        let mut units: Vec<u16> = pairs.iter().map(unit).collect();
        let is_first_half = |unit: &u16| (0xd800..0xdc00).contains(unit);
        let rest = if units.last().is_some_and(is_first_half) { 2 } else { 0 };
        units.truncate(units.len() - rest / 2);
        for char in char::decode_utf16(units) {
            match char {
                Ok(char) => into.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => into.push(NOT_UTF8),
            }
        }
        let kept = self.partial.len() - odd.len() - rest;
        self.partial.drain(..kept);
    }

    /// Ends the text. Half a character becomes a byte that is not UTF-8.
    pub fn finish(&mut self, into: &mut Vec<u8>) {
        if !std::mem::take(&mut self.partial).is_empty() {
            into.push(NOT_UTF8);
        }
    }
}

/// A byte that UTF-8 never has.
const NOT_UTF8: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_order() {
        let cases: [(&[u8], Option<Endian>); 9] = [
            (b"\xff\xfe{\0", Some(Endian::Little)),
            (b"\xfe\xff\0{", Some(Endian::Big)),
            (b"\xff\xfe", Some(Endian::Little)),
            (b"\xff\xfe\0\0", None),
            (b"{\0}\0", Some(Endian::Little)),
            (b"\0{\0\"\0a\0\"\0:\x01\x02", Some(Endian::Big)),
            (b"{}", None),
            (b"{\"a\":1}", None),
            (b"\0\0\0\0{}\n", None),
        ];
        for (head, expected) in cases {
            assert_eq!(Endian::detect(head), expected, "{head:?}");
        }
    }

    #[test]
    fn decodes_characters_divided_anywhere() {
        let text = "{\"é\":\"😀\"}\r\n";
        for (endian, bytes) in [
            (Endian::Little, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()),
            (Endian::Big, text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ] {
            for middle in 0..bytes.len() {
                let (mut decoder, mut decoded) = (Utf16Decoder::new(endian), vec![]);
                decoder.decode(&bytes[..middle], &mut decoded);
                decoder.decode(&bytes[middle..], &mut decoded);
                decoder.finish(&mut decoded);
                assert_eq!(decoded, text.as_bytes(), "divided at {middle}");
            }
        }
    }

    #[test]
    fn damaged_characters_are_not_utf8() {
        let (mut decoder, mut decoded) = (Utf16Decoder::new(Endian::Big), vec![]);
        decoder.decode(b"\xd8\x00\0a\0b\0", &mut decoded);
        decoder.finish(&mut decoded);
        assert_eq!(decoded, b"\xffab\xff");
    }
}

use super::{Malformed, Reason};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Reads the fields of a protobuf message.
///
/// A nested message's reader has the outermost message's bytes up to the end of the nested message, so that all offsets
/// are relative to the outermost message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline(always)]
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline(always)]
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Reads the next field's tag: its number and wire type.
    #[inline(always)]
    pub(super) fn tag(&mut self) -> Result<u32, Malformed> {
        let at = self.at;
        let tag = self.varint()?;
        u32::try_from(tag)
            .map_err(|_| Malformed { offset: at, reason: Reason::FieldNumber { number: tag >> 3 } })
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let begin = self.at;
        let rest = self.bytes.get(begin..).unwrap_or_default();
        let mut number = 0;
        for (index, &byte) in rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            // Only one bit of the tenth byte is significant.
            if index == 9 && byte > 1 {
                break;
            }
            if byte < 0x80 {
                self.at = begin + index + 1;
                return Ok(number);
            }
        }
        let reason = if rest.len() < 10 { Reason::Truncated } else { Reason::Varint };
        Err(Malformed { offset: begin, reason })
    }

    #[inline(always)]
    pub(super) fn fixed32(&mut self) -> Result<u32, Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => {
                self.at += 4;
                Ok(u32::from_le_bytes(*bytes))
            }
            None => Err(self.malformed(Reason::Truncated)),
        }
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.end()?;
        // In bounds, as `end` checked the length.
        let bytes = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(bytes)
    }

    /// Returns a reader of the next nested message.
    #[inline(always)]
    pub(super) fn message(&mut self) -> Result<Self, Malformed> {
        let end = self.end()?;
        let message = Self { bytes: self.bytes.get(..end).unwrap_or_default(), at: self.at };
        self.at = end;
        Ok(message)
    }

    /// Reads a length prefix, and returns the end of the bytes after it.
    #[inline(always)]
    fn end(&mut self) -> Result<usize, Malformed> {
        let begin = self.at;
        let length = self.varint()?;
        let available = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= available => Ok(self.at + length),
            _ => Err(Malformed { offset: begin, reason: Reason::Length }),
        }
    }

    /// Skips a field whose number is above `known`. A field with a known number has a wrong wire type, and is rejected.
    #[cold]
    pub(super) fn unknown(&mut self, tag: u32, known: u32) -> Result<(), Malformed> {
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(self.malformed(Reason::FieldNumber { number: 0 }));
        }
        match wire_type {
            _ if number <= known => Err(self.wrong_type(tag)),
            VARINT => self.varint().map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.fixed32().map(drop),
            FIXED64 => self.fixed32().and_then(|_| self.fixed32()).map(drop),
            _ => Err(self.wrong_type(tag)),
        }
    }

    fn wrong_type(&self, tag: u32) -> Malformed {
        self.malformed(Reason::WireType { number: tag >> 3, wire_type: (tag & 7) as u8 })
    }

    #[cold]
    pub(super) fn malformed(&self, reason: Reason) -> Malformed {
        Malformed { offset: self.at, reason }
    }
}

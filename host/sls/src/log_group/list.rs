use std::ops::Deref;

use super::Malformed;
use super::reader::Reader;

/// The bytes before a group in a list of groups: a tag and the group's length. Dereferences to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; 11],
    len: u8,
}

/// Returns the header of a group of `len` bytes. A list of groups is a concatenation of headers and groups.
pub fn frame_header(len: usize) -> FrameHeader {
    let mut header = FrameHeader { bytes: [0; 11], len: 1 };
    header.bytes[0] = 0x0a;
    let mut rest = len as u64;
    // A 64-bit varint has at most ten bytes.
    for byte in &mut header.bytes[1..] {
        header.len += 1;
        if rest < 0x80 {
            *byte = rest as u8;
            break;
        }
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    header
}

impl Deref for FrameHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Iterates over the encoded groups of a list, which is the body of a pull's reply.
pub fn groups(list: &[u8]) -> Groups<'_> {
    Groups { list: Reader::new(list), failed: false }
}

/// An iterator over the groups of a list, from [`groups`]. Ends after an error.
#[derive(Debug, Clone)]
pub struct Groups<'a> {
    list: Reader<'a>,
    failed: bool,
}

impl<'a> Iterator for Groups<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let group = self.group().transpose();
        self.failed = matches!(group, Some(Err(_)));
        group
    }
}

impl<'a> Groups<'a> {
    fn group(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while !self.list.is_at_end() {
            match self.list.tag()? {
                0x0a => return self.list.bytes().map(Some),
                tag => self.list.unknown(tag, 1)?,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::*;

    #[test]
    fn list_of_groups_round_trips() {
        let sizes = [0, 1, 127, 128, 20_000, 3_000_000];
        let list: Vec<u8> =
            sizes.iter().flat_map(|&size| [&*frame_header(size), &vec![b'g'; size]].concat()).collect();
        let found: Vec<_> = groups(&list).map(|group| group.unwrap().len()).collect();
        assert_eq!(found, sizes);
        assert_eq!(frame_header(usize::MAX).len(), 11);
    }

    #[test]
    fn iteration_ends_at_malformed_group() {
        let list = b"\x0a\x01g\x78\x01\x0a\x05g";
        let found: Vec<_> = groups(list).collect();
        let malformed = Malformed { offset: 6, reason: Reason::Length };
        assert_eq!(found, [Ok(&b"g"[..]), Err(malformed)]);
    }
}

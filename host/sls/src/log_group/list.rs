use std::ops::Deref;

use super::Malformed;
use super::reader::Reader;

/// What stands before a group of a given length in a list of groups; the bytes by [`Deref`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; 11],
    len: u8,
}

/// The header of a group of `len` bytes: a list of groups is each group behind its header, and nothing else.
pub fn frame_header(len: usize) -> FrameHeader {
    let mut header = FrameHeader { bytes: [0; 11], len: 1 };
    header.bytes[0] = 0x0a;
    let mut rest = len as u64;
    // Ten bytes hold any 64 bits.
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

/// The groups of a list, unread: what a pull answers with.
pub fn groups(list: &[u8]) -> Groups<'_> {
    Groups { list: Reader::new(list), failed: false }
}

/// The groups of a list; from [`groups`]. After an error there is no more.
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
    fn groups_behind_their_headers_come_back() {
        let sizes = [0, 1, 127, 128, 20_000, 3_000_000];
        let list: Vec<u8> =
            sizes.iter().flat_map(|&size| [&*frame_header(size), &vec![b'g'; size]].concat()).collect();
        let found: Vec<_> = groups(&list).map(|group| group.unwrap().len()).collect();
        assert_eq!(found, sizes);
        assert_eq!(frame_header(usize::MAX).len(), 11);
    }

    #[test]
    fn a_broken_list_ends_with_its_error() {
        let list = b"\x0a\x01g\x78\x01\x0a\x05g";
        let found: Vec<_> = groups(list).collect();
        let malformed = Malformed { offset: 6, reason: Reason::Length };
        assert_eq!(found, [Ok(&b"g"[..]), Err(malformed)]);
    }
}

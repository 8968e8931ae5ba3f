//! Fingerprints of contents: tell whether a file has the content of another one, or its beginning.

/// The bytes of the first chunks. So a short beginning can be compared.
const SMALL: u64 = 4 << 10;
/// The number of the first chunks.
const SMALL_CHUNKS: usize = 256;
/// The bytes of the other chunks. So a fingerprint stays small.
const LARGE: u64 = 1 << 20;

/// The digests of a content's chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Fingerprint {
    bytes: u64,
    chunks: Vec<[u8; 16]>,
    /// The digest of the last, incomplete chunk; none before the end, or without one.
    end: Option<[u8; 16]>,
    hasher: blake3::Hasher,
    /// The bytes in the hasher.
    hashed: u64,
}

/// The relation of a content to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    /// It is the beginning of the other one.
    Beginning,
    /// The other one is its beginning.
    Longer,
    Different,
}

impl Fingerprint {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let chunk = if self.chunks.len() < SMALL_CHUNKS { SMALL } else { LARGE };
            let (part, rest) = bytes.split_at(bytes.len().min((chunk - self.hashed) as usize));
            self.hasher.update(part);
            self.hashed += part.len() as u64;
            bytes = rest;
            if self.hashed == chunk {
                let digest = self.take_digest();
                self.chunks.push(digest);
            }
        }
    }

    /// Ends the content.
    pub(super) fn finish(&mut self) {
        if self.hashed > 0 {
            self.end = Some(self.take_digest());
        }
    }

    fn take_digest(&mut self) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        self.hasher.reset();
        self.hashed = 0;
        digest
    }

    /// Returns true if this content may begin with another one, by the complete chunks of both.
    pub(super) fn has_prefix(&self, other: &Self) -> bool {
        self.chunks.iter().zip(&other.chunks).all(|(own, other)| own == other)
    }

    /// Returns the relation of another content to this one. Both are finished. A beginning shorter than a chunk is told
    /// from nothing.
    pub(super) fn compare(&self, other: &Self) -> Comparison {
        if !self.has_prefix(other) {
            return Comparison::Different;
        }
        let has_chunk = !self.chunks.is_empty() && !other.chunks.is_empty();
        match other.bytes.cmp(&self.bytes) {
            std::cmp::Ordering::Equal if self.end == other.end && self.bytes > 0 => Comparison::Equal,
            std::cmp::Ordering::Less if has_chunk => Comparison::Beginning,
            std::cmp::Ordering::Greater if has_chunk => Comparison::Longer,
            _ => Comparison::Different,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8], piece: usize) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        content.chunks(piece).for_each(|piece| fingerprint.add(piece));
        fingerprint.finish();
        fingerprint
    }

    #[test]
    fn contents_are_compared_however_they_are_read() {
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(|number| (number as u16).to_le_bytes()).collect();
        let whole = of(&content, 77_777);
        assert!(whole.chunks.len() < 300, "a fingerprint is small");
        let changed = |at: usize| [&content[..at], b"?", &content[at + 1..]].concat();
        for (other, expected) in [
            (content.clone(), Comparison::Equal),
            (content[..5000].to_vec(), Comparison::Beginning),
            (content[..4_000_001].to_vec(), Comparison::Beginning),
            ([&content[..], b"more"].concat(), Comparison::Longer),
            (changed(0), Comparison::Different),
            (changed(5_999_999), Comparison::Different),
            (content[..100].to_vec(), Comparison::Different),
            (vec![], Comparison::Different),
        ] {
            assert_eq!(whole.compare(&of(&other, 1000)), expected, "{} bytes", other.len());
        }
        assert_eq!(of(b"a", 1).compare(&of(b"a", 1)), Comparison::Equal);
        assert_eq!(of(b"a", 1).compare(&of(b"b", 1)), Comparison::Different);
    }
}

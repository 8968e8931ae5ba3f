use std::ops::Range;

/// How many bytes a block has: one SIMD register.
pub const BLOCK: usize = 16;

/// Bytes in the making, with room behind them, so that short strings are copied in whole blocks of
/// [`BLOCK`] bytes: in WebAssembly a `memory.copy` of a few bytes costs as much as one of a few
/// hundred, a block is one load and one store.
#[derive(Debug, Default)]
pub struct Output {
    /// The bytes, and room behind `len` with what was written there before.
    bytes: Vec<u8>,
    len: usize,
}

impl Output {
    /// An empty output with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity + BLOCK], len: 0 }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `more` bytes and a block behind them.
    #[inline(always)]
    pub fn reserve(&mut self, more: usize) {
        if self.bytes.len() - self.len < more + BLOCK {
            self.grow(more + BLOCK);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        let need = self.len + more;
        self.bytes.resize(need.max(self.bytes.len() * 2), 0);
    }

    /// Appends the first `len` bytes of `block`. Room for `len` bytes must have been reserved.
    #[inline(always)]
    pub fn push_block(&mut self, block: [u8; BLOCK], len: usize) {
        self.bytes[self.len..self.len + BLOCK].copy_from_slice(&block);
        self.len += len;
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends `bytes`, without a `memory.copy` where they are few: for values of which only the
    /// slice is at hand. [`push_range`](Self::push_range) is faster still.
    #[inline(always)]
    pub fn push_value(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        if len > 8 * BLOCK {
            return self.push(bytes);
        }
        self.reserve(len);
        let out = &mut self.bytes[self.len..self.len + len];
        // Two copies of one size that overlap stand for one of any size between.
        if len >= BLOCK {
            for (to, from) in out.chunks_exact_mut(BLOCK).zip(bytes.chunks_exact(BLOCK)) {
                to.copy_from_slice(from);
            }
            out[len - BLOCK..].copy_from_slice(&bytes[len - BLOCK..]);
        } else if len >= 8 {
            out[..8].copy_from_slice(&bytes[..8]);
            out[len - 8..].copy_from_slice(&bytes[len - 8..]);
        } else if len >= 4 {
            out[..4].copy_from_slice(&bytes[..4]);
            out[len - 4..].copy_from_slice(&bytes[len - 4..]);
        } else {
            for (to, from) in out.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        self.len += len;
    }

    /// Appends `buffer[range]`, in blocks that may read (and drop) what stands behind the range.
    #[inline(always)]
    pub fn push_range(&mut self, buffer: &[u8], range: Range<usize>) {
        let len = range.len();
        if len > 8 * BLOCK || range.end + BLOCK > buffer.len() {
            return self.push(&buffer[range]);
        }
        self.reserve(len);
        let mut at = 0;
        while at < len {
            self.push_block(block_at(buffer, range.start + at), (len - at).min(BLOCK));
            at += BLOCK;
        }
    }

    /// Appends a text that was laid out for it.
    #[inline(always)]
    pub fn push_text(&mut self, text: &Text) {
        self.push_text_from(text, 0);
    }

    /// Appends a text without its first `skip` bytes.
    #[inline(always)]
    pub fn push_text_from(&mut self, text: &Text, skip: usize) {
        self.push_range(&text.bytes, skip..text.len);
    }

    /// Appends one byte.
    #[inline(always)]
    pub fn push_byte(&mut self, byte: u8) {
        self.reserve(1);
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// All the room that there is behind the bytes, for [`advance`](Self::advance) to append what was
    /// written there.
    #[inline(always)]
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    /// Appends the first `len` bytes of the [`spare`](Self::spare) room.
    #[inline(always)]
    pub fn advance(&mut self, len: usize) {
        self.len = (self.len + len).min(self.bytes.len());
    }

    /// Takes back all but the first `len` bytes, where there are more.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes so far.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The bytes.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

/// The block of `buffer` that begins at `at`, filled up with zeroes where the buffer ends.
#[inline(always)]
pub fn block_at(buffer: &[u8], at: usize) -> [u8; BLOCK] {
    // Chosen by reference, so that the block is loaded once, into a register.
    let padded;
    *match buffer.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(block) => block,
        None => {
            padded = last_block(buffer, at);
            &padded
        }
    }
}

#[cold]
#[inline(never)]
fn last_block(buffer: &[u8], at: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let rest = &buffer[at..];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// A text that is appended again and again, such as a key with its quotes: with a block behind it,
/// so that all of it is copied in whole blocks.
#[derive(Debug, Clone, Default)]
pub struct Text {
    bytes: Vec<u8>,
    len: usize,
}

impl Text {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, and a [`BLOCK`] behind them.
    pub fn padded(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&[u8]> for Text {
    fn from(text: &[u8]) -> Self {
        Self { bytes: [text, &[0; BLOCK]].concat(), len: text.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_is_gone() {
        let mut output = Output::default();
        output.push(b"kept, taken back");
        output.truncate(4);
        output.push_byte(b'!');
        output.truncate(9);
        output.reserve(6);
        output.spare()[..6].copy_from_slice(b"!!more");
        output.advance(2);
        assert_eq!(output.into_bytes(), b"kept!!!");
    }

    #[test]
    fn every_way_in_appends_the_same() {
        let buffer: Vec<u8> = (0..=255).collect();
        for (start, end) in [(0, 0), (3, 4), (0, 16), (5, 36), (0, 128), (7, 200), (250, 256), (256, 256)] {
            let mut expected = b"before".to_vec();
            let mut output = Output::with_capacity(0);
            output.push(b"before");
            for _ in 0..3 {
                expected.extend_from_slice(&buffer[start..end].repeat(3));
                output.push_range(&buffer, start..end);
                output.push_text(&Text::from(&buffer[start..end]));
                output.push_value(&buffer[start..end]);
            }
            assert_eq!(output.len(), expected.len());
            assert_eq!(output.as_bytes(), expected);
            assert_eq!(output.into_bytes(), expected);
        }
    }
}

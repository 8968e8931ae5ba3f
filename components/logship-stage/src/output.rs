use std::ops::Range;

/// The size of a block in bytes: one SIMD register.
pub const BLOCK: usize = 16;

/// An output buffer with spare capacity at its end, so that short strings are copied in full blocks of
/// [`BLOCK`] bytes. In WebAssembly a `memory.copy` of a few bytes costs as much as one of a few
/// hundred; a block is one load and one store.
#[derive(Debug, Default)]
pub struct Output {
    /// The output, and after `len` spare capacity with arbitrary content.
    bytes: Vec<u8>,
    len: usize,
}

impl Output {
    /// Creates an empty output with capacity for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity + BLOCK], len: 0 }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the output is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reserves capacity for `more` bytes and a block.
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

    /// Appends the first `len` bytes of `block`. The caller must have reserved `len` bytes.
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

    /// Appends `bytes`, without `memory.copy` if they are few. For callers that have only the slice:
    /// [`push_range`](Self::push_range) is faster.
    #[inline(always)]
    pub fn push_value(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        if len > 8 * BLOCK {
            return self.push(bytes);
        }
        self.reserve(len);
        let out = &mut self.bytes[self.len..self.len + len];
        // Two overlapping copies of a fixed size cover any length between that size and twice that size.
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

    /// Appends `buffer[range]` in blocks. The blocks may read, and discard, bytes after the range.
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

    /// Appends a padded text.
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

    /// Returns the spare capacity after the output. [`advance`](Self::advance) appends the bytes that were
    /// written to it.
    #[inline(always)]
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    /// Appends the first `len` bytes of the [`spare`](Self::spare) capacity.
    #[inline(always)]
    pub fn advance(&mut self, len: usize) {
        self.len = (self.len + len).min(self.bytes.len());
    }

    /// Shortens the output to at most `len` bytes.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns the bytes written so far.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Consumes the output and returns its bytes.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }
}

/// Returns the block of `buffer` at offset `at`, padded with zeros past the buffer's end.
#[inline(always)]
pub fn block_at(buffer: &[u8], at: usize) -> [u8; BLOCK] {
    // Selecting a reference makes the compiler load the block once, into a register.
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

/// A text that is appended repeatedly, such as a quoted key. A padding block follows it, so that it is copied in full
/// blocks.
#[derive(Debug, Clone, Default)]
pub struct Text {
    bytes: Vec<u8>,
    len: usize,
}

impl Text {
    /// Returns the text's length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the text followed by a padding [`BLOCK`].
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
    fn truncated_bytes_are_gone() {
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
    fn all_push_functions_append_the_same() {
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

use logship_stage::columns::Cell;
use logship_stage::{BLOCK, Output, block_at};
use wide::u8x16;

/// The quote, and the delimiter that requires it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoting {
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
}

impl Quoting {
    /// Returns a bit mask of the bytes in the block that require quotes.
    #[inline(always)]
    fn specials(self, block: [u8; BLOCK]) -> u32 {
        let block = u8x16::new(block);
        let is = |byte| block.simd_eq(u8x16::splat(byte));
        let special = is(self.delimiter) | is(self.quote) | is(b'\r') | is(b'\n');
        special.to_bitmask()
    }

    /// Copies `len` bytes in full blocks. Returns a value other than 0 if they contain a special byte.
    ///
    /// # Safety
    /// `from` must be valid for reads, and `to` for writes, of `len` bytes and a block.
    #[inline(always)]
    unsafe fn copy(self, mut from: *const u8, mut len: usize, mut to: *mut u8) -> u32 {
        let mut specials = 0;
        loop {
            // SAFETY: both have space for `len` more bytes and a block.
            unsafe {
                let block = from.cast::<[u8; BLOCK]>().read();
                to.cast::<[u8; BLOCK]>().write(block);
                if len <= BLOCK {
                    // Bits past the text belong to the values after it.
                    return specials | self.specials(block) & !(u32::MAX << len);
                }
                specials |= self.specials(block);
                (from, to, len) = (from.add(BLOCK), to.add(BLOCK), len - BLOCK);
            }
        }
    }

    fn is_special(self, byte: u8) -> bool {
        [self.delimiter, self.quote, b'\r', b'\n'].contains(&byte)
    }
}

/// Writes fields.
///
/// The methods are separate functions with few arguments and loops without calls. A wasm compiler then keeps all
/// variables in registers, which doubles the speed.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) out: Output,
    pub(crate) quoting: Quoting,
    /// The values of the batch. Most fields are slices of them.
    pub(crate) values: &'a [u8],
    /// True if all values are UTF-8, so that no value needs a check.
    pub(crate) utf8: bool,
}

impl Fields<'_> {
    /// Appends cells, each followed by a delimiter, and returns their number. Stops at a cell that is not text, may be
    /// the null text, needs quotes, cannot be copied in blocks, or may exceed the spare capacity.
    #[inline(never)]
    pub(crate) fn push_fast(&mut self, cells: &[Cell<'_>], null_len: usize) -> usize {
        let Self { quoting, values, .. } = *self;
        let spare = self.out.spare();
        let (mut to, end) = (spare.as_mut_ptr(), spare.len());
        let mut left = end;
        let mut done = 0;
        for cell in cells {
            let Cell::Bytes(text) = *cell else { break };
            let len = text.len();
            if len == null_len || left < len + 2 * BLOCK {
                break;
            }
            let specials = match (offset_in(values, text), padded_block(text)) {
                // SAFETY: a block can be read after the text, and written after the text's copy.
                (Some(at), _) if at + len + BLOCK <= values.len() => unsafe {
                    quoting.copy(values.as_ptr().add(at), len, to)
                },
                // SAFETY: there is space for more than a block.
                (_, Some(block)) => unsafe {
                    to.cast::<[u8; BLOCK]>().write(block);
                    quoting.specials(block) & !(u32::MAX << len)
                },
                _ => break,
            };
            // The copied text is discarded if the field needs quotes.
            if specials != 0 {
                break;
            }
            // SAFETY: there is space for more than the text and a delimiter.
            unsafe {
                to.add(len).write(quoting.delimiter);
                to = to.add(len + 1);
            }
            left -= len + 1;
            done += 1;
        }
        self.out.advance(end - left);
        done
    }

    /// Appends any text, quoted if necessary.
    #[inline(never)]
    pub(crate) fn push(&mut self, text: &[u8]) {
        if let Some(block) = padded_block(text) {
            let specials = self.quoting.specials(block) & !(u32::MAX << text.len());
            if specials == 0 {
                self.out.reserve(BLOCK);
                return self.out.push_block(block, text.len());
            }
        }
        if text.iter().any(|&byte| self.quoting.is_special(byte)) {
            self.push_quoted(text);
        } else {
            self.out.push(text);
        }
    }

    /// Appends a quoted text.
    #[inline(never)]
    pub(crate) fn push_quoted(&mut self, text: &[u8]) {
        let Self { out, quoting, .. } = self;
        out.reserve(text.len() + 2);
        out.push_byte(quoting.quote);
        let quote = u8x16::splat(quoting.quote);
        let mut at = 0;
        while at < text.len() {
            let block = block_at(text, at);
            let len = (text.len() - at).min(BLOCK);
            let quotes = u8x16::new(block).simd_eq(quote).to_bitmask();
            let plain = (quotes | 1 << len).trailing_zeros() as usize;
            out.push_block(block, plain);
            at += plain;
            if plain < len {
                out.push(&[quoting.quote; 2]);
                at += 1;
                out.reserve(text.len() - at);
            }
        }
        out.push_byte(quoting.quote);
    }
}

/// Returns the offset of `part` in `buffer`, if it is a slice of it.
#[inline(always)]
fn offset_in(buffer: &[u8], part: &[u8]) -> Option<usize> {
    let offset = (part.as_ptr() as usize).wrapping_sub(buffer.as_ptr() as usize);
    (offset <= buffer.len() && part.len() <= buffer.len() - offset).then_some(offset)
}

/// Returns a text as one block, padded with zeros, if it fits. Copies words, because in WebAssembly a copy of
/// unknown length is a call.
#[inline(always)]
fn padded_block(text: &[u8]) -> Option<[u8; BLOCK]> {
    let len = text.len();
    let mut block = [0; BLOCK];
    match len {
        8..=BLOCK => {
            block[..8].copy_from_slice(&text[..8]);
            block[len - 8..len].copy_from_slice(&text[len - 8..]);
        }
        4..8 => {
            block[..4].copy_from_slice(&text[..4]);
            block[len - 4..len].copy_from_slice(&text[len - 4..]);
        }
        0..4 => block.iter_mut().zip(text).for_each(|(to, from)| *to = *from),
        _ => return None,
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTING: Quoting = Quoting { delimiter: b';', quote: b'\'' };

    #[test]
    fn quotes_special_bytes_at_every_position() {
        for byte in 0..=255u8 {
            for position in 0..40 {
                let mut text = vec![b'x'; 40];
                text[position] = byte;
                // The bytes around the range must not matter, nor whether a full block can be read.
                let values = [&b";'"[..], &text, b"';"].concat();
                let longer = [&values[..], &[b';'; BLOCK]].concat();
                let expected = match byte {
                    b'\'' => [b"'", &text[..position], b"''", &text[position + 1..], b"'"].concat(),
                    b';' | b'\r' | b'\n' => [b"'", &text[..], b"'"].concat(),
                    _ => text,
                };
                for values in [values, longer] {
                    let mut fields =
                        Fields { out: Output::default(), quoting: QUOTING, values: &values, utf8: true };
                    let cell = Cell::Bytes(&values[2..42]);
                    fields.out.reserve(100);
                    if fields.push_fast(&[cell], 0) == 0 {
                        fields.push(&values[2..42]);
                        fields.out.push_byte(b';');
                    }
                    assert_eq!(fields.out.into_bytes(), [&expected[..], b";"].concat());
                }
            }
        }
    }

    #[test]
    fn doubles_quotes_for_any_length() {
        for len in 0..100 {
            let mut fields = Fields { out: Output::default(), quoting: QUOTING, values: &[], utf8: true };
            fields.push_quoted(&vec![b'\''; len]);
            assert_eq!(fields.out.into_bytes(), vec![b'\''; 2 * len + 2]);
        }
    }
}

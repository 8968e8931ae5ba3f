use std::ops::Range;

use logship_stage::{BLOCK, Output, block_at};
use wide::u8x16;

/// What a field is enclosed in, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoting {
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
}

impl Quoting {
    /// Appends `buffer[range]` as a field, quoted where it must be.
    ///
    /// A function of its own, whose loop calls nothing: a wasm compiler then keeps all of it in
    /// registers.
    #[inline(never)]
    pub(crate) fn push(self, out: &mut Output, buffer: &[u8], range: Range<usize>) {
        let blocks = range.len().div_ceil(BLOCK) * BLOCK;
        let Some(from) = buffer.get(range.start..range.start + blocks) else {
            return self.push_at_end(out, buffer, range);
        };
        let mut left = range.len();
        let mut specials = 0;
        for (from, to) in from.as_chunks().0.iter().zip(out.room(blocks).as_chunks_mut().0) {
            *to = *from;
            // Bits past the range belong to what stands behind it.
            specials |= self.specials(*from) & !(u32::MAX << left.min(BLOCK));
            left = left.saturating_sub(BLOCK);
        }
        // Only now is it known whether there is a quote to begin with.
        if specials == 0 {
            out.advance(range.len());
        } else {
            self.push_quoted(out, buffer, range);
        }
    }

    /// [`push`](Self::push) for what has no whole blocks to read in its buffer.
    #[inline(never)]
    fn push_at_end(self, out: &mut Output, buffer: &[u8], range: Range<usize>) {
        let text = &buffer[range.clone()];
        if text.iter().any(|byte| [self.delimiter, self.quote, b'\r', b'\n'].contains(byte)) {
            self.push_quoted(out, buffer, range);
        } else {
            out.push(text);
        }
    }

    /// Appends `buffer[range]` as a quoted field.
    #[inline(never)]
    pub(crate) fn push_quoted(self, out: &mut Output, buffer: &[u8], range: Range<usize>) {
        out.reserve(range.len() + 2);
        out.push_byte(self.quote);
        let quote = u8x16::splat(self.quote);
        let mut at = range.start;
        while at < range.end {
            let block = block_at(buffer, at);
            let len = (range.end - at).min(BLOCK);
            let quotes = u8x16::new(block).simd_eq(quote).to_bitmask();
            let plain = (quotes | 1 << len).trailing_zeros() as usize;
            out.push_block(block, plain);
            at += plain;
            if plain < len {
                out.push(&[self.quote; 2]);
                at += 1;
                out.reserve(range.end - at);
            }
        }
        out.push_byte(self.quote);
    }

    /// A bit for each byte of the block that can't stand in a field without quotes.
    #[inline(always)]
    fn specials(self, block: [u8; BLOCK]) -> u32 {
        let block = u8x16::new(block);
        let is = |byte| block.simd_eq(u8x16::splat(byte));
        let special = is(self.delimiter) | is(self.quote) | is(b'\r') | is(b'\n');
        special.to_bitmask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTING: Quoting = Quoting { delimiter: b';', quote: b'\'' };

    #[test]
    fn every_byte_at_every_place_is_quoted_where_it_must_be() {
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut text = vec![b'x'; 40];
                text[place] = byte;
                // What stands around the range must not matter, nor whether a block can be read.
                let buffer = [&b";'"[..], &text, b"';"].concat();
                let longer = [&buffer[..], &[b';'; BLOCK]].concat();
                let expected = match byte {
                    b'\'' => [b"'", &text[..place], b"''", &text[place + 1..], b"'"].concat(),
                    b';' | b'\r' | b'\n' => [b"'", &text[..], b"'"].concat(),
                    _ => text,
                };
                for buffer in [buffer, longer] {
                    let mut out = Output::default();
                    QUOTING.push(&mut out, &buffer, 2..42);
                    assert_eq!(out.into_bytes(), expected);
                }
            }
        }
    }

    #[test]
    fn nothing_but_quotes_is_doubled_whatever_room_there_is() {
        for len in 0..100 {
            let mut out = Output::default();
            QUOTING.push_quoted(&mut out, &vec![b'\''; len], 0..len);
            assert_eq!(out.into_bytes(), vec![b'\''; 2 * len + 2]);
        }
    }
}

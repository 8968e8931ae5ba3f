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
    #[inline(always)]
    pub(crate) fn push(self, out: &mut Output, buffer: &[u8], range: Range<usize>) {
        let begin = out.len();
        out.reserve(range.len());
        let mut at = range.start;
        let mut specials = 0;
        while at < range.end {
            let block = block_at(buffer, at);
            let len = (range.end - at).min(BLOCK);
            // Bits past the range belong to what stands behind it.
            specials |= self.specials(block) & ((1 << len) - 1);
            out.push_block(block, len);
            at += BLOCK;
        }
        // That there is a quote to begin with is known only now: once more, then.
        if specials != 0 {
            out.truncate(begin);
            self.push_quoted(out, buffer, range);
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
                // What stands around the range must not matter.
                let buffer = [&b";'"[..], &text, b"';"].concat();
                let mut out = Output::default();
                QUOTING.push(&mut out, &buffer, 2..2 + text.len());
                let expected = match byte {
                    b'\'' => [b"'", &text[..place], b"''", &text[place + 1..], b"'"].concat(),
                    b';' | b'\r' | b'\n' => [b"'", &text[..], b"'"].concat(),
                    _ => text,
                };
                assert_eq!(out.into_bytes(), expected);
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

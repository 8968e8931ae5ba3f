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
    /// A bit for each byte of the block that can't stand in a field without quotes.
    #[inline(always)]
    fn specials(self, block: [u8; BLOCK]) -> u32 {
        let block = u8x16::new(block);
        let is = |byte| block.simd_eq(u8x16::splat(byte));
        let special = is(self.delimiter) | is(self.quote) | is(b'\r') | is(b'\n');
        special.to_bitmask()
    }

    fn is_special(self, byte: u8) -> bool {
        [self.delimiter, self.quote, b'\r', b'\n'].contains(&byte)
    }
}

/// Fields in the making.
///
/// The methods are functions of their own, with few arguments and no call inside the loop: a wasm
/// compiler then keeps all of it in registers, which doubles the speed.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) out: Output,
    pub(crate) quoting: Quoting,
    /// The values of the batch, where most fields are from.
    pub(crate) values: &'a [u8],
    /// Whether no value needs to be looked at for its encoding.
    pub(crate) utf8: bool,
}

impl Fields<'_> {
    /// Appends `values[range]`, quoted where it must be.
    #[inline(never)]
    pub(crate) fn push_range(&mut self, range: Range<usize>) {
        let blocks = range.len().div_ceil(BLOCK) * BLOCK;
        let Some(from) = self.values.get(range.start..range.start + blocks) else {
            return self.push(&self.values[range]);
        };
        let mut left = range.len();
        let mut specials = 0;
        for (from, to) in from.as_chunks().0.iter().zip(self.out.room(blocks).as_chunks_mut().0) {
            *to = *from;
            // Bits past the range belong to the values behind it.
            specials |= self.quoting.specials(*from) & !(u32::MAX << left.min(BLOCK));
            left = left.saturating_sub(BLOCK);
        }
        // Only now is it known whether there is a quote to begin with.
        if specials == 0 {
            self.out.advance(range.len());
        } else {
            self.push_quoted(&self.values[range]);
        }
    }

    /// Appends any text, quoted where it must be.
    #[inline(never)]
    pub(crate) fn push(&mut self, text: &[u8]) {
        if text.iter().any(|&byte| self.quoting.is_special(byte)) {
            self.push_quoted(text);
        } else {
            self.out.push(text);
        }
    }

    /// Appends a text within quotes.
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
                let values = [&b";'"[..], &text, b"';"].concat();
                let longer = [&values[..], &[b';'; BLOCK]].concat();
                let expected = match byte {
                    b'\'' => [b"'", &text[..place], b"''", &text[place + 1..], b"'"].concat(),
                    b';' | b'\r' | b'\n' => [b"'", &text[..], b"'"].concat(),
                    _ => text,
                };
                for values in [values, longer] {
                    let mut fields =
                        Fields { out: Output::default(), quoting: QUOTING, values: &values, utf8: true };
                    fields.push_range(2..42);
                    assert_eq!(fields.out.into_bytes(), expected);
                }
            }
        }
    }

    #[test]
    fn nothing_but_quotes_is_doubled_whatever_room_there_is() {
        for len in 0..100 {
            let mut fields = Fields { out: Output::default(), quoting: QUOTING, values: &[], utf8: true };
            fields.push_quoted(&vec![b'\''; len]);
            assert_eq!(fields.out.into_bytes(), vec![b'\''; 2 * len + 2]);
        }
    }
}

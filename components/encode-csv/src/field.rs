use logship_stage::columns::Cell;
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

    /// Copies `len` bytes in whole blocks, and returns whether there is a special byte among them: not 0
    /// if so.
    ///
    /// # Safety
    /// `len` bytes and a block may be read behind `from` and written behind `to`.
    #[inline(always)]
    unsafe fn copy(self, mut from: *const u8, mut len: usize, mut to: *mut u8) -> u32 {
        let mut specials = 0;
        loop {
            // SAFETY: a block behind `len` more bytes is left of both.
            unsafe {
                let block = from.cast::<[u8; BLOCK]>().read();
                to.cast::<[u8; BLOCK]>().write(block);
                if len <= BLOCK {
                    // Bits past the text belong to the values behind it.
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
    /// Appends cells like most, each with a delimiter behind it, and returns how many: up to one that
    /// is no text, may be the null text, must be quoted, can't be copied in blocks or may have too
    /// little room.
    #[inline(never)]
    pub(crate) fn push_usual(&mut self, cells: &[Cell<'_>], null_len: usize) -> usize {
        let Self { quoting, values, .. } = *self;
        let room = self.out.spare();
        let (mut to, end) = (room.as_mut_ptr(), room.len());
        let mut left = end;
        let mut done = 0;
        for cell in cells {
            let Cell::Bytes(text) = *cell else { break };
            let len = text.len();
            if len == null_len || left < len + 2 * BLOCK {
                break;
            }
            let specials = match (offset_in(values, text), short(text)) {
                // SAFETY: a block behind the text can be read, and written behind `to`.
                (Some(at), _) if at + len + BLOCK <= values.len() => unsafe {
                    quoting.copy(values.as_ptr().add(at), len, to)
                },
                // SAFETY: more than a block is left.
                (_, Some(block)) => unsafe {
                    to.cast::<[u8; BLOCK]>().write(block);
                    quoting.specials(block) & !(u32::MAX << len)
                },
                _ => break,
            };
            // Only now is it known whether there is a quote to begin with.
            if specials != 0 {
                break;
            }
            // SAFETY: more than the text and a delimiter is left.
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

    /// Appends any text, quoted where it must be.
    #[inline(never)]
    pub(crate) fn push(&mut self, text: &[u8]) {
        if let Some(block) = short(text) {
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

/// Where `part` begins in `whole`, if it is a part of it.
#[inline(always)]
fn offset_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    (offset <= whole.len() && part.len() <= whole.len() - offset).then_some(offset)
}

/// A text of not more than a block, as one: put together from words, because in WebAssembly a copy
/// whose length is not known is a call.
#[inline(always)]
fn short(text: &[u8]) -> Option<[u8; BLOCK]> {
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
                    let cell = Cell::Bytes(&values[2..42]);
                    fields.out.reserve(100);
                    if fields.push_usual(&[cell], 0) == 0 {
                        fields.push(&values[2..42]);
                        fields.out.push_byte(b';');
                    }
                    assert_eq!(fields.out.into_bytes(), [&expected[..], b";"].concat());
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

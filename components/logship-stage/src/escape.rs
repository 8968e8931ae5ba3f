//! Values that may not stand in the output as they are, a SIMD block at a time.

use wide::u8x16;

use crate::{BLOCK, Output, block_at};

/// Which bytes of a value are written otherwise, and how.
pub trait Escape {
    /// A bit for each byte of the block that is.
    fn specials(block: [u8; BLOCK]) -> u32;

    /// What stands for such a byte, and in the last place how many bytes that are: six at most.
    fn escape(byte: u8) -> &'static [u8; 8];
}

/// The inside of a JSON string: quotes, backslashes and what is below a space are escaped.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// A line: line feeds, carriage returns and NUL become `\n`, `\r` and `\0`; backslashes stay alone.
#[derive(Debug, Clone, Copy)]
pub struct Line;

/// Anything: nothing is escaped.
#[derive(Debug, Clone, Copy)]
pub struct Verbatim;

/// Appends `buffer[range]`, which is UTF-8, escaped.
#[inline(always)]
pub fn push_escaped<E: Escape>(out: &mut Output, buffer: &[u8], range: std::ops::Range<usize>) {
    let mut at = range.start;
    out.reserve(range.len());
    while at < range.end {
        let block = block_at(buffer, at);
        let len = (range.end - at).min(BLOCK);
        // Bits past the range belong to the values behind it.
        let clean = (E::specials(block) | 1 << len).trailing_zeros() as usize;
        out.push_block(block, clean);
        at += clean;
        if clean < len {
            let escape = E::escape(block[clean]);
            out.push(&escape[..usize::from(escape[7])]);
            at += 1;
            out.reserve(range.end - at);
        }
    }
}

impl Escape for Json {
    #[inline(always)]
    fn specials(block: [u8; BLOCK]) -> u32 {
        let block = u8x16::new(block);
        let control = block.min(u8x16::splat(0x1f)).simd_eq(block);
        let special = control | block.simd_eq(u8x16::splat(b'"')) | block.simd_eq(u8x16::splat(b'\\'));
        special.to_bitmask()
    }

    #[inline(always)]
    fn escape(byte: u8) -> &'static [u8; 8] {
        &JSON[usize::from(byte & 0x7f)]
    }
}

impl Escape for Line {
    #[inline(always)]
    fn specials(block: [u8; BLOCK]) -> u32 {
        let block = u8x16::new(block);
        let feed = block.simd_eq(u8x16::splat(b'\n')) | block.simd_eq(u8x16::splat(b'\r'));
        (feed | block.simd_eq(u8x16::splat(0))).to_bitmask()
    }

    #[inline(always)]
    fn escape(byte: u8) -> &'static [u8; 8] {
        match byte {
            b'\n' => b"\\n\0\0\0\0\0\x02",
            b'\r' => b"\\r\0\0\0\0\0\x02",
            _ => b"\\0\0\0\0\0\0\x02",
        }
    }
}

impl Escape for Verbatim {
    #[inline(always)]
    fn specials(_: [u8; BLOCK]) -> u32 {
        0
    }

    #[inline(always)]
    fn escape(_: u8) -> &'static [u8; 8] {
        &[0; 8]
    }
}

/// For each ASCII byte its escape, and in the last place its length.
static JSON: [[u8; 8]; 128] = {
    let mut escapes = [[0; 8]; 128];
    let mut byte = 0;
    while byte < escapes.len() {
        escapes[byte] = in_json(byte as u8);
        byte += 1;
    }
    escapes
};

const fn in_json(byte: u8) -> [u8; 8] {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let hex = b"0123456789abcdef";
            let (high, low) = (hex[(byte >> 4) as usize], hex[(byte & 15) as usize]);
            return [b'\\', b'u', b'0', b'0', high, low, 0, 6];
        }
    };
    [b'\\', short, 0, 0, 0, 0, 0, 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_reads_back() {
        for byte in 0..0x80u8 {
            for place in 0..40 {
                let mut text = vec![b'x'; 40];
                text[place] = byte;
                // What stands around the range must not matter.
                let buffer = [&b"\"\\"[..], &text, b"\n\"\\"].concat();
                let mut out = Output::default();
                out.push(b"\"");
                push_escaped::<Json>(&mut out, &buffer, 2..2 + text.len());
                out.push(b"\"");
                let read: String = serde_json::from_slice(&out.into_bytes()).unwrap();
                assert_eq!(read.as_bytes(), text);
            }
        }
    }
}

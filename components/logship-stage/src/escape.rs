//! Escapes values, one SIMD block at a time.

use wide::u8x16;

use crate::{BLOCK, Output, block_at};

/// An escaping scheme: the bytes to escape and their replacements.
pub trait Escape {
    /// Returns a bit mask of the bytes in the block that must be escaped.
    fn specials(block: [u8; BLOCK]) -> u32;

    /// Returns the replacement of such a byte. The last element is the replacement's length: at most six.
    fn escape(byte: u8) -> &'static [u8; 8];
}

/// Escapes for JSON strings: quotes, backslashes and bytes below 0x20.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// Escapes for single lines: line feeds, carriage returns and NUL become `\n`, `\r` and `\0`. Backslashes are not
/// escaped.
#[derive(Debug, Clone, Copy)]
pub struct Line;

/// Escapes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Verbatim;

/// Appends `buffer[range]`, escaped. The range must be UTF-8.
#[inline(always)]
pub fn push_escaped<E: Escape>(out: &mut Output, buffer: &[u8], range: std::ops::Range<usize>) {
    let mut at = range.start;
    out.reserve(range.len());
    while at < range.end {
        let block = block_at(buffer, at);
        let len = (range.end - at).min(BLOCK);
        // Bits past the range belong to the values after it.
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

/// The escape of each ASCII byte. The last element is the escape's length.
static JSON: [[u8; 8]; 128] = {
    let mut escapes = [[0; 8]; 128];
    let mut byte = 0;
    while byte < escapes.len() {
        escapes[byte] = json_escape(byte as u8);
        byte += 1;
    }
    escapes
};

const fn json_escape(byte: u8) -> [u8; 8] {
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

/// Returns a value as a JSON string, with its quotes. Bytes that are not UTF-8 become U+FFFD.
///
/// ```
/// assert_eq!(logship_stage::escape::json_string(b"a \"b\"\xff"), "\"a \\\"b\\\"\u{fffd}\"".as_bytes());
/// ```
pub fn json_string(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let mut out = Output::default();
    out.push_byte(b'"');
    push_escaped::<Json>(&mut out, text.as_bytes(), 0..text.len());
    out.push_byte(b'"');
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_round_trip_at_every_position() {
        for byte in 0..0x80u8 {
            for position in 0..40 {
                let mut text = vec![b'x'; 40];
                text[position] = byte;
                // Bytes around the range must not matter.
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

use logship_stage::{BLOCK, Output, block_at};
use wide::u8x16;

/// Appends `buffer[range]`, which is UTF-8, as the inside of a JSON string.
#[inline(always)]
pub(crate) fn push_escaped(out: &mut Output, buffer: &[u8], range: std::ops::Range<usize>) {
    let mut at = range.start;
    out.reserve(range.len());
    while at < range.end {
        let block = block_at(buffer, at);
        let len = (range.end - at).min(BLOCK);
        // Bits past the range belong to the values behind it.
        let clean = (specials(block) | 1 << len).trailing_zeros() as usize;
        out.push_block(block, clean);
        at += clean;
        if clean < len {
            push_escape(out, block[clean]);
            at += 1;
            out.reserve(range.end - at);
        }
    }
}

/// A bit for each byte of the block that can't stand in a JSON string as it is: quote, backslash,
/// and what is below a space.
#[inline(always)]
pub(crate) fn specials(block: [u8; BLOCK]) -> u32 {
    let block = u8x16::new(block);
    let control = block.min(u8x16::splat(0x1f)).simd_eq(block);
    let special = control | block.simd_eq(u8x16::splat(b'"')) | block.simd_eq(u8x16::splat(b'\\'));
    special.to_bitmask()
}

#[inline(never)]
fn push_escape(out: &mut Output, byte: u8) {
    let short = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0c => b"\\f",
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[digit as usize];
            return out.push(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
    };
    out.push(short);
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
                push_escaped(&mut out, &buffer, 2..2 + text.len());
                out.push(b"\"");
                let read: String = serde_json::from_slice(&out.into_bytes()).unwrap();
                assert_eq!(read.as_bytes(), text);
            }
        }
    }
}

use std::ops::Range;

use logship_stage::{BLOCK, Batch, Output, Text};

use crate::escape::specials;

/// The fields of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'a> {
    /// By key index, what stands before the key's value.
    pub(crate) keys: &'a [Text],
    pub(crate) field_keys: &'a [u32],
    pub(crate) value_ends: &'a [u32],
    pub(crate) values: &'a [u8],
}

/// The most bytes that a byte of a value becomes.
const MOST: usize = 6;
/// What is longer does not take long for the loop around it, and no sum with it must overflow.
const LARGE: usize = 1 << 20;

impl<'a> Members<'a> {
    /// The fields of `batch`; `keys` are what stands before the values, by key index.
    pub(crate) fn of(batch: &'a Batch, keys: &'a [Text]) -> Self {
        let raw = batch.raw();
        Self { keys, field_keys: &raw.field_keys, value_ends: &raw.value_ends, values: &raw.values }
    }

    /// Appends members of values that are UTF-8, the first of which begins at `begin`, and returns the
    /// field where it stopped and where that one's value begins: at the end, or at a field for which
    /// there may be too little room, or whose blocks reach past the values.
    ///
    /// It calls nothing, not even to escape: a wasm compiler keeps no register across a call, and if
    /// there is one in the loop, spills all of what the loop needs.
    #[inline(never)]
    pub(crate) fn push(self, out: &mut Output, fields: Range<usize>, mut begin: usize) -> (usize, usize) {
        let room = out.spare();
        let (mut to, end) = (room.as_mut_ptr(), room.len());
        let mut left = end;
        let mut at = fields.start;
        let columns = self.field_keys[fields.clone()].iter().zip(&self.value_ends[fields]);
        for (&key, &value_end) in columns {
            let key = self.keys[key as usize].padded();
            let len = (value_end as usize).wrapping_sub(begin);
            let most = key.len() + (len + BLOCK) * MOST;
            if value_end as usize + BLOCK > self.values.len()
                || len > LARGE
                || most > left
                || key.len() < BLOCK
            {
                break;
            }
            // SAFETY: `most` bytes are left behind `to`; that is all of the padded key, and the longest
            // escape for each byte of the value and of a block. The value ends a block before the values
            // do; it begins before its end, or `len` had wrapped around and were large. A key has a
            // block behind it.
            let next = unsafe {
                let value = copy_key(key, to);
                copy_escaped(self.values.as_ptr().add(begin), len, value)
            };
            left -= next.addr() - to.addr();
            to = next;
            begin = value_end as usize;
            at += 1;
        }
        out.advance(end - left);
        (at, begin)
    }
}

/// Copies a key without the block behind it and returns where it ends.
///
/// # Safety
/// `key.len()` bytes may be written behind `to`.
#[inline(always)]
unsafe fn copy_key(key: &[u8], to: *mut u8) -> *mut u8 {
    let len = key.len() - BLOCK;
    let mut at = 0;
    loop {
        // SAFETY: a block stands behind the key, so one that begins in the key, or right behind it, ends
        // in `key`.
        unsafe { to.add(at).cast::<[u8; BLOCK]>().write(key.as_ptr().add(at).cast::<[u8; BLOCK]>().read()) };
        at += BLOCK;
        if at >= len {
            break;
        }
    }
    // SAFETY: not more than `key.len()`.
    unsafe { to.add(len) }
}

/// Copies `len` bytes as the inside of a JSON string and returns where it ends.
///
/// # Safety
/// `len` bytes and a block may be read behind `from`, and [`MOST`] times as many written behind `to`.
#[inline(always)]
unsafe fn copy_escaped(mut from: *const u8, mut len: usize, mut to: *mut u8) -> *mut u8 {
    loop {
        // SAFETY: a block behind `len` more bytes is left of both.
        unsafe {
            let block = from.cast::<[u8; BLOCK]>().read();
            to.cast::<[u8; BLOCK]>().write(block);
            // Bits past the value belong to what stands behind it.
            let found = specials(block) & !(u32::MAX << len.min(BLOCK));
            // Most steps are whole blocks, and the next need not wait for what is found in this one.
            if found == 0 && len <= BLOCK {
                return to.add(len);
            } else if found == 0 {
                (from, to, len) = (from.add(BLOCK), to.add(BLOCK), len - BLOCK);
            } else {
                let clean = found.trailing_zeros() as usize;
                let escape = &ESCAPES[usize::from(from.add(clean).read() & 0x7f)];
                to.add(clean).cast::<[u8; 8]>().write(*escape);
                to = to.add(clean + usize::from(escape[7]));
                (from, len) = (from.add(clean + 1), len - clean - 1);
            }
        }
    }
}

/// For each ASCII byte its escape, and in the last place its length.
static ESCAPES: [[u8; 8]; 128] = {
    let mut escapes = [[0; 8]; 128];
    let mut byte = 0;
    while byte < escapes.len() {
        escapes[byte] = escape(byte as u8);
        byte += 1;
    }
    escapes
};

const fn escape(byte: u8) -> [u8; 8] {
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
    use logship_stage::{BatchBuilder, Encoder as _};

    use crate::JsonEncoder;

    fn reads_back(values: &[String]) {
        let fields: Vec<_> =
            values.iter().map(|value| ("a key of more than a block", value.as_str())).collect();
        // Behind the last value there must be a block for the loop to take it.
        let batch =
            BatchBuilder::new().log(1, &fields).log(2, &[("k", "\"\\\"\\ filler, and more of it")]).build();
        let bytes = JsonEncoder::open("").unwrap().push(&batch).unwrap();
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let read = line.split("\"a key of more than a block\":").skip(1);
        let read: Vec<String> =
            read.map(|text| serde_json::from_str(text.trim_end_matches([',', '}'])).unwrap()).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn every_byte_at_every_place_reads_back() {
        for byte in 0..0x80u8 {
            for place in 0..40 {
                let mut text = "x".repeat(40);
                text.replace_range(place..=place, char::from(byte).encode_utf8(&mut [0; 4]));
                reads_back(&[text, String::new(), "y".into()]);
            }
        }
    }

    #[test]
    fn values_shorter_than_a_block_are_not_read_past() {
        for value in ["", "x", "fifteen bytes.."] {
            let batch = BatchBuilder::new().log(1, &[("a", ""), ("b", value)]).build();
            let bytes = JsonEncoder::open(r#"{"tags":true}"#).unwrap().push(&batch).unwrap();
            assert!(bytes.ends_with(format!("\"a\":\"\",\"b\":\"{value}\"}}\n").as_bytes()));
        }
    }

    #[test]
    fn values_that_outgrow_the_room_read_back() {
        for count in [1, 15, 16, 17, 100, 1000] {
            reads_back(&vec!["\u{1}\u{1f}\"\u{e9}".repeat(count); 20]);
        }
    }
}

use std::ops::Range;

use crate::escape::{Escape, push_escaped};
use crate::{BLOCK, Batch, Output, Text};

/// Writes the fields of a batch one after the other: for each field, a text for its key, then the escaped value. For
/// stages whose output is a list of fields. They spend max_len of their time in this loop.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// The text before a value, by key index.
    keys: &'a [Text],
    field_keys: &'a [u32],
    value_ends: &'a [u32],
    values: &'a [u8],
    /// True if every value is UTF-8, so that values need no check.
    utf8: bool,
}

/// The max_len bytes that one byte of a value becomes when escaped.
const MAX_ESCAPE: usize = 6;
/// The longest value of the fast loop, in bytes. The limit prevents overflows; longer values gain little from the
/// fast loop.
const MAX_FAST_VALUE: usize = 1 << 20;

impl<'a> Fields<'a> {
    /// Creates a writer for the fields of `batch`. `keys` are the texts before the values, by key index.
    pub fn of(batch: &'a Batch, keys: &'a [Text]) -> Self {
        let raw = batch.raw();
        let utf8 = batch.values_are_utf8();
        Self { keys, field_keys: &raw.field_keys, value_ends: &raw.value_ends, values: &raw.values, utf8 }
    }

    /// Appends `fields`, whose first value begins at `begin` (both from [`Log::span`](crate::Log::span)). Omits the
    /// first `skip` bytes of the text before the first value. Bytes that are not UTF-8 become U+FFFD.
    #[inline(always)]
    pub fn push<E: Escape>(
        &self,
        out: &mut Output,
        mut fields: Range<usize>,
        mut begin: usize,
        mut skip: usize,
    ) {
        while !fields.is_empty() {
            if self.utf8 && skip == 0 {
                (fields.start, begin) = self.push_fast::<E>(out, fields.clone(), begin);
            }
            // A field that the fast loop cannot write.
            if !fields.is_empty() {
                begin = self.push_field::<E>(out, fields.start, begin, skip);
                fields.start += 1;
                skip = 0;
            }
        }
    }

    /// Appends one field, whose value begins at `begin`, without the first `skip` bytes of the text before the value.
    /// Returns the value's end.
    #[inline(never)]
    pub fn push_field<E: Escape>(&self, out: &mut Output, field: usize, begin: usize, skip: usize) -> usize {
        let Self { keys, field_keys, value_ends, values, utf8 } = *self;
        let range = begin..value_ends[field] as usize;
        out.push_text_from(&keys[field_keys[field] as usize], skip);
        let value = &values[range.clone()];
        if utf8 || simdutf8::basic::from_utf8(value).is_ok() {
            push_escaped::<E>(out, values, range.clone());
        } else {
            let text = String::from_utf8_lossy(value);
            push_escaped::<E>(out, text.as_bytes(), 0..text.len());
        }
        range.end
    }

    /// Appends fields whose values are UTF-8; the first value begins at `begin`. Stops at the end, at a field that may
    /// exceed the spare capacity, or at a field whose blocks reach past the values. Returns that field and the start
    /// of its value.
    ///
    /// The loop makes no calls, not even to escape: a wasm compiler keeps no registers across calls and would spill
    /// the loop's variables.
    #[inline(never)]
    fn push_fast<E: Escape>(
        self,
        out: &mut Output,
        fields: Range<usize>,
        mut begin: usize,
    ) -> (usize, usize) {
        let spare = out.spare();
        let (mut to, end) = (spare.as_mut_ptr(), spare.len());
        let mut left = end;
        let mut at = fields.start;
        let columns = self.field_keys[fields.clone()].iter().zip(&self.value_ends[fields]);
        for (&key, &value_end) in columns {
            let key = self.keys[key as usize].padded();
            let len = (value_end as usize).wrapping_sub(begin);
            let max_len = key.len() + (len + BLOCK) * MAX_ESCAPE;
            if value_end as usize + BLOCK > self.values.len()
                || len > MAX_FAST_VALUE
                || max_len > left
                || key.len() < BLOCK
            {
                break;
            }
            // SAFETY: `max_len` bytes are left after `to`: enough for the padded key, and for the longest
            // escape of each byte of the value and of one block. The value ends at least a block before the
            // end of `values`. It begins before its end: otherwise `len` would have wrapped around and be
            // too large. A key is followed by a block.
            let next = unsafe {
                let value = copy_key(key, to);
                copy_escaped::<E>(self.values.as_ptr().add(begin), len, value)
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

/// Copies a key without its padding block. Returns the end of the copy.
///
/// # Safety
/// `to` must be valid for writes of `key.len()` bytes.
#[inline(always)]
unsafe fn copy_key(key: &[u8], to: *mut u8) -> *mut u8 {
    let len = key.len() - BLOCK;
    let mut at = 0;
    loop {
        // SAFETY: a padding block follows the key, so a block that begins in the key or right after it ends
        // within `key`.
        unsafe { to.add(at).cast::<[u8; BLOCK]>().write(key.as_ptr().add(at).cast::<[u8; BLOCK]>().read()) };
        at += BLOCK;
        if at >= len {
            break;
        }
    }
    // SAFETY: `len` is at most `key.len()`.
    unsafe { to.add(len) }
}

/// Copies `len` bytes, escaped. Returns the end of the copy.
///
/// # Safety
/// `from` must be valid for reads of `len` bytes and a block, and `to` for writes of [`MAX_ESCAPE`] times as many.
#[inline(always)]
unsafe fn copy_escaped<E: Escape>(mut from: *const u8, mut len: usize, mut to: *mut u8) -> *mut u8 {
    loop {
        // SAFETY: both have space for `len` more bytes and a block.
        unsafe {
            let block = from.cast::<[u8; BLOCK]>().read();
            to.cast::<[u8; BLOCK]>().write(block);
            // Bits past the value belong to the bytes after it.
            let found = E::specials(block) & !(u32::MAX << len.min(BLOCK));
            // Most steps are full blocks without specials; the next step does not depend on this one's result.
            if found == 0 && len <= BLOCK {
                return to.add(len);
            } else if found == 0 {
                (from, to, len) = (from.add(BLOCK), to.add(BLOCK), len - BLOCK);
            } else {
                let clean = found.trailing_zeros() as usize;
                let escape = E::escape(from.add(clean).read());
                to.add(clean).cast::<[u8; 8]>().write(*escape);
                to = to.add(clean + usize::from(escape[7]).min(MAX_ESCAPE));
                (from, len) = (from.add(clean + 1), len - clean - 1);
            }
        }
    }
}

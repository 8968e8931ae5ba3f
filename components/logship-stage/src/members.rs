use std::ops::Range;

use crate::escape::{Escape, push_escaped};
use crate::{BLOCK, Batch, Output, Text};

/// The fields of a batch, to be written one after the other: before each value stands a text for its key, and the
/// value is escaped. For stages whose output is such a list; most of their time is spent in its loop.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a> {
    /// By key index, what stands before the key's value.
    keys: &'a [Text],
    field_keys: &'a [u32],
    value_ends: &'a [u32],
    values: &'a [u8],
    /// Whether every value is UTF-8, which spares looking at each.
    utf8: bool,
}

/// The most bytes that a byte of a value becomes.
const MOST: usize = 6;
/// What is longer does not take long for the loop around it, and no sum with it must overflow.
const LARGE: usize = 1 << 20;

impl<'a> Members<'a> {
    /// The fields of `batch`; `keys` are what stands before the values, by key index.
    pub fn of(batch: &'a Batch, keys: &'a [Text]) -> Self {
        let raw = batch.raw();
        let utf8 = batch.values_are_utf8();
        Self { keys, field_keys: &raw.field_keys, value_ends: &raw.value_ends, values: &raw.values, utf8 }
    }

    /// Appends `fields`, the first of whose values begins at `begin` (both as [`Log::span`](crate::Log::span) has them).
    /// The first `skip` bytes of what stands before the first value are left out. Bytes that are not UTF-8 become
    /// U+FFFD.
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
                (fields.start, begin) = self.push_usual::<E>(out, fields.clone(), begin);
            }
            // Whatever the loop over the usual members left.
            if !fields.is_empty() {
                begin = self.push_any::<E>(out, fields.start, begin, skip);
                fields.start += 1;
                skip = 0;
            }
        }
    }

    /// Appends any field, whose value begins at `begin`, without the first `skip` bytes of what stands before it, and
    /// returns where its value ends.
    #[inline(never)]
    pub fn push_any<E: Escape>(&self, out: &mut Output, field: usize, begin: usize, skip: usize) -> usize {
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

    /// Appends members of values that are UTF-8, the first of which begins at `begin`, and returns the
    /// field where it stopped and where that one's value begins: at the end, or at a field for which
    /// there may be too little room, or whose blocks reach past the values.
    ///
    /// It calls nothing, not even to escape: a wasm compiler keeps no register across a call, and if
    /// there is one in the loop, spills all of what the loop needs.
    #[inline(never)]
    fn push_usual<E: Escape>(
        self,
        out: &mut Output,
        fields: Range<usize>,
        mut begin: usize,
    ) -> (usize, usize) {
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

/// Copies `len` bytes, escaped, and returns where they end.
///
/// # Safety
/// `len` bytes and a block may be read behind `from`, and [`MOST`] times as many written behind `to`.
#[inline(always)]
unsafe fn copy_escaped<E: Escape>(mut from: *const u8, mut len: usize, mut to: *mut u8) -> *mut u8 {
    loop {
        // SAFETY: a block behind `len` more bytes is left of both.
        unsafe {
            let block = from.cast::<[u8; BLOCK]>().read();
            to.cast::<[u8; BLOCK]>().write(block);
            // Bits past the value belong to what stands behind it.
            let found = E::specials(block) & !(u32::MAX << len.min(BLOCK));
            // Most steps are whole blocks, and the next need not wait for what is found in this one.
            if found == 0 && len <= BLOCK {
                return to.add(len);
            } else if found == 0 {
                (from, to, len) = (from.add(BLOCK), to.add(BLOCK), len - BLOCK);
            } else {
                let clean = found.trailing_zeros() as usize;
                let escape = E::escape(from.add(clean).read());
                to.add(clean).cast::<[u8; 8]>().write(*escape);
                to = to.add(clean + usize::from(escape[7]).min(MOST));
                (from, len) = (from.add(clean + 1), len - clean - 1);
            }
        }
    }
}

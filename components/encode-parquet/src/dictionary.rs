use logship_stage::Output;

/// The limits of a dictionary page.
const MAX_BYTES: usize = 1 << 20;
const MAX_VALUES: usize = 1 << 15;
/// The number of slots to probe before the dictionary counts as full. The limit keeps lookups fast even for logs that
/// were crafted to collide.
const MAX_PROBES: usize = 256;
const FIRST_SLOTS: usize = 1 << 9;

/// The distinct values of a column chunk, in order of first occurrence.
#[derive(Debug)]
pub(crate) struct Dictionary {
    /// The values in PLAIN encoding: the dictionary page.
    page: Output,
    /// The end of each value in the page.
    ends: Vec<u32>,
    /// The size of the length prefix of each value in the page, in bytes.
    prefix: usize,
    /// The hash of each value.
    hashes: Vec<u32>,
    /// A hash table with linear probing, at most half full; its length is a power of two.
    slots: Vec<Slot>,
}

/// A slot of the hash table. Small, so that the table of a full dictionary fits into the cache.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The upper half of the hash.
    tag: u16,
    /// The index of the value plus one; 0 for an empty slot.
    number: u16,
}

/// The result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interned {
    Known(u32),
    New(u32),
    /// The dictionary is full.
    Full,
}

impl Dictionary {
    /// Creates an empty dictionary of texts or of numbers.
    pub(crate) fn new(texts: bool) -> Self {
        let prefix = if texts { 4 } else { 0 };
        Self { page: Output::default(), ends: Vec::new(), prefix, hashes: Vec::new(), slots: Vec::new() }
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the values in PLAIN encoding.
    pub(crate) fn page(&self) -> &[u8] {
        self.page.as_bytes()
    }

    /// Returns the value at `index` in PLAIN encoding.
    #[inline(always)]
    pub(crate) fn plain(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.page.as_bytes()[start..self.ends[index] as usize]
    }

    /// Removes all values but keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.page.truncate(0);
        self.ends.clear();
        self.hashes.clear();
        self.slots.fill(Slot::default());
    }

    /// Returns the index of a value. Adds a new value unless the dictionary is full.
    #[inline(always)]
    pub(crate) fn intern(&mut self, value: &[u8]) -> Interned {
        if self.ends.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash(value);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..MAX_PROBES {
            let slot = self.slots[at];
            if slot.number == 0 {
                return self.add(value, hash, at);
            }
            if slot.tag == tag(hash) {
                let index = u32::from(slot.number) - 1;
                if equal(&self.plain(index)[self.prefix..], value) {
                    return Interned::Known(index);
                }
            }
            at = (at + 1) & mask;
        }
        Interned::Full
    }

    #[inline(never)]
    fn add(&mut self, value: &[u8], hash: u32, at: usize) -> Interned {
        let index = self.ends.len();
        if index == MAX_VALUES || self.page.len() + self.prefix + value.len() > MAX_BYTES {
            return Interned::Full;
        }
        if self.prefix > 0 {
            self.page.push_value(&(value.len() as u32).to_le_bytes());
        }
        self.page.push_value(value);
        self.ends.push(self.page.len() as u32);
        self.hashes.push(hash);
        self.slots[at] = Slot { tag: tag(hash), number: index as u16 + 1 };
        Interned::New(index as u32)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(FIRST_SLOTS);
        self.slots = vec![Slot::default(); size];
        for (index, &hash) in self.hashes.iter().enumerate() {
            let mut at = hash as usize & (size - 1);
            while self.slots[at].number > 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = Slot { tag: tag(hash), number: index as u16 + 1 };
        }
    }
}

/// Returns the part of a hash that is stored in its slot. The other part determines the slot's position.
#[inline(always)]
fn tag(hash: u32) -> u16 {
    (hash >> 16) as u16
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[inline(always)]
fn half_word(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")).into()
}

/// Hashes words of 64 bits, multiplied and rotated in two lanes. Must be the same on every target: the dictionary
/// depends on the hashes if a lookup reaches [`MAX_PROBES`].
#[inline(always)]
fn hash(value: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |lane: u64, word: u64| (lane.rotate_left(26) ^ word).wrapping_mul(FACTOR);
    let len = value.len();
    let (mut a, mut b) = (len as u64, FACTOR);
    if len >= 8 {
        let mut at = 0;
        while at + 16 <= len {
            (a, b) = (mix(a, word(value, at)), mix(b, word(value, at + 8)));
            at += 16;
        }
        if at + 8 <= len {
            a = mix(a, word(value, at));
        }
        b = mix(b, word(value, len - 8));
    } else if len >= 4 {
        a = mix(a, half_word(value, 0) | half_word(value, len - 4) << 32);
    } else if let (Some(&first), Some(&last)) = (value.first(), value.last()) {
        a = mix(a, u64::from(first) | u64::from(value[len / 2]) << 8 | u64::from(last) << 16);
    }
    let both = mix(a ^ (a >> 32), b ^ (b >> 32));
    (both >> 32) as u32
}

/// Returns true if two values are equal. Compares words, because `memcmp` compares single bytes in WebAssembly.
#[inline(always)]
fn equal(a: &[u8], b: &[u8]) -> bool {
    let len = b.len();
    if a.len() != len {
        return false;
    }
    if len >= 8 {
        let mut at = 0;
        while at + 8 < len {
            if word(a, at) != word(b, at) {
                return false;
            }
            at += 8;
        }
        word(a, len - 8) == word(b, len - 8)
    } else if len >= 4 {
        half_word(a, 0) == half_word(b, 0) && half_word(a, len - 4) == half_word(b, len - 4)
    } else {
        a.iter().zip(b).all(|(a, b)| a == b)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_distinct_value_has_one_index(
            values in prop::collection::vec(prop::collection::vec(0..3u8, 0..40), 0..3000),
        ) {
            let mut dictionary = Dictionary::new(true);
            let mut expected: HashMap<Vec<u8>, u32> = HashMap::new();
            for value in &values {
                let next = expected.len() as u32;
                let index = *expected.entry(value.clone()).or_insert(next);
                let interned = if index == next { Interned::New(index) } else { Interned::Known(index) };
                prop_assert_eq!(dictionary.intern(value), interned);
                let plain = [&(value.len() as u32).to_le_bytes()[..], value].concat();
                prop_assert_eq!(dictionary.plain(index), plain);
            }
            prop_assert_eq!(dictionary.len(), expected.len());
            dictionary.clear();
            prop_assert_eq!((dictionary.len(), dictionary.page().len()), (0, 0));
            prop_assert_eq!(dictionary.intern(b"again"), Interned::New(0));
        }
    }

    #[test]
    fn is_full_at_its_limits() {
        let mut numbers = Dictionary::new(false);
        for number in 0..MAX_VALUES as u64 {
            assert_eq!(numbers.intern(&number.to_le_bytes()), Interned::New(number as u32));
        }
        assert_eq!(numbers.intern(&u64::MAX.to_le_bytes()), Interned::Full);
        assert_eq!(numbers.intern(&7u64.to_le_bytes()), Interned::Known(7));

        let mut texts = Dictionary::new(true);
        assert_eq!(texts.intern(&vec![b'x'; MAX_BYTES]), Interned::Full);
        assert_eq!(texts.intern(&vec![b'x'; MAX_BYTES - 4]), Interned::New(0));
        assert_eq!(texts.intern(b""), Interned::Full);
    }
}

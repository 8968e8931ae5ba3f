//! Which shard a log belongs to: keys of 128 bits, and the range of them that a shard has.

use std::fmt;
use std::str::FromStr;

/// A key of 128 bits; 32 hexadecimal digits on the wire, of either case, and lower-case here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

/// A text that no key has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no hash key. Give 32 hexadecimal digits, such as those of an MD5")]
pub struct InvalidHashKey {
    /// The text, shortened.
    pub text: String,
}

/// Why ranges can't be changed as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The key to split at leaves one part empty.
    #[error("{range} can't be split at {key}. Choose a key between its first and its last")]
    Split {
        /// What was to be split.
        range: HashRange,
        /// Where.
        key: HashKey,
    },
    /// Neither range begins where the other ends.
    #[error("{left} and {right} don't touch. Choose shards that are neighbours")]
    Merge {
        /// The one.
        left: HashRange,
        /// The other.
        right: HashRange,
    },
}

impl HashKey {
    /// The first of all.
    pub const FIRST: Self = Self(0);
    /// The last of all.
    pub const LAST: Self = Self(u128::MAX);
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for HashKey {
    type Err = InvalidHashKey;

    fn from_str(text: &str) -> Result<Self, InvalidHashKey> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let key = if digits { u128::from_str_radix(text, 16).ok() } else { None };
        key.map(Self).ok_or_else(|| InvalidHashKey { text: text.chars().take(40).collect() })
    }
}

/// The keys of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashRange {
    /// The first key.
    pub begin: HashKey,
    /// The key after the last one; but [`HashKey::LAST`] itself belongs to the range that ends with it, as there is
    /// no key after it.
    pub end: HashKey,
}

impl HashRange {
    /// All keys.
    pub const ALL: Self = Self { begin: HashKey::FIRST, end: HashKey::LAST };

    /// All keys, in as many ranges as there are `shards`, which are as long as each other, give or take one key.
    pub fn evenly(shards: u32) -> impl Iterator<Item = Self> {
        let shards = u128::from(shards);
        // 2^128, which doesn't fit, is `quotient * shards + remainder`.
        let quotient = u128::MAX / shards.max(1);
        let remainder = u128::MAX % shards.max(1) + 1;
        let boundary = move |index: u128| match index {
            _ if index == shards => HashKey::LAST,
            _ => HashKey(quotient * index + remainder * index / shards),
        };
        (0..shards).map(move |index| Self { begin: boundary(index), end: boundary(index + 1) })
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: HashKey) -> bool {
        self.begin <= key && (key < self.end || (key == HashKey::LAST && self.end == HashKey::LAST))
    }

    /// The key that cuts it in halves.
    pub fn midpoint(&self) -> HashKey {
        let length = self.end.0.saturating_sub(self.begin.0);
        // Rounded up, so that the halves of what ends with the last key are as those of other ranges: 80.., c0..
        HashKey(self.begin.0 + length / 2 + length % 2)
    }

    /// The ranges before `key` and from it on.
    ///
    /// # Errors
    /// When one of them would have no keys.
    pub fn split(&self, key: HashKey) -> Result<(Self, Self), RangeError> {
        if self.begin < key && key < self.end {
            Ok((Self { begin: self.begin, end: key }, Self { begin: key, end: self.end }))
        } else {
            Err(RangeError::Split { range: *self, key })
        }
    }

    /// The range of the keys of both.
    ///
    /// # Errors
    /// When they aren't neighbours.
    pub fn merge(&self, other: &Self) -> Result<Self, RangeError> {
        match (self, other) {
            _ if self.end == other.begin => Ok(Self { begin: self.begin, end: other.end }),
            _ if other.end == self.begin => Ok(Self { begin: other.begin, end: self.end }),
            _ => Err(RangeError::Merge { left: *self, right: *other }),
        }
    }
}

impl fmt::Display for HashRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.begin, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_32_digits_of_either_case() {
        let key: HashKey = "EF0123456789abcdef0123456789ABCD".parse().unwrap();
        assert_eq!(key.to_string(), "ef0123456789abcdef0123456789abcd");
        for text in ["", "0", "+f0123456789abcdef0123456789ABCD", "ef0123456789abcdef0123456789ABCg"] {
            assert!(text.parse::<HashKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_key_is_in_exactly_one_of_the_even_ranges() {
        for shards in [1, 2, 3, 7, 10, 64, 256, 1000] {
            let ranges: Vec<_> = HashRange::evenly(shards).collect();
            assert_eq!(ranges.len(), shards as usize);
            assert_eq!((ranges[0].begin, ranges[ranges.len() - 1].end), (HashKey::FIRST, HashKey::LAST));
            let length = |range: &HashRange| range.end.0 - range.begin.0;
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].end, pair[1].begin);
                assert!(length(&pair[0]).abs_diff(length(&pair[1])) <= 1);
            }
            let edges = ranges.iter().flat_map(|range| [range.begin.0, range.end.0, range.end.0 - 1]);
            for key in edges.map(HashKey) {
                assert_eq!(ranges.iter().filter(|range| range.contains(key)).count(), 1, "{key}");
            }
        }
        assert_eq!(HashRange::evenly(0).count(), 0);
        assert_eq!(HashRange::evenly(u32::MAX).nth(7).map(|range| range.begin.0 > 0), Some(true));
        let halves: Vec<_> = HashRange::evenly(2).map(|range| range.to_string()).collect();
        assert_eq!(halves[1], "80000000000000000000000000000000..ffffffffffffffffffffffffffffffff");
    }

    #[test]
    fn ranges_are_split_and_merged() {
        let (left, right) = HashRange::ALL.split(HashRange::ALL.midpoint()).unwrap();
        assert_eq!(right.begin.0, 1 << 127);
        assert_eq!(right.midpoint().0, 0xc << 124);
        assert_eq!(left.midpoint().0, 0x4 << 124);
        assert_eq!(left.merge(&right), Ok(HashRange::ALL));
        assert_eq!(right.merge(&left), Ok(HashRange::ALL));
        let (low, _) = left.split(left.midpoint()).unwrap();
        assert!(low.merge(&right).is_err());
        assert!(left.split(left.end).is_err() && left.split(left.begin).is_err());
        let one = HashRange { begin: HashKey(7), end: HashKey(8) };
        assert!(one.split(one.midpoint()).is_err());
    }
}

//! 128-bit hash keys, and the key range of each shard. A log's hash key selects its shard.

use std::fmt;
use std::str::FromStr;

/// A 128-bit key. Parsed from 32 hexadecimal digits of either case, and displayed in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

/// An invalid hash key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a hash key: use 32 hexadecimal digits, such as those of an MD5")]
pub struct InvalidHashKey {
    /// The rejected text, truncated.
    pub text: String,
}

/// An invalid split or merge of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The split key would leave one of the ranges empty.
    #[error("{range} can't be split at {key}: choose a key between the first and the last key of the range")]
    Split {
        /// The range to split.
        range: HashRange,
        /// The split key.
        key: HashKey,
    },
    /// The ranges are not adjacent.
    #[error("{left} and {right} are not adjacent: choose adjacent shards")]
    Merge {
        /// One range.
        left: HashRange,
        /// The other range.
        right: HashRange,
    },
}

impl HashKey {
    /// The smallest key.
    pub const FIRST: Self = Self(0);
    /// The largest key.
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

/// A shard's range of hash keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashRange {
    /// The first key.
    pub begin: HashKey,
    /// The end of the range, exclusive. Exception: a range that ends with [`HashKey::LAST`] includes that key, as no
    /// larger key exists.
    pub end: HashKey,
}

impl HashRange {
    /// All keys.
    pub const ALL: Self = Self { begin: HashKey::FIRST, end: HashKey::LAST };

    /// Splits all keys into `shards` ranges, whose lengths differ by at most one key.
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

    /// Returns true if the range includes the key.
    pub fn contains(&self, key: HashKey) -> bool {
        self.begin <= key && (key < self.end || (key == HashKey::LAST && self.end == HashKey::LAST))
    }

    /// Returns the key that splits the range into halves.
    pub fn midpoint(&self) -> HashKey {
        let length = self.end.0.saturating_sub(self.begin.0);
        // Rounded up, so that a range that ends with the last key is split at round keys as well: 80.., c0..
        HashKey(self.begin.0 + length / 2 + length % 2)
    }

    /// Splits the range into the keys before `key`, and `key` and all after it.
    ///
    /// # Errors
    /// Fails if one of the ranges would be empty.
    pub fn split(&self, key: HashKey) -> Result<(Self, Self), RangeError> {
        if self.begin < key && key < self.end {
            Ok((Self { begin: self.begin, end: key }, Self { begin: key, end: self.end }))
        } else {
            Err(RangeError::Split { range: *self, key })
        }
    }

    /// Merges two adjacent ranges.
    ///
    /// # Errors
    /// Fails if the ranges are not adjacent.
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
    fn parses_32_hex_digits_of_either_case() {
        let key: HashKey = "EF0123456789abcdef0123456789ABCD".parse().unwrap();
        assert_eq!(key.to_string(), "ef0123456789abcdef0123456789abcd");
        for text in ["", "0", "+f0123456789abcdef0123456789ABCD", "ef0123456789abcdef0123456789ABCg"] {
            assert!(text.parse::<HashKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn even_ranges_include_every_key_once() {
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
    fn splits_and_merges_ranges() {
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

//! The minimum and the maximum of a column chunk. Readers use them to skip row groups.

use std::cmp::Ordering;

use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::Kind;

/// The longest text in the statistics, in bytes. Longer texts are truncated; a truncated maximum is rounded up.
const TEXT_BYTES: usize = 64;

/// The minimum and the maximum of numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<T>(Option<(T, T)>);

impl<T: PartialOrd + Copy> Numbers<T> {
    pub(crate) const NONE: Self = Self(None);

    #[inline(always)]
    pub(crate) fn add(&mut self, value: T) {
        self.0 = Some(match self.0 {
            None => (value, value),
            Some((min, max)) => {
                (if value < min { value } else { min }, if value > max { value } else { max })
            }
        });
    }
}

/// The minimum and the maximum of texts, in byte order.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    any: bool,
    min: Vec<u8>,
    max: Vec<u8>,
    /// The first 8 bytes of each as a number that sorts like the texts. Most values lie between these numbers and
    /// need no further comparison.
    heads: (u64, u64),
}

/// Returns the first 8 bytes of a text as a number, padded with zeros.
#[inline(always)]
fn head(text: &[u8]) -> u64 {
    let half = |at: usize| u64::from(u32::from_be_bytes(text[at..at + 4].try_into().expect("4 bytes")));
    match text.len() {
        8.. => u64::from_be_bytes(text[..8].try_into().expect("8 bytes")),
        len @ 4..8 => half(0) << 32 | half(len - 4) << (8 * (8 - len)),
        _ => text.iter().fold(0, |head, &byte| head << 8 | u64::from(byte)) << (8 * (8 - text.len()).min(7)),
    }
}

/// Returns true if `a` sorts before `b`. Compares words, because `memcmp` compares single bytes in WebAssembly.
fn less(a: &[u8], b: &[u8]) -> bool {
    let (words_a, rest_a) = a.as_chunks::<8>();
    let (words_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in words_a.iter().zip(words_b) {
        if a != b {
            return u64::from_be_bytes(*a) < u64::from_be_bytes(*b);
        }
    }
    match words_a.len().cmp(&words_b.len()) {
        Ordering::Equal => rest_a < rest_b,
        // Only the remainder of the shorter text is left to compare with a word of the longer.
        Ordering::Less => rest_a <= words_b[words_a.len()].as_slice(),
        Ordering::Greater => words_a[words_b.len()].as_slice() < rest_b,
    }
}

impl Texts {
    #[inline(always)]
    pub(crate) fn add(&mut self, text: &[u8]) {
        let head = head(text);
        if !(self.any && self.heads.0 < head && head < self.heads.1) {
            self.compare(text, head);
        }
    }

    #[inline(never)]
    fn compare(&mut self, text: &[u8], head: u64) {
        if !self.any || less(text, &self.min) {
            self.min.clear();
            self.min.extend_from_slice(text);
            self.heads.0 = head;
        }
        if !self.any || less(&self.max, text) {
            self.max.clear();
            self.max.extend_from_slice(text);
            self.heads.1 = head;
        }
        self.any = true;
    }
}

/// The minimum and the maximum of a column chunk.
#[derive(Debug)]
pub(crate) enum Extremes {
    Texts(Texts),
    Booleans(Numbers<bool>),
    Integers(Numbers<i64>),
    Floats(Numbers<f64>),
}

impl Extremes {
    /// Returns the extremes of a column without values.
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::String => Self::Texts(Texts::default()),
            Kind::Boolean => Self::Booleans(Numbers::NONE),
            Kind::Int32 | Kind::Int64 => Self::Integers(Numbers::NONE),
            Kind::Float | Kind::Double => Self::Floats(Numbers::NONE),
        }
    }

    /// Returns the statistics for the file's footer.
    pub(crate) fn statistics(&self, kind: Kind, nulls: u64) -> Statistics {
        let nulls = Some(nulls);
        // Old readers, from before the format defined orders, use deprecated fields. Only numbers are
        // compared correctly there.
        macro_rules! numbers {
            ($min:expr, $max:expr) => {
                ValueStatistics::new($min, $max, None, nulls, false).with_backwards_compatible_min_max(true)
            };
        }
        match self {
            Self::Texts(texts) if texts.any => {
                let (min, max) = (floor(&texts.min), ceiling(&texts.max));
                let exact = (min.len() == texts.min.len(), max.as_ref() == Some(&texts.max));
                let value = |bytes: Vec<u8>| Some(ByteArray::from(bytes));
                let both = ValueStatistics::new(value(min), max.and_then(value), None, nulls, false);
                Statistics::ByteArray(both.with_min_is_exact(exact.0).with_max_is_exact(exact.1))
            }
            Self::Texts(_) => Statistics::byte_array(None, None, None, nulls, false),
            Self::Booleans(Numbers(both)) => {
                Statistics::Boolean(numbers!(both.map(|both| both.0), both.map(|both| both.1)))
            }
            Self::Integers(Numbers(both)) if kind == Kind::Int32 => {
                // The values were 32-bit numbers.
                let (min, max) = (both.map(|both| both.0 as i32), both.map(|both| both.1 as i32));
                Statistics::Int32(numbers!(min, max))
            }
            Self::Integers(Numbers(both)) => {
                Statistics::Int64(numbers!(both.map(|both| both.0), both.map(|both| both.1)))
            }
            Self::Floats(Numbers(both)) => {
                // A reader may look for either zero, so the range includes both.
                let min = both.map(|both| if both.0 == 0.0 { -0.0 } else { both.0 });
                let max = both.map(|both| if both.1 == 0.0 { 0.0 } else { both.1 });
                if kind == Kind::Float {
                    Statistics::Float(numbers!(min.map(|min| min as f32), max.map(|max| max as f32)))
                } else {
                    Statistics::Double(numbers!(min, max))
                }
            }
        }
    }
}

/// Returns the text, or its longest prefix that fits into the statistics.
fn floor(text: &[u8]) -> Vec<u8> {
    prefix(text).to_vec()
}

/// Returns the text, or a short text that sorts after it, if one exists.
fn ceiling(text: &[u8]) -> Option<Vec<u8>> {
    let begin = prefix(text);
    if begin.len() == text.len() {
        return Some(text.to_vec());
    }
    let mut chars: Vec<char> = String::from_utf8_lossy(begin).chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(String::from_iter(chars).into_bytes());
        }
    }
    None
}

fn prefix(text: &[u8]) -> &[u8] {
    let mut len = text.len().min(TEXT_BYTES);
    while len < text.len() && text[len] & 0xc0 == 0x80 {
        len -= 1;
    }
    &text[..len]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(texts: &[String]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut extremes = Texts::default();
        texts.iter().for_each(|text| extremes.add(text.as_bytes()));
        match Extremes::Texts(extremes).statistics(Kind::String, 0) {
            Statistics::ByteArray(both) => {
                (both.min_opt().unwrap().data().to_vec(), both.max_opt().map(|max| max.data().to_vec()))
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn bounds_include_every_text(texts in prop::collection::vec("[ab\u{0}é\u{d7ff}\u{10ffff}]{0,90}", 1..20)) {
            let (min, max) = bounds(&texts);
            let least = texts.iter().min().unwrap().as_bytes();
            let greatest = texts.iter().max().unwrap().as_bytes();
            prop_assert!(least.starts_with(&min) && (min == least || min.len() > TEXT_BYTES - 4));
            prop_assert!(std::str::from_utf8(&min).is_ok());
            if let Some(max) = max {
                prop_assert!(max == greatest || (max.as_slice() > greatest && max.len() <= TEXT_BYTES + 1));
                prop_assert!(std::str::from_utf8(&max).is_ok());
            } else {
                let last = char::MAX.to_string().repeat(15);
                prop_assert!(greatest.starts_with(last.as_bytes()));
            }
        }

        #[test]
        fn words_sort_like_texts(a in "[ab]{0,20}", b in "[ab]{0,20}", same in "[ab]{0,20}") {
            let (a, b) = (same.clone() + &a, same + &b);
            prop_assert_eq!(less(a.as_bytes(), b.as_bytes()), a < b);
        }

        #[test]
        fn heads_sort_like_texts(a: Vec<u8>, b: Vec<u8>) {
            prop_assert!(a < b || head(&a) >= head(&b));
        }
    }

    #[test]
    fn long_maximum_is_rounded_up() {
        let text = |end: &str| format!("{}{end}", "x".repeat(60));
        let max = |text: String| String::from_utf8(bounds(&[text]).1.unwrap()).unwrap();
        assert_eq!(max(text("abcd")), text("abcd"));
        assert_eq!(max(text("abcde")), text("abce"));
        assert_eq!(max(text("abc\u{d7ff}")), text("abd"));
        assert_eq!(max(text("\u{10ffff}e")), "x".repeat(59) + "y");
        assert_eq!(max(text("\u{d7ff}xyz")), text("\u{d7ff}y"));
        assert_eq!(bounds(&["\u{10ffff}".repeat(17)]).1, None);
    }

    #[test]
    fn zero_range_includes_both_signs() {
        let mut zero = Numbers::NONE;
        zero.add(0.0);
        match Extremes::Floats(zero).statistics(Kind::Double, 3) {
            Statistics::Double(both) => {
                assert!(both.min_opt().unwrap().is_sign_negative());
                assert!(both.max_opt().unwrap().is_sign_positive());
                assert_eq!(both.null_count_opt(), Some(3));
            }
            other => panic!("{other:?}"),
        }
    }
}

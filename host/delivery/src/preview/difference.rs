//! The first difference of two text streams.

/// Bytes shown of a line before and after the first difference.
const LEAD: usize = 24;
const SHOWN: usize = 56;

/// Bytes by which one stream may be ahead of the other. The comparison is abandoned beyond them.
const AHEAD: usize = 8 << 20;

/// The first line that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The line number, from 1.
    pub line: u64,
    /// Excerpt of the line as the old stages write it; `None` if they have no such line.
    pub old: Option<String>,
    /// Excerpt of the line as the new stages write it.
    pub new: Option<String>,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The output of the old stages.
    Old,
    /// The output of the new stages.
    New,
}

/// An incremental comparison of two streams in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Bytes that are not compared yet; after the first difference, the bytes to show.
    pending: [Vec<u8>; 2],
    /// Number of equal lines.
    lines: u64,
    /// The last equal bytes of the current line.
    before: Vec<u8>,
    /// True if `before` does not start at the beginning of the line.
    is_cut: bool,
    is_found: bool,
    is_abandoned: bool,
}

impl Comparison {
    /// Adds bytes of a stream.
    pub(crate) fn take(&mut self, side: Side, bytes: &[u8]) {
        if self.is_abandoned {
            return;
        }
        let pending = &mut self.pending[side as usize];
        if self.is_found {
            let room = SHOWN.saturating_sub(pending.len());
            pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return;
        }
        pending.extend_from_slice(bytes);
        self.advance();
        if self.pending.iter().any(|pending| pending.len() > AHEAD) {
            self.abandon();
        }
    }

    /// Abandons the comparison, because bytes of a stream are missing.
    pub(crate) fn abandon(&mut self) {
        if !self.is_found {
            *self = Self { is_abandoned: true, ..Self::default() };
        }
    }

    fn advance(&mut self) {
        let [old, new] = &self.pending;
        let common = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let equal = &old[..common];
        self.lines += equal.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if let Some(end) = equal.iter().rposition(|&byte| byte == b'\n') {
            self.before.clear();
            self.is_cut = false;
            self.before.extend_from_slice(&equal[end + 1..]);
        } else {
            self.before.extend_from_slice(equal);
        }
        if self.before.len() > LEAD {
            self.before.drain(..self.before.len() - LEAD);
            self.is_cut = true;
        }
        self.is_found = common < old.len() && common < new.len();
        for pending in &mut self.pending {
            pending.drain(..common);
            if self.is_found {
                pending.truncate(SHOWN);
            }
        }
    }

    /// Ends both streams and returns the first difference. `None` if they are equal or not text.
    pub(crate) fn finish(self) -> Option<Difference> {
        let [old, new] = &self.pending;
        if self.is_abandoned || old == new {
            return None;
        }
        let line = |rest: &[u8]| {
            if rest.is_empty() && self.before.is_empty() && !self.is_cut {
                return Some(None);
            }
            self.line(rest).map(Some)
        };
        Some(Difference { line: self.lines + 1, old: line(old)?, new: line(new)? })
    }

    /// An excerpt of a line around the difference; `None` if it is not text.
    fn line(&self, rest: &[u8]) -> Option<String> {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let rest = &rest[..end.unwrap_or(rest.len())];
        let goes_on = end.is_none() && rest.len() >= SHOWN;
        let mut bytes = [&self.before[..], rest].concat();
        // Skip the rest of a character that was cut.
        let begin = bytes.iter().take(3).take_while(|byte| is_continued(**byte)).count();
        bytes.drain(..if self.is_cut { begin } else { 0 });
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        if text.chars().any(|letter| letter.is_control() && letter != '\t' && letter != '\r') {
            return None;
        }
        let text = text.trim_end_matches('\r').replace('\t', " ");
        Some(format!("{}{text}{}", if self.is_cut { "…" } else { "" }, if goes_on { "…" } else { "" }))
    }
}

/// True for a UTF-8 continuation byte.
fn is_continued(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares texts that arrive in pieces.
    fn compare(old: &[u8], new: &[u8], piece: usize) -> Option<(u64, Option<String>, Option<String>)> {
        let mut comparison = Comparison::default();
        let (mut olds, mut news) = (old.chunks(piece), new.chunks(2 * piece));
        loop {
            let (old, new) = (olds.next(), news.next());
            if old.is_none() && new.is_none() {
                break;
            }
            old.into_iter().for_each(|bytes| comparison.take(Side::Old, bytes));
            new.into_iter().for_each(|bytes| comparison.take(Side::New, bytes));
        }
        comparison.finish().map(|difference| (difference.line, difference.old, difference.new))
    }

    fn line(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn finds_first_different_line_for_any_chunking() {
        for piece in [1, 2, 3, 100] {
            assert_eq!(compare(b"a\nb\n", b"a\nb\n", piece), None);
            assert_eq!(compare(b"a\nbc\nd\n", b"a\nbx\nd\n", piece), Some((2, line("bc"), line("bx"))));
            assert_eq!(compare(b"a\nb\n", b"a\n", piece), Some((2, line("b"), None)));
            assert_eq!(compare(b"", b"a\n", piece), Some((1, None, line("a"))));
            assert_eq!(compare(b"ab\n", b"a\n", piece), Some((1, line("ab"), line("a"))));
            assert_eq!(compare(b"ab", b"a", piece), Some((1, line("ab"), line("a"))));
        }
    }

    #[test]
    fn long_line_is_cut_around_the_difference() {
        let long = |mark: &str| format!("first\n{}{mark}{}\n", "é".repeat(40), "z".repeat(100));
        let (_, old, new) = compare(long("X").as_bytes(), long("Y").as_bytes(), 7).unwrap();
        assert_eq!(old.unwrap(), format!("…{}X{}…", "é".repeat(12), "z".repeat(55)));
        assert_eq!(new.unwrap(), format!("…{}Y{}…", "é".repeat(12), "z".repeat(55)));
    }

    #[test]
    fn binary_data_is_not_shown() {
        assert_eq!(compare(b"PAR1\0\x01", b"PAR1\0\x02", 3), None);
        assert_eq!(compare(b"a\xff\n", b"a\xfe\n", 3), None);
    }

    #[test]
    fn abandons_streams_that_are_too_far_apart() {
        let mut comparison = Comparison::default();
        comparison.take(Side::Old, &vec![b'x'; AHEAD + 1]);
        assert_eq!(comparison.pending[0].capacity(), 0);
        comparison.take(Side::New, b"y");
        assert_eq!(comparison.finish(), None);
    }
}

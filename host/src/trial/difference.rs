//! Where two streams of text begin to differ.

/// Bytes of a line that are shown before the place where it differs, and from there on.
const LEAD: usize = 24;
const SHOWN: usize = 56;

/// Bytes that one stream may be ahead of the other: beyond them it is not looked any further.
const AHEAD: usize = 8 << 20;

/// The first line that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its number, from 1.
    pub line: u64,
    /// As the old stages write it, from shortly before the place on; none where they have no such line.
    pub old: Option<String>,
    /// As the new ones do.
    pub new: Option<String>,
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// That of the stages that were.
    Old,
    /// That of the new ones.
    New,
}

/// Compares two streams as they come, in a bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// What came and is not compared yet; behind the first difference, a little of what follows it.
    pending: [Vec<u8>; 2],
    /// Lines that are equal.
    lines: u64,
    /// The end of what is equal of the line that follows.
    before: Vec<u8>,
    /// Whether the beginning of that line is not in it.
    is_cut: bool,
    is_found: bool,
    is_given_up: bool,
}

impl Comparison {
    /// The next bytes of a stream.
    pub(crate) fn take(&mut self, side: Side, bytes: &[u8]) {
        if self.is_given_up {
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
            self.give_up();
        }
    }

    /// Bytes of a stream are missing: what follows can't be compared.
    pub(crate) fn give_up(&mut self) {
        if !self.is_found {
            *self = Self { is_given_up: true, ..Self::default() };
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

    /// Both have ended: where they begin to differ, if that is text.
    pub(crate) fn finish(self) -> Option<Difference> {
        let [old, new] = &self.pending;
        if self.is_given_up || old == new {
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

    /// A line around the place where it differs; none if it is no text.
    fn line(&self, rest: &[u8]) -> Option<String> {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let rest = &rest[..end.unwrap_or(rest.len())];
        let goes_on = end.is_none() && rest.len() >= SHOWN;
        let mut bytes = [&self.before[..], rest].concat();
        // A character that was cut in two is none, and is not shown.
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

/// Whether a byte is one behind the first of a character.
fn is_continued(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares texts that come in pieces of so many bytes.
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
    fn the_first_line_that_differs_is_found_wherever_it_is_cut() {
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
    fn a_long_line_is_shown_around_the_place() {
        let long = |mark: &str| format!("first\n{}{mark}{}\n", "é".repeat(40), "z".repeat(100));
        let (_, old, new) = compare(long("X").as_bytes(), long("Y").as_bytes(), 7).unwrap();
        assert_eq!(old.unwrap(), format!("…{}X{}…", "é".repeat(12), "z".repeat(55)));
        assert_eq!(new.unwrap(), format!("…{}Y{}…", "é".repeat(12), "z".repeat(55)));
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        assert_eq!(compare(b"PAR1\0\x01", b"PAR1\0\x02", 3), None);
        assert_eq!(compare(b"a\xff\n", b"a\xfe\n", 3), None);
    }

    #[test]
    fn a_stream_that_is_far_ahead_is_let_go() {
        let mut comparison = Comparison::default();
        comparison.take(Side::Old, &vec![b'x'; AHEAD + 1]);
        assert_eq!(comparison.pending[0].capacity(), 0);
        comparison.take(Side::New, b"y");
        assert_eq!(comparison.finish(), None);
    }
}

//! Finds JSON objects that are not lines: a pretty-printed file, an array, objects written end to end.

use std::ops::Range;

use super::RECORD_SEPARATOR;

/// Finds the items of JSON text: objects, and whatever stands between them. White space, commas, brackets of an array
/// around the objects and byte order marks separate them.
///
/// Broken text costs little: an object also ends before a line break within a string, and before an object that begins
/// where a key belongs.
#[derive(Debug, Default)]
pub struct ValueScanner {
    state: State,
    /// The containers that are open, as their opening bytes.
    open: Vec<u8>,
    /// The last byte of the object that is not white space.
    previous: u8,
    /// The start of the current item.
    start: usize,
    /// The arrays around the items that are open.
    arrays: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    Object,
    String,
    Escape,
    Other,
}

/// Whether an item ends at a byte.
enum End {
    No,
    Before,
    After,
}

impl ValueScanner {
    /// Continues at byte `from` of the text, which is the end of the last item, or the end of the text that was scanned
    /// before. Returns the next item that is complete.
    pub fn next(&mut self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let mut at = from;
        while at < text.len() {
            if self.state == State::String {
                // Most of the text is in strings.
                at += memchr::memchr3(b'"', b'\\', b'\n', &text[at..])?;
            }
            let end = match self.step(text[at], at) {
                End::No => {
                    at += 1;
                    continue;
                }
                End::Before => at,
                End::After => at + 1,
            };
            let start = self.start;
            self.reset();
            return Some(start..end);
        }
        None
    }

    /// Begins with an item, after text that was given up.
    pub fn reset(&mut self) {
        *self = Self { arrays: self.arrays, ..Self::default() };
    }

    /// Returns true if an array around the items has not ended.
    pub fn is_in_array(&self) -> bool {
        self.arrays > 0
    }

    /// Returns the item at the end of the text that is not complete.
    pub fn rest(&self, text: &[u8]) -> Option<Range<usize>> {
        (self.state != State::Between).then_some(self.start..text.len())
    }

    fn step(&mut self, byte: u8, at: usize) -> End {
        match self.state {
            State::Between => match byte {
                b'[' => self.arrays += 1,
                b']' => self.arrays = self.arrays.saturating_sub(1),
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b'\xef' | b'\xbb' | b'\xbf' | RECORD_SEPARATOR => {}
                _ => {
                    self.start = at;
                    self.state = State::Other;
                    if byte == b'{' {
                        self.state = State::Object;
                        self.open.push(byte);
                        self.previous = byte;
                    }
                }
            },
            State::Other if matches!(byte, b'\n' | b',' | b']') => return End::Before,
            State::Other => {}
            State::Object => return self.object(byte),
            State::Escape => self.state = State::String,
            State::String => match byte {
                b'\\' => self.state = State::Escape,
                b'"' => self.state = State::Object,
                b'\n' => return End::Before,
                _ => {}
            },
        }
        End::No
    }

    fn object(&mut self, byte: u8) -> End {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return End::No,
            b'"' => self.state = State::String,
            b'{' if self.open.last() == Some(&b'{') && self.previous != b':' => return End::Before,
            b'{' | b'[' => self.open.push(byte),
            b'}' | b']' => {
                self.open.pop();
                if self.open.is_empty() {
                    return End::After;
                }
            }
            _ => {}
        }
        self.previous = byte;
        End::No
    }
}

/// Converts the items of a text to lines.
pub fn values_to_lines(text: &[u8]) -> Vec<u8> {
    let (mut scanner, mut scanned) = (ValueScanner::default(), 0);
    let mut lines = Vec::with_capacity(text.len());
    let mut add = |item: Range<usize>| {
        lines.extend(text[item].iter().map(without_break));
        lines.push(b'\n');
    };
    while let Some(item) = scanner.next(text, scanned) {
        scanned = item.end;
        add(item);
    }
    scanner.rest(text).into_iter().for_each(add);
    lines
}

/// Replaces a line break by a space, which it equals outside JSON strings. Strings have none.
pub(super) fn without_break(&byte: &u8) -> u8 {
    if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans the text in two parts, divided at each byte.
    fn items(text: &str) -> Vec<String> {
        let scan = |middle: usize| {
            let (mut scanner, mut found, mut scanned) = (ValueScanner::default(), vec![], 0);
            for text in [&text.as_bytes()[..middle], text.as_bytes()] {
                while let Some(item) = scanner.next(text, scanned) {
                    scanned = item.end;
                    found.push(text[item].to_vec());
                }
                scanned = text.len();
            }
            found.extend(scanner.rest(text.as_bytes()).map(|rest| text.as_bytes()[rest].to_vec()));
            found
        };
        let whole = scan(0);
        (0..text.len()).for_each(|middle| assert_eq!(scan(middle), whole, "{text} at {middle}"));
        whole.into_iter().map(|item| String::from_utf8(item).unwrap()).collect()
    }

    #[test]
    fn finds_objects_wherever_they_stand() {
        let cases: [(&str, &[&str]); 8] = [
            ("{\"a\":1}{\"b\":2}", &["{\"a\":1}", "{\"b\":2}"]),
            ("[\n {\"a\": [1, {}]},\n {} ]\n", &["{\"a\": [1, {}]}", "{}"]),
            ("\u{feff}{\n \"a\" :\n{}\n}\n\u{feff}{}", &["{\n \"a\" :\n{}\n}", "{}"]),
            ("{\"}\":\"\\\"{[\\\\\"}{}", &["{\"}\":\"\\\"{[\\\\\"}", "{}"]),
            ("[1, {\"a\":2},x]", &["1", "{\"a\":2}", "x"]),
            ("{\"a\":[{},{\"b\":[]}]}", &["{\"a\":[{},{\"b\":[]}]}"]),
            ("", &[]),
            ("[]", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(items(text), expected, "{text}");
        }
    }

    #[test]
    fn array_ends_with_its_bracket() {
        let cases = [
            ("[{\"a\":1}]", false),
            ("[{\"a\":1}]\n{\"b\":2}{\"c\":\n3}", false),
            ("[{\"a\":1}][{\"b\":\"]\"}", true),
            ("[{\"a\":1},", true),
            ("[{\"a\":[1]}, x]\n{}", false),
            ("[[{}],[{}]]", false),
            ("{\"a\":[]}]", false),
            ("[{\"a\":1},{\"a\":[", true),
        ];
        for (text, expected) in cases {
            let (mut scanner, mut scanned) = (ValueScanner::default(), 0);
            while let Some(item) = scanner.next(text.as_bytes(), scanned) {
                scanned = item.end;
            }
            assert_eq!(scanner.is_in_array(), expected, "{text}");
        }
    }

    #[test]
    fn items_become_lines() {
        let lines = values_to_lines(b"[{\"a\":\n1},\r\n x, {\"b\":");
        assert_eq!(String::from_utf8(lines).unwrap(), "{\"a\": 1}\nx\n{\"b\":\n");
    }

    #[test]
    fn broken_object_costs_itself_alone() {
        let cases: [(&str, &[&str]); 5] = [
            ("{\"a\":1,\n{\"b\":2}", &["{\"a\":1,\n", "{\"b\":2}"]),
            ("{\"a\":\"x\n{\"b\":2}", &["{\"a\":\"x", "{\"b\":2}"]),
            ("{\"a\":1\n{\"b\":2}", &["{\"a\":1\n", "{\"b\":2}"]),
            ("oops\n{\"b\":2}", &["oops", "{\"b\":2}"]),
            ("{\"b\":2}{\"c\":", &["{\"b\":2}", "{\"c\":"]),
        ];
        for (text, expected) in cases {
            assert_eq!(items(text), expected, "{text}");
        }
    }
}

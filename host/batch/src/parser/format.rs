//! Tells the format of a text by its beginning.

use std::fmt;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::csv::CsvHeader;
use super::{BYTE_ORDER_MARK, RECORD_SEPARATOR};

/// The format that a user expects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// JSON objects: one per line, or in an array, or over several lines.
    #[default]
    Json,
    /// CSV with a header.
    Csv,
    /// Lines of text.
    Text,
    /// The format that the text looks like.
    Auto,
}

/// The format of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, each on a line.
    JsonLines,
    /// JSON objects that are not lines.
    JsonValues,
    /// Rows of CSV, after this header.
    Csv(Arc<CsvHeader>),
    /// Lines of text.
    Text,
}

/// The bytes of a text that suffice to tell its format.
pub const HEAD_BYTES: usize = 256 << 10;

impl Format {
    /// Tells the format of a text by its head, and returns it with the length of the CSV header. Returns `None` if more
    /// of the text is needed. `is_whole` says that there is no more.
    ///
    /// # Errors
    /// Returns the reason why CSV has no header.
    pub fn detect(expected: Expected, head: &[u8], is_whole: bool) -> Result<Option<(Self, usize)>, String> {
        let is_enough = is_whole || head.len() >= HEAD_BYTES;
        match expected {
            Expected::Text => Ok(Some((Self::Text, 0))),
            Expected::Csv => {
                let header = CsvHeader::parse(head, is_enough)?;
                Ok(header.map(|(header, length)| (Self::Csv(header.into()), length)))
            }
            Expected::Json => Ok(json(head, is_enough).map(|format| (format, 0))),
            Expected::Auto => Ok(auto(head, is_enough)),
        }
    }
}

/// Removes white space, byte order marks, record separators and zero bytes from the start.
fn trim_start(mut text: &[u8]) -> &[u8] {
    loop {
        let trimmed = text.trim_ascii_start();
        let mut mark = [0; 3];
        let trimmed =
            trimmed.strip_prefix(BYTE_ORDER_MARK.encode_utf8(&mut mark).as_bytes()).unwrap_or(trimmed);
        let is_mark = |byte: &u8| matches!(*byte, b'\0' | RECORD_SEPARATOR);
        let trimmed = &trimmed[trimmed.iter().take_while(|byte| is_mark(byte)).count()..];
        if trimmed.len() == text.len() {
            return text;
        }
        text = trimmed;
    }
}

/// Returns how JSON objects stand in the text. A text that is no JSON is lines, which are then rejected one by one.
fn json(head: &[u8], is_enough: bool) -> Option<Format> {
    let text = trim_start(head);
    let is_values = match text.first() {
        None => is_enough.then_some(false),
        Some(b'[') => is_array(&text[1..], is_enough),
        Some(b'{') => is_object_of_lines(text, is_enough),
        Some(_) => Some(false),
    };
    is_values.map(|is_values| if is_values { Format::JsonValues } else { Format::JsonLines })
}

/// Returns true if an array of objects begins. A line of text can begin with `[` as well.
fn is_array(after_bracket: &[u8], is_enough: bool) -> Option<bool> {
    let text = trim_start(after_bracket);
    match text.first() {
        None => is_enough.then_some(false),
        Some(b'{') => match text[1..].trim_ascii_start().first() {
            None => is_enough.then_some(false),
            first => Some(matches!(first, Some(b'"' | b'}'))),
        },
        first => Some(first == Some(&b']')),
    }
}

/// Returns true if the first object does not end in the first line, or is not alone in it.
fn is_object_of_lines(text: &[u8], is_enough: bool) -> Option<bool> {
    let line_break = memchr::memchr(b'\n', text);
    if line_break.is_none() && !is_enough {
        return None;
    }
    let is_cut = line_break.is_some() || text.len() >= HEAD_BYTES;
    let line = line_break.unwrap_or(text.len());
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    Some(match values.next() {
        Some(Ok(_)) => match text[..line].get(values.byte_offset()..) {
            Some(rest) => is_next(rest.trim_ascii()) || (line_break.is_none() && is_cut),
            None => true,
        },
        // The object goes on after the head.
        Some(Err(error)) => error.is_eof() && is_cut,
        None => false,
    })
}

/// Returns true if the text between an object and the end of its line is another object, or a comma before one.
fn is_next(rest: &[u8]) -> bool {
    rest == b"," || trim_start(rest.strip_prefix(b",").unwrap_or(rest)).starts_with(b"{")
}

/// Returns JSON, CSV or text, whichever the text looks like.
fn auto(head: &[u8], is_enough: bool) -> Option<(Format, usize)> {
    let text = trim_start(head);
    let first = text.first();
    if first.is_none() {
        return is_enough.then_some((Format::Text, 0));
    }
    if matches!(first, Some(b'{' | b'[')) {
        let format = json(text, is_enough)?;
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let is_object = || {
            serde_json::Deserializer::from_slice(line)
                .into_iter::<IgnoredAny>()
                .next()
                .is_some_and(|value| value.is_ok())
        };
        if format == Format::JsonValues || (first == Some(&b'{') && is_object()) {
            return Some((format, 0));
        }
    }
    csv(head, is_enough).map(|csv| csv.unwrap_or((Format::Text, 0)))
}

/// The rows that a header is compared with.
const ROWS: usize = 5;

/// Returns the header if the text looks like CSV: several names, and rows of as many fields.
fn csv(head: &[u8], is_enough: bool) -> Option<Option<(Format, usize)>> {
    let (header, start) = match CsvHeader::parse(head, is_enough) {
        Ok(Some(header)) => header,
        Ok(None) => return None,
        Err(_) => return Some(None),
    };
    let mut names = header.names().to_vec();
    names.sort_unstable();
    names.dedup();
    if header.len() < 2 || names.len() < header.len() || !names.iter().all(|name| is_name(name)) {
        return Some(None);
    }
    let (mut scanner, mut begin, mut rows) = (header.scanner(), start, 0);
    while rows < ROWS
        && let Some(end) = scanner.next(head, begin)
    {
        let row = str::from_utf8(&head[begin..end]).unwrap_or_default().trim_ascii_end();
        let is_row = row.is_empty() || header.read_row(row, |_, _| Ok(())).is_ok();
        if !is_row {
            return Some(None);
        }
        (begin, rows) = (end, rows + 1);
    }
    (rows > 0 || is_enough).then(|| Some((Format::Csv(header.into()), start)))
}

/// Returns true for the name of a column; a sentence is none.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_' || first == '@')
        && name.chars().all(|char| char.is_alphanumeric() || "_-.:@/".contains(char))
}

/// What rejected lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Lines of text.
    Text,
    /// Rows of CSV.
    Csv,
    /// JSON arrays of values that are not objects.
    Arrays,
    /// XML.
    Xml,
    /// No text.
    Binary,
}

impl Looks {
    /// Tells what rejected lines look like. Returns `None` for lines that nothing can read, such as damaged JSON.
    pub fn of(lines: &[u8]) -> Option<Self> {
        let text = trim_start(lines);
        let is_control = |byte: &&u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
        Some(match text.first()? {
            b'{' => return None,
            b'<' => Self::Xml,
            b'[' if serde_json::from_slice::<IgnoredAny>(first_line(text)).is_ok() => Self::Arrays,
            _ if text.iter().filter(is_control).count() > text.len() / 10 => Self::Binary,
            _ if matches!(auto(lines, true), Some((Format::Csv(_), _))) => Self::Csv,
            _ => Self::Text,
        })
    }
}

impl fmt::Display for Looks {
    /// Names the option or the command that reads the lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "they look like plain text: --input text ships each line as a log",
            Self::Csv => "they look like CSV: --input csv reads it, with the names of the first row",
            Self::Arrays => {
                "they look like JSON arrays of values: make objects of them, for example with jq -c '{message: .}'"
            }
            Self::Xml => "they look like XML: convert them to JSON, one object per line",
            Self::Binary => "they look like binary data: convert it to JSON, one object per line",
        })
    }
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(expected: Expected, text: &[u8]) -> &'static str {
        name(&Format::detect(expected, text, true).unwrap().unwrap().0)
    }

    fn name(format: &Format) -> &'static str {
        match format {
            Format::JsonLines => "lines",
            Format::JsonValues => "values",
            Format::Csv(_) => "csv",
            Format::Text => "text",
        }
    }

    #[test]
    fn tells_format_by_beginning() {
        // The text, its format as JSON, and as whatever it looks like.
        let cases: [(&str, &str, &str); 26] = [
            ("{\"a\":1}\n{\"b\":2}\n", "lines", "lines"),
            ("{\"a\":1}{\"b\":2}\n{\"c\":1}", "values", "values"),
            ("{\"a\":1} \u{feff}{\"b\":\n", "values", "values"),
            ("{\"a\":1},\n{\"b\":2},\n", "values", "values"),
            ("{\"a\":1},x\n{\"b\":2}\n", "lines", "lines"),
            ("\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n", "lines", "lines"),
            ("{}", "lines", "lines"),
            ("{\"a\":1} trailing\n{\"b\":2}\n", "lines", "lines"),
            ("\u{feff}\n{\n  \"a\": 1\n}\n{\n}", "values", "values"),
            ("{\"a\":{\n", "values", "values"),
            ("{\"a\":1,\n{\"b\":2}\n", "lines", "text"),
            ("{\"a\":\"cut\n{\"b\":2}\n", "lines", "text"),
            ("[{\"a\":1}]", "values", "values"),
            ("[\n  {\n \"a\":1", "values", "values"),
            ("[]", "values", "values"),
            ("[1,2]\n{\"a\":1}\n", "lines", "text"),
            ("[2024-01-01] started\n", "lines", "text"),
            ("[{main}] started\n", "lines", "text"),
            ("{main} started\n", "lines", "text"),
            ("time,host,status\n1,a,200\n2,b,404\n", "lines", "csv"),
            ("time;host\n1;\"a\nb\"\n", "lines", "csv"),
            ("time,host\n1,a,b\n", "lines", "text"),
            ("Started, and so on\nmore, or less\n", "lines", "text"),
            ("127.0.0.1 - - [x] \"GET / HTTP/1.1\" 200\n", "lines", "text"),
            ("", "lines", "text"),
            ("\0\0\0\n{\"a\":1}\n", "lines", "lines"),
        ];
        for (text, json, auto) in cases {
            assert_eq!(detect(Expected::Json, text.as_bytes()), json, "{text}");
            assert_eq!(detect(Expected::Auto, text.as_bytes()), auto, "{text}");
            assert_eq!(detect(Expected::Text, text.as_bytes()), "text");
        }
    }

    #[test]
    fn waits_for_more_while_format_is_open() {
        for text in ["", "{\"a\":1", "[", "[{", " \n"] {
            assert_eq!(Format::detect(Expected::Json, text.as_bytes(), false), Ok(None), "{text}");
        }
        assert!(Format::detect(Expected::Json, b"x", false).unwrap().is_some());
        let long = format!("{{\"a\":\"{}", "x".repeat(HEAD_BYTES));
        assert_eq!(Format::detect(Expected::Json, long.as_bytes(), false), Ok(Some((Format::JsonValues, 0))));
    }

    #[test]
    fn tells_what_rejected_lines_look_like() {
        let cases: [(&[u8], Option<Looks>); 7] = [
            (b"<a/>\n", Some(Looks::Xml)),
            (b"a,b\n1,2\n", Some(Looks::Csv)),
            (b"[1,2]\n", Some(Looks::Arrays)),
            (b"[2024] started, and\n", Some(Looks::Text)),
            (b"\x01\x02\x03PNG", Some(Looks::Binary)),
            (b"{\"a\":\n", None),
            (b"\0\0\n", None),
        ];
        for (lines, expected) in cases {
            assert_eq!(Looks::of(lines), expected, "{}", String::from_utf8_lossy(lines));
        }
    }
}

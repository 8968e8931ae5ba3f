//! Reads CSV: rows of fields, whose names are in the first row.

use std::borrow::Cow;

/// The names and the delimiter of a CSV file's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvHeader {
    delimiter: u8,
    names: Vec<String>,
}

/// The delimiters that a header is tried with.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// The error of a header that has all rows of its file.
const OLD_LINE_ENDS: &str = "its rows end with carriage returns alone, as on old Macs: convert them first, for example with tr '\\r' '\\n'";

impl CsvHeader {
    /// Parses the first row at the start of a text, and returns the header and the row's length with its line break.
    /// The delimiter is the one that makes the most columns. Returns `None` if the row is not complete.
    ///
    /// # Errors
    /// Returns the reason why the row is not a header.
    pub fn parse(text: &[u8], is_complete: bool) -> Result<Option<(Self, usize)>, String> {
        if let Some((delimiter, begin)) = named_delimiter(text) {
            let header = Self::parse_row(&text[begin..], delimiter, is_complete)?;
            return Ok(header.map(|(header, end)| (header, begin + end)));
        }
        let delimiter = |&delimiter: &u8| {
            let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
            (line.iter().filter(|&&byte| byte == delimiter).count(), delimiter == b',')
        };
        let delimiter = DELIMITERS.into_iter().max_by_key(delimiter).unwrap_or(b',');
        Self::parse_row(text, delimiter, is_complete)
    }

    fn parse_row(text: &[u8], delimiter: u8, is_complete: bool) -> Result<Option<(Self, usize)>, String> {
        let end = match RowScanner::new(delimiter).next(text, 0) {
            Some(end) => end,
            None if is_complete => text.len(),
            None => return Ok(None),
        };
        let row = str::from_utf8(&text[..end]).map_err(|_| "the CSV header is not UTF-8".to_owned())?;
        let row = row.trim_start_matches('\u{feff}').trim_ascii_end();
        if row.split('"').step_by(2).any(|outside_quotes| outside_quotes.contains('\r')) {
            return Err(OLD_LINE_ENDS.into());
        }
        let mut names = vec![];
        read_row(row, delimiter, |name| names.push(name.unwrap_or_default().into_owned()))?;
        for (column, name) in names.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
            *name = format!("column{}", column + 1);
        }
        Ok(Some((Self { delimiter, names }, end)))
    }

    /// Returns the number of columns.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns true if there are no columns.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns a scanner of rows.
    pub fn scanner(&self) -> RowScanner {
        RowScanner::new(self.delimiter)
    }

    /// Calls `on_member` with the name and the value of each field of a row. An empty field without quotes is no value.
    pub(super) fn read_row(
        &self,
        row: &str,
        mut on_member: impl FnMut(&str, &str) -> Result<(), String>,
    ) -> Result<(), RowError> {
        let (mut column, mut rejection) = (0, None);
        read_row(row, self.delimiter, |value| {
            if let (Some(name), Some(value), None) = (self.names.get(column), value, &rejection) {
                rejection = on_member(name, &value).err();
            }
            column += 1;
        })
        .map_err(RowError::Quotes)?;
        let expected = self.names.len();
        if column != expected {
            rejection = Some(format!("the row has {column} fields, the header has {expected}"));
        }
        rejection.map_or(Ok(()), |rejection| Err(RowError::Fields(rejection)))
    }
}

/// Returns the delimiter that spreadsheets write before the header, as in `sep=;`, and the length of its line.
fn named_delimiter(text: &[u8]) -> Option<(u8, usize)> {
    let line = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).strip_prefix(b"sep=")?;
    let (&delimiter, after) = line.split_first()?;
    let after_line = after.strip_prefix(b"\r").unwrap_or(after).strip_prefix(b"\n")?;
    (delimiter.is_ascii() && delimiter != b'"').then_some((delimiter, text.len() - after_line.len()))
}

/// The error of a row.
pub(super) enum RowError {
    /// The quotes are wrong, so that the row's end is uncertain.
    Quotes(String),
    /// The fields are wrong.
    Fields(String),
}

/// Calls `on_field` with the fields of a row without its line break; with `None` for an empty one without quotes.
fn read_row<'a>(
    row: &'a str,
    delimiter: u8,
    mut on_field: impl FnMut(Option<Cow<'a, str>>),
) -> Result<(), String> {
    let delimiter = char::from(delimiter);
    let mut rest = row;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (value, after) = unquote(quoted).ok_or("a quote is not closed")?;
            on_field(Some(value));
            after
        } else {
            let end = rest.find(delimiter).unwrap_or(rest.len());
            on_field((end > 0).then(|| Cow::Borrowed(&rest[..end])));
            &rest[end..]
        };
        if after.is_empty() {
            return Ok(());
        }
        rest = after.strip_prefix(delimiter).ok_or("there is text after a closing quote")?;
    }
}

/// Returns the value of a quoted field, whose opening quote was removed, and the text after its closing quote.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = Cow::Borrowed("");
    let mut rest = quoted;
    loop {
        let end = memchr::memchr(b'"', rest.as_bytes())?;
        value += &rest[..end];
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            None => return Some((value, rest)),
            Some(after) => {
                value += "\"";
                rest = after;
            }
        }
    }
}

/// Finds the ends of rows: line breaks outside quotes.
#[derive(Debug)]
pub struct RowScanner {
    delimiter: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl RowScanner {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, state: State::FieldStart }
    }

    /// Continues at byte `from` of the text, which is the end of the last row, or the end of the text that was scanned
    /// before. Returns the end of the next complete row, after its line break.
    pub fn next(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while at < text.len() {
            let skip = match self.state {
                State::Quoted => memchr::memchr(b'"', &text[at..]),
                State::Plain => memchr::memchr2(self.delimiter, b'\n', &text[at..]),
                State::FieldStart | State::QuoteInQuoted => Some(0),
            };
            at += skip?;
            self.state = match (self.state, text[at]) {
                (State::Quoted, _) => State::QuoteInQuoted,
                (State::QuoteInQuoted, b'"') | (State::FieldStart, b'"') => State::Quoted,
                (_, b'\n') => {
                    self.state = State::FieldStart;
                    return Some(at + 1);
                }
                (_, byte) if byte == self.delimiter => State::FieldStart,
                _ => State::Plain,
            };
            at += 1;
        }
        None
    }

    /// Begins a row, after text that was given up.
    pub fn reset(&mut self) {
        self.state = State::FieldStart;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> (CsvHeader, usize) {
        CsvHeader::parse(text.as_bytes(), true).unwrap().unwrap()
    }

    fn row(header: &CsvHeader, row: &str) -> Result<Vec<String>, String> {
        let mut members = vec![];
        let read = header.read_row(row, |name, value| {
            members.push(format!("{name}={value}"));
            Ok(())
        });
        match read {
            Ok(()) => Ok(members),
            Err(RowError::Quotes(reason) | RowError::Fields(reason)) => Err(reason),
        }
    }

    #[test]
    fn delimiter_comes_from_header() {
        let text = "\u{feff}time;\"the \"\"host\"\"\nname\";;a,b\r\nx";
        let (header, end) = header(text);
        assert_eq!(header.names(), ["time", "the \"host\"\nname", "column3", "a,b"]);
        assert_eq!(&text[end..], "x");
        assert_eq!(CsvHeader::parse(b"a,\"b\n", false), Ok(None), "the row is not complete");
        assert_eq!(CsvHeader::parse(b"a,\"b\n", true), Err("a quote is not closed".into()));
    }

    #[test]
    fn spreadsheets_name_the_delimiter() {
        for text in ["sep=;\r\na;b,c\r\n", "\u{feff}sep=;\na;b,c\n", "sep=:\na:b,c\n"] {
            let (header, end) = header(text);
            assert_eq!((header.names(), end), (&["a".to_owned(), "b,c".into()][..], text.len()));
        }
        assert_eq!(header("sep=,size\n1,2\n").0.names(), ["sep=", "size"]);
        assert_eq!(CsvHeader::parse(b"sep=;\na", false), Ok(None), "the row is not complete");
    }

    #[test]
    fn rejects_line_ends_of_old_macs() {
        for text in ["a,b\r1,2\r", "\"a\",\"b\"\r1,2\n"] {
            assert_eq!(CsvHeader::parse(text.as_bytes(), true), Err(OLD_LINE_ENDS.into()));
        }
        assert_eq!(header("\"a\rb\"\"\",c\r\n1,2").0.names(), ["a\rb\"", "c"]);
    }

    #[test]
    fn empty_field_is_a_value_only_in_quotes() {
        let (header, _) = header("a,b,c\n");
        assert_eq!(row(&header, "1,,\"\"").unwrap(), ["a=1", "c="]);
        assert_eq!(row(&header, ",x \"y\",\"a,\"\"b\nc\"").unwrap(), ["b=x \"y\"", "c=a,\"b\nc"]);
        assert_eq!(row(&header, "1,2").unwrap_err(), "the row has 2 fields, the header has 3");
        assert_eq!(row(&header, "1,2,3,4").unwrap_err(), "the row has 4 fields, the header has 3");
        assert_eq!(row(&header, "1,\"2\"x,3").unwrap_err(), "there is text after a closing quote");
    }

    #[test]
    fn rows_end_at_line_breaks_outside_quotes() {
        let text = b"a,\"x\ny\"\"\n\",5\" pipe\nb,\"\"\r\n\nc,\"d\ne";
        let ends = |middle: usize| {
            let (mut scanner, mut ends, mut scanned) = (RowScanner::new(b','), vec![], 0);
            for text in [&text[..middle], text] {
                while let Some(end) = scanner.next(text, scanned) {
                    scanned = end;
                    ends.push(end);
                }
                scanned = text.len();
            }
            ends
        };
        assert_eq!(ends(0), [19, 25, 26]);
        (0..text.len()).for_each(|middle| assert_eq!(ends(middle), ends(0), "divided at {middle}"));
    }
}

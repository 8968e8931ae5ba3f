//! Parses logs into batches.
//!
//! The usual format is NDJSON: one log as a JSON object per line. JSON objects can also stand in an array, or over several
//! lines ([`ValueScanner`]). Other formats are CSV with a header, and lines of text. [`Format`] tells them apart.
//!
//! The reserved keys `__time__`, `__time_ns_part__`,
//! `__topic__`, `__source__` and `__tag__:KEY` set the corresponding properties of the log or its group. Every other key
//! becomes a field: a string as it is, any other value as its JSON text. A null is no value: its key is missing.

mod csv;
mod format;
mod log;
mod object;
#[cfg(test)]
mod tests;
mod values;

pub use csv::{CsvHeader, RowScanner};
pub use format::{Expected, Format, HEAD_BYTES, Looks};
pub use object::{MAX_DEPTH, is_too_deep};

use crate::batch::LogBatch;
use crate::time::Time;
use csv::RowError;
use log::LogBuilder;
use values::without_break;
pub use values::{ValueScanner, values_to_lines};

/// The settings of a parser.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The field with the log's time, as RFC 3339 or Unix time. It stays a field as well. The default is `__time__`.
    pub time_field: Option<String>,
    /// The time of a log without `__time__`. Not used if `time_field` is set.
    pub default_time: Time,
    /// The number of shards.
    pub shards: u32,
    /// The field whose hash selects the shard. A log without the field uses the hash of the empty string.
    pub shard_field: String,
}

/// A rejected line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The index of the line in the block.
    pub line: usize,
    /// The bytes of the line, without the line break. Empty for a line of zero bytes.
    pub text: Vec<u8>,
    /// The reason for the rejection.
    pub reason: String,
}

/// The result of parsing a block.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The batch of each shard that has logs, by shard number. Logs keep the order of the lines.
    pub batches: Vec<(u32, LogBatch)>,
    /// The rejected lines.
    pub rejects: Vec<Reject>,
    /// The number of lines in the block, including blank lines.
    pub lines: usize,
}

/// Parses blocks of lines into batches, one for each shard.
#[derive(Debug)]
pub struct Parser {
    log: LogBuilder,
}

impl Parser {
    /// Creates a parser. Reuse it for all blocks.
    pub fn new(settings: Settings) -> Self {
        Self { log: LogBuilder::new(settings) }
    }

    /// Sets the time of logs without a time.
    pub fn set_default_time(&mut self, time: Time) {
        self.log.settings.default_time = time;
    }

    /// Parses a block of complete records of a format. Text becomes the field `text_field`.
    pub fn parse_as(&mut self, format: &Format, text_field: &str, block: &[u8]) -> Parsed {
        match format {
            Format::JsonLines => self.parse(block),
            Format::JsonValues => self.parse_values(block),
            Format::Csv(header) => self.parse_rows(block, header),
            Format::Text => self.parse_text(block, text_field),
        }
    }

    /// Parses a block of complete lines of JSON objects. The last line may lack its line break. Blank lines are skipped.
    /// A line of several objects is several logs, or rejected if one of them is malformed.
    pub fn parse(&mut self, block: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        // Usually the whole block is UTF-8, so its lines need no check of their own.
        let valid = simdutf8::basic::from_utf8(block).ok();
        let mut begin = 0;
        while begin < block.len() {
            let end = memchr::memchr(b'\n', &block[begin..]).map_or(block.len(), |at| begin + at);
            let text = valid.map_or_else(|| utf8(&block[begin..end]), |valid| Ok(&valid[begin..end]));
            if let Err(reason) = text.and_then(|line| self.objects(line)) {
                let (text, reason) = self.without_zeros(&block[begin..end], reason);
                parsed.rejects.push(Reject { line: parsed.lines, text, reason });
            }
            begin = end + 1;
            parsed.lines += 1;
        }
        parsed.batches = self.log.take();
        parsed
    }

    /// Parses a block of JSON objects that are not lines. The line of a reject is that of its first byte.
    pub fn parse_values(&mut self, block: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        let (mut scanner, mut scanned, mut line, mut counted) = (ValueScanner::default(), 0, 0, 0);
        loop {
            let item = scanner.next(block, scanned);
            let is_last = item.is_none();
            let Some(item) = item.or_else(|| scanner.rest(block)) else { break };
            line += count_lines(&block[counted..item.start]);
            (counted, scanned) = (item.start, item.end);
            if let Err(reason) = self.value(&block[item.clone()]) {
                parsed.rejects.push(Reject { line, text: block[item].trim_ascii_end().to_vec(), reason });
            }
            if is_last {
                break;
            }
        }
        parsed.lines = line + count_lines(&block[counted..]);
        parsed.batches = self.log.take();
        parsed
    }

    fn value(&mut self, text: &[u8]) -> Result<(), String> {
        match memchr::memchr(b'\n', text) {
            None => self.objects(utf8(text)?),
            Some(_) => self.objects(utf8(&text.iter().map(without_break).collect::<Vec<_>>())?),
        }
    }

    /// Parses a block of complete rows of CSV, without the header.
    pub fn parse_rows(&mut self, block: &[u8], header: &CsvHeader) -> Parsed {
        let mut parsed = Parsed::default();
        let (mut scanner, mut begin) = (header.scanner(), 0);
        while begin < block.len() {
            let mut end = scanner.next(block, begin).unwrap_or(block.len());
            match self.row(&block[begin..end], header) {
                Ok(()) => {}
                Err(error) => {
                    let reason = match error {
                        RowError::Fields(reason) => reason,
                        // The row may have swallowed others: gives up its first line only.
                        RowError::Quotes(reason) => {
                            end = memchr::memchr(b'\n', &block[begin..])
                                .map_or(block.len(), |at| begin + at + 1);
                            scanner.reset();
                            reason
                        }
                    };
                    let row = block[begin..end].strip_suffix(b"\n").unwrap_or(&block[begin..end]);
                    let (text, reason) =
                        if is_zeros(row) { zeros(row.len()) } else { (row.to_vec(), reason) };
                    parsed.rejects.push(Reject { line: parsed.lines, text, reason });
                }
            }
            parsed.lines += count_lines(&block[begin..end]).max(1);
            begin = end;
        }
        parsed.batches = self.log.take();
        parsed
    }

    fn row(&mut self, row: &[u8], header: &CsvHeader) -> Result<(), RowError> {
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        let row = utf8(row).map_err(RowError::Fields)?.trim_start_matches(BYTE_ORDER_MARK);
        if row.is_empty() {
            return Ok(());
        }
        let before = self.log.len();
        let mut log = self.log.begin();
        let read = header.read_row(row, |name, value| log.member(name, value));
        read.and_then(|()| log.end().map_err(RowError::Fields)).inspect_err(|_| self.log.truncate(before))
    }

    /// Parses a block of complete lines of text. Each is a log with the line in one field. Blank lines are skipped. Bytes
    /// that are not UTF-8 are kept.
    pub fn parse_text(&mut self, block: &[u8], field: &str) -> Parsed {
        let mut parsed = Parsed::default();
        for line in block.strip_suffix(b"\n").unwrap_or(block).split(|&byte| byte == b'\n') {
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            if is_zeros(text) && !text.is_empty() {
                let (text, reason) = zeros(text.len());
                parsed.rejects.push(Reject { line: parsed.lines, text, reason });
            } else if !text.trim_ascii().is_empty() {
                let mut log = self.log.begin();
                let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
                if let Err(reason) = log.text(field, text).and_then(|()| log.end()) {
                    self.log.truncate(self.log.len());
                    parsed.rejects.push(Reject { line: parsed.lines, text: line.to_vec(), reason });
                }
            }
            parsed.lines += 1;
        }
        parsed.batches = self.log.take();
        parsed
    }

    /// Adds the objects of a line as logs, all or none.
    fn objects(&mut self, line: &str) -> Result<(), String> {
        let mut rest = line.trim_ascii();
        if let Some(&(0xef | RECORD_SEPARATOR)) = rest.as_bytes().first() {
            rest =
                rest.trim_start_matches([BYTE_ORDER_MARK, char::from(RECORD_SEPARATOR)]).trim_ascii_start();
        }
        if is_too_deep(rest) {
            return Err(format!("values are nested deeper than {MAX_DEPTH}"));
        }
        let before = self.log.len();
        while !rest.is_empty() {
            let mut log = self.log.begin();
            let read = object::read_object(rest, |key, value| log.member(key, value));
            match read.and_then(|after| log.end().map(|()| after)) {
                Ok(after) => rest = after,
                Err(reason) => {
                    self.log.truncate(before);
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// Parses a rejected line once more without the zero bytes around it, which a file system leaves after a crash.
    /// Returns the text and the reason of what is still rejected.
    #[cold]
    fn without_zeros(&mut self, line: &[u8], reason: String) -> (Vec<u8>, String) {
        let is_text = |&byte: &u8| byte != 0 && !byte.is_ascii_whitespace();
        let start = line.iter().position(is_text).unwrap_or(line.len());
        let end = line.iter().rposition(is_text).map_or(start, |last| last + 1);
        let zeros = line[..start].iter().chain(&line[end..]).filter(|&&byte| byte == 0).count();
        let text = utf8(&line[start..end]);
        if zeros > 0 && text.is_ok_and(|text| self.objects(text).is_ok()) {
            return self::zeros(zeros);
        }
        (line.to_vec(), reason)
    }
}

/// Returns the text and the reason of rejected zero bytes.
fn zeros(count: usize) -> (Vec<u8>, String) {
    (vec![], format!("zero bytes, as a crash leaves them: {count}"))
}

fn is_zeros(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == 0)
}

fn count_lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

/// The mark that some programs write at the beginning of a file. Concatenated files have it at other lines, too.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The byte before each line of a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

fn utf8(line: &[u8]) -> Result<&str, String> {
    str::from_utf8(line).map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))
}

//! Finds where complete records end.

use logship_batch::parser::{Format, RowScanner, ValueScanner};

/// Finds the ends of records in a buffer that grows.
#[derive(Debug)]
pub(super) enum Cutter {
    Lines,
    Values(ValueScanner),
    Rows(RowScanner),
}

impl Cutter {
    pub(super) fn new(format: &Format) -> Self {
        match format {
            Format::JsonLines | Format::Text => Self::Lines,
            Format::JsonValues => Self::Values(ValueScanner::default()),
            Format::Csv(header) => Self::Rows(header.scanner()),
        }
    }

    /// Returns the ends of the first and of the last record that end after byte `scanned`, up to which the buffer was
    /// scanned before.
    pub(super) fn ends(&mut self, buffer: &[u8], scanned: usize) -> Option<(usize, usize)> {
        let mut next = |from| match self {
            Self::Lines => None,
            Self::Values(scanner) => scanner.next(buffer, from).map(|item| item.end),
            Self::Rows(scanner) => scanner.next(buffer, from),
        };
        if let Some(first) = next(scanned) {
            let mut last = first;
            while let Some(end) = next(last) {
                last = end;
            }
            return Some((first, last));
        }
        if !matches!(self, Self::Lines) {
            return None;
        }
        let last = scanned + memchr::memrchr(b'\n', &buffer[scanned..])? + 1;
        // Only a long record needs its own end.
        let first = if scanned > 0 { memchr::memchr(b'\n', &buffer[scanned..])? + scanned + 1 } else { last };
        Some((first.min(last), last))
    }

    /// Begins anew, after text that was given up.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Lines => {}
            Self::Values(scanner) => scanner.reset(),
            Self::Rows(scanner) => scanner.reset(),
        }
    }

    /// Returns true if the records are in an array that has not ended.
    pub(super) fn is_in_array(&self) -> bool {
        matches!(self, Self::Values(scanner) if scanner.is_in_array())
    }
}

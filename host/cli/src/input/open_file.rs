//! Cuts an open file into blocks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use logship_batch::parser::{Expected, Format, Reject};

use super::blocks::{Block, RecordOptions, Records};
use super::cutter::Cutter;
use super::file::Input;
use super::fingerprint::Fingerprint;
use super::stream::Stream;

/// The longest record that is kept in memory, in bytes.
const MAX_RECORD: usize = 64 << 20;

/// A file that is read in blocks of complete records.
pub(super) struct OpenFile {
    path: Arc<Path>,
    stream: Stream,
    /// The content so far, if the file may have copies.
    fingerprint: Option<Fingerprint>,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were searched for the end of a record.
    scanned: usize,
    /// Known after the first lines.
    format: Option<(Arc<Format>, Cutter)>,
    /// The lines of a header that precede the next block.
    header_lines: usize,
    /// The bytes of a record that were too many to keep.
    dropped: u64,
    /// The end of the file: clean, or the reason why the rest can't be read.
    end: Option<Result<(), String>>,
}

/// The next step of a file.
pub(super) enum Step {
    Block(Block),
    /// The file ends, or can't be read further.
    End(Result<(), String>),
    /// The caller asked to stop while there was no data.
    Stopped,
}

impl OpenFile {
    /// Opens a file. Returns `None` if `stop` returned true while the input had no data.
    ///
    /// # Errors
    /// Returns the reason why it can't be read.
    pub(super) fn open(
        input: &Input,
        fingerprint: Option<Fingerprint>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, String> {
        let stream = Stream::open(input, stop)?;
        Ok(stream.map(|stream| Self {
            path: input.path.as_path().into(),
            stream,
            fingerprint,
            buffer: vec![],
            scanned: 0,
            format: None,
            header_lines: 0,
            dropped: 0,
            end: None,
        }))
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Takes the content that was read.
    pub(super) fn take_fingerprint(&mut self) -> Option<Fingerprint> {
        self.fingerprint.take()
    }

    /// Returns the next block, or the end of the file.
    pub(super) fn next(&mut self, options: &RecordOptions, stop: &dyn Fn() -> bool) -> Step {
        loop {
            if self.end.is_none() {
                match self.read(stop) {
                    Ok(true) => {}
                    Ok(false) => return Step::Stopped,
                    Err(error) => self.end = Some(Err(error.to_string())),
                }
            }
            if let Some(block) = self.cut(options) {
                return Step::Block(block);
            }
            if let Some(end) = self.end.clone() {
                let end = end.and_then(|()| self.missing_bracket().map_or(Ok(()), Err));
                return self.rest(end.as_ref().err()).map_or(Step::End(end), Step::Block);
            }
        }
    }

    /// Reads once. Returns false if `stop` returned true while there was no data.
    fn read(&mut self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        if !self.stream.wait(stop)? {
            return Ok(false);
        }
        let before = self.buffer.len();
        let has_more = self.stream.read_some(&mut self.buffer)?;
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.add(&self.buffer[before..]);
        }
        if !has_more {
            self.end = Some(self.stream.truncation().map_or(Ok(()), Err));
        }
        Ok(true)
    }

    /// Returns the reason if an array has no end.
    fn missing_bracket(&self) -> Option<String> {
        let (_, cutter) = self.format.as_ref()?;
        cutter.is_in_array().then(|| "its JSON array has no end: it may be cut short".into())
    }

    /// Returns the complete records of the buffer as a block.
    fn cut(&mut self, options: &RecordOptions) -> Option<Block> {
        if self.dropped > 0 {
            return self.drop_record();
        }
        self.detect(options.expected)?;
        let (_, cutter) = self.format.as_mut()?;
        let ends = cutter.ends(&self.buffer, self.scanned);
        let Some((first, last)) = ends else {
            self.scanned = self.buffer.len();
            return self.give_up_long_record();
        };
        if first > options.max_record {
            cutter.reset();
            let mut text = self.take(first);
            text.truncate(text.trim_ascii_end().len());
            return Some(self.reject(text, 1, too_long(first as u64, options.max_record)));
        }
        let bytes = self.take(last);
        self.scanned = self.buffer.len();
        self.records(bytes)
    }

    /// Tells the format by the first lines. Returns `None` if it is not known yet.
    fn detect(&mut self, expected: Expected) -> Option<()> {
        if self.format.is_some() {
            return Some(());
        }
        match Format::detect(expected, &self.buffer, self.end.is_some()) {
            Ok(None) => None,
            Ok(Some((format, header))) => {
                let header = self.take(header);
                self.header_lines = count_lines(&header);
                let cutter = Cutter::new(&format);
                self.format = Some((Arc::new(format), cutter));
                Some(())
            }
            Err(reason) => {
                self.buffer.clear();
                self.end = Some(Err(reason));
                None
            }
        }
    }

    /// Removes and returns the first bytes of the buffer. The rest is not searched yet.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.buffer[bytes..].to_vec();
        self.buffer.truncate(bytes);
        self.scanned = 0;
        std::mem::replace(&mut self.buffer, rest)
    }

    fn records(&mut self, bytes: Vec<u8>) -> Option<Block> {
        let (format, _) = self.format.as_ref()?;
        let header_lines = std::mem::take(&mut self.header_lines);
        let records = Records { bytes, format: Arc::clone(format), header_lines };
        Some(Block::records(Arc::clone(&self.path), records))
    }

    fn reject(&mut self, text: Vec<u8>, lines: usize, reason: String) -> Block {
        let lines = lines + std::mem::take(&mut self.header_lines);
        Block::reject(Arc::clone(&self.path), Reject { line: lines.saturating_sub(1), text, reason }, lines)
    }

    /// Gives up a record that does not end within the limit: the lines of a CSV row, or the record itself.
    fn give_up_long_record(&mut self) -> Option<Block> {
        if self.buffer.len() <= MAX_RECORD {
            return None;
        }
        let (_, cutter) = self.format.as_mut()?;
        cutter.reset();
        if let (Cutter::Rows(_), Some(end)) = (&cutter, memchr::memrchr(b'\n', &self.buffer)) {
            let bytes = self.take(end + 1);
            return self.records(bytes);
        }
        self.dropped = self.buffer.len() as u64;
        self.buffer.clear();
        self.scanned = 0;
        None
    }

    /// Drops the rest of a record that was given up, to its line break.
    fn drop_record(&mut self) -> Option<Block> {
        let line_break = memchr::memchr(b'\n', &self.buffer);
        let end = line_break.map_or(self.buffer.len(), |at| at + 1);
        self.dropped += end as u64;
        drop(self.take(end));
        if line_break.is_none() && self.end.is_none() {
            return None;
        }
        let reason = format!("{}; it is not kept", too_long(std::mem::take(&mut self.dropped), MAX_RECORD));
        Some(self.reject(vec![], 1, reason))
    }

    /// Returns the rest of the buffer at the end of the file. A file that can't be read further has cut its last record.
    fn rest(&mut self, problem: Option<&String>) -> Option<Block> {
        let bytes = std::mem::take(&mut self.buffer);
        self.scanned = 0;
        if bytes.trim_ascii().is_empty() {
            return None;
        }
        let Some(problem) = problem else { return self.records(bytes) };
        let lines = count_lines(&bytes).max(1);
        Some(self.reject(bytes, lines, format!("its end is missing: {problem}")))
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

fn too_long(bytes: u64, limit: usize) -> String {
    format!("the record has {bytes} bytes: at most {limit} are possible")
}

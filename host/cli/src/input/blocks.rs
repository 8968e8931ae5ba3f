//! Reads inputs in blocks.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use logship_batch::parser::{Expected, Format, Parsed, Parser, Reject};

use super::copies::Copies;
use super::file::Input;
use super::open_file::{OpenFile, Step};
use super::unread::Unread;

/// The records of an input.
#[derive(Debug, Clone)]
pub struct RecordOptions {
    /// The format that the user expects.
    pub expected: Expected,
    /// The field of lines of text.
    pub text_field: Arc<str>,
    /// The largest record that can become a log, in bytes.
    pub max_record: usize,
}

/// A part of a file.
#[derive(Debug)]
pub struct Block {
    /// The file.
    pub path: Arc<Path>,
    content: BlockContent,
}

#[derive(Debug)]
enum BlockContent {
    Records(Records),
    /// A record that is no log, and the number of its lines.
    Reject(Reject, usize),
    /// The file can't be read, or not further, or is passed over.
    Unread(Unread),
}

/// Complete records. Only the last one of a file may lack a line break.
#[derive(Debug, Clone)]
pub struct Records {
    /// The records.
    pub bytes: Vec<u8>,
    /// Their format.
    pub format: Arc<Format>,
    /// The lines of a header before them.
    pub header_lines: usize,
}

impl Block {
    pub(super) fn records(path: Arc<Path>, records: Records) -> Self {
        Self { path, content: BlockContent::Records(records) }
    }

    pub(super) fn reject(path: Arc<Path>, reject: Reject, lines: usize) -> Self {
        Self { path, content: BlockContent::Reject(reject, lines) }
    }

    fn unread(unread: Unread) -> Self {
        Self { path: unread.path.as_path().into(), content: BlockContent::Unread(unread) }
    }

    /// Returns the number of bytes that were read.
    pub fn bytes(&self) -> u64 {
        match &self.content {
            BlockContent::Records(records) => records.bytes.len() as u64,
            BlockContent::Reject(reject, _) => reject.text.len() as u64,
            BlockContent::Unread(_) => 0,
        }
    }

    /// Returns the record of a file that can't be read, or not further, or is passed over.
    pub fn to_unread(&self) -> Option<Unread> {
        match &self.content {
            BlockContent::Unread(unread) => Some(unread.clone()),
            _ => None,
        }
    }

    /// Parses the records.
    pub fn parse(&self, parser: &mut Parser, options: &RecordOptions) -> Parsed {
        match &self.content {
            BlockContent::Unread(_) => Parsed::default(),
            BlockContent::Reject(reject, lines) => {
                Parsed { rejects: vec![reject.clone()], lines: *lines, ..Parsed::default() }
            }
            BlockContent::Records(Records { bytes, format, header_lines }) => {
                let mut parsed = parser.parse_as(format, &options.text_field, bytes);
                parsed.lines += header_lines;
                parsed.rejects.iter_mut().for_each(|reject| reject.line += header_lines);
                parsed
            }
        }
    }
}

/// Reads inputs in blocks, as soon as records arrive.
pub struct Blocks {
    inputs: VecDeque<Input>,
    copies: Copies,
    options: RecordOptions,
    open: Option<OpenFile>,
    /// Blocks that were put back.
    returned: VecDeque<Block>,
}

impl Blocks {
    /// Creates a reader of the inputs, in order.
    pub fn new(inputs: Vec<Input>, options: RecordOptions) -> Self {
        let copies = Copies::among(&inputs);
        Self { inputs: inputs.into(), copies, options, open: None, returned: VecDeque::new() }
    }

    /// Returns the next block, or `None` at the end of the input. Also returns `None` if `stop` returns true
    /// while the input has no data.
    pub fn next_block(&mut self, stop: &dyn Fn() -> bool) -> Option<Block> {
        if let Some(block) = self.returned.pop_front() {
            return Some(block);
        }
        loop {
            let Some(file) = &mut self.open else {
                let input = self.inputs.pop_front()?;
                if let Some(copy) = self.copies.find(&input, stop) {
                    return Some(Block::unread(copy));
                }
                let fingerprint = self.copies.fingerprint(&input.path);
                match OpenFile::open(&input, fingerprint, stop) {
                    Ok(file) => self.open = Some(file?),
                    Err(reason) => return Some(Block::unread(Unread::new(&input.path, reason))),
                }
                continue;
            };
            match file.next(&self.options, stop) {
                Step::Block(block) => return Some(block),
                Step::Stopped => return None,
                Step::End(end) => {
                    let (path, fingerprint) = (Arc::clone(file.path()), file.take_fingerprint());
                    self.open = None;
                    if let Some(fingerprint) = fingerprint {
                        self.copies.remember(&path, fingerprint);
                    }
                    if let Err(reason) = end {
                        return Some(Block::unread(Unread::new(&path, reason)));
                    }
                }
            }
        }
    }

    /// Puts a block back, so that it is returned next.
    pub fn put_back(&mut self, block: Block) {
        self.returned.push_front(block);
    }

    /// Returns the first records, which stay in the input. Blocks before them are kept too.
    pub fn peek(&mut self, stop: &dyn Fn() -> bool) -> Option<Records> {
        let mut blocks = VecDeque::new();
        let mut first = None;
        while first.is_none()
            && let Some(block) = self.next_block(stop)
        {
            if let BlockContent::Records(records) = &block.content {
                first = Some(records.clone());
            }
            blocks.push_back(block);
        }
        blocks.append(&mut self.returned);
        self.returned = blocks;
        first
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

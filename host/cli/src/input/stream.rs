//! The bytes of an open file: decompressed, and in UTF-8.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};

use logship_batch::utf16::Utf16Decoder;
use logship_sls::gzip::GzipMembers;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::content::{Content, HEAD_BYTES};
use super::file::Input;

/// Bytes per read, and so the approximate size of a block.
pub(super) const BLOCK_BYTES: usize = 1 << 19;

/// An open file.
pub(super) struct Stream {
    layer: Layer,
    /// The first bytes, which told the content.
    head: Vec<u8>,
    utf16: Option<Utf16Decoder>,
    /// The error after everything before it was returned.
    failure: Option<io::Error>,
}

/// The source of bytes.
enum Layer {
    Plain(Raw),
    Gzip(Box<GzipMembers<Rest>>),
    Zstd(Box<zstd::Decoder<'static, Rest>>),
}

/// A file, with its first bytes put back.
type Rest = BufReader<Chain<Cursor<Vec<u8>>, Raw>>;

impl Stream {
    /// Opens an input. Returns `None` if `stop` returned true while the input had no data.
    ///
    /// # Errors
    /// Returns the reason why it can't be read.
    pub(super) fn open(input: &Input, stop: &dyn Fn() -> bool) -> Result<Option<Self>, String> {
        let file = input.open().map_err(|error| error.to_string())?;
        let mut raw = Raw { file, left: input.bytes().filter(|&bytes| bytes > 0), is_cut: false, read: 0 };
        let Some(head) = raw.head(stop).map_err(|error| error.to_string())? else { return Ok(None) };
        let content = Content::of(&head);
        let layer = match content {
            Content::Gzip => Layer::Gzip(Box::new(GzipMembers::new(rest(head, raw)))),
            Content::Zstd => {
                let decoder =
                    zstd::Decoder::with_buffer(rest(head, raw)).map_err(|error| error.to_string())?;
                Layer::Zstd(Box::new(decoder))
            }
            other => {
                let mut stream = Self { layer: Layer::Plain(raw), head, utf16: None, failure: None };
                return stream.decode(other).map(|()| Some(stream));
            }
        };
        let mut stream = Self { layer, head: vec![], utf16: None, failure: None };
        let mut head = vec![];
        while head.len() < HEAD_BYTES && stream.failure.is_none() {
            match stream.layer.read_some(&mut head) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => stream.failure = Some(error),
            }
        }
        let content = Content::of(&head);
        stream.head = head;
        stream.decode(content).map(|()| Some(stream))
    }

    fn decode(&mut self, content: Content) -> Result<(), String> {
        match content {
            Content::Text => {}
            Content::Utf16(endian) => self.utf16 = Some(Utf16Decoder::new(endian)),
            Content::Gzip | Content::Zstd => return Err("it is compressed twice: decompress it first".into()),
            Content::Foreign(..) => return Err(content.reason().unwrap_or_default()),
        }
        if let (Layer::Plain(raw), true) = (&mut self.layer, self.utf16.is_some()) {
            // Line breaks of UTF-16 are of two bytes.
            raw.left = None;
        }
        Ok(())
    }

    /// Waits for data or the end of the input. Returns false if `stop` returned true first.
    pub(super) fn wait(&self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        match &self.layer {
            Layer::Plain(raw) if self.head.is_empty() => raw.wait(stop),
            _ => Ok(true),
        }
    }

    /// Appends the next bytes, and returns false at the end.
    ///
    /// # Errors
    /// Fails if there are more bytes that can't be read.
    pub(super) fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let Some(utf16) = &mut self.utf16 else {
            return Ok(next(&mut self.layer, &mut self.head, &mut self.failure, into)? > 0);
        };
        let mut bytes = vec![];
        let read = next(&mut self.layer, &mut self.head, &mut self.failure, &mut bytes)?;
        utf16.decode(&bytes, into);
        if read == 0 {
            let before = into.len();
            utf16.finish(into);
            return Ok(into.len() > before);
        }
        Ok(true)
    }

    /// Returns the reason if a file ended before its size when it was opened.
    pub(super) fn truncation(&self) -> Option<String> {
        match &self.layer {
            Layer::Plain(Raw { left: Some(left), read, .. }) if *left > 0 => {
                Some(format!("it was truncated while it was read: {left} bytes after byte {read} are gone"))
            }
            _ => None,
        }
    }
}

/// Appends the head, or what the layer reads next. An error comes after all bytes before it.
fn next(
    layer: &mut Layer,
    head: &mut Vec<u8>,
    failure: &mut Option<io::Error>,
    into: &mut Vec<u8>,
) -> io::Result<usize> {
    if !head.is_empty() {
        into.append(head);
        return Ok(into.len());
    }
    if let Some(error) = failure.take() {
        return Err(error);
    }
    let before = into.len();
    match layer.read_some(into) {
        Err(error) if into.len() > before => {
            *failure = Some(error);
            Ok(into.len() - before)
        }
        read => read,
    }
}

fn rest(head: Vec<u8>, raw: Raw) -> Rest {
    BufReader::with_capacity(1 << 16, Cursor::new(head).chain(raw))
}

impl Layer {
    /// Reads once into the buffer and returns the number of bytes; 0 at the end.
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let reader: &mut dyn Read = match self {
            Self::Plain(raw) => return raw.read_some(into),
            Self::Gzip(reader) => &mut **reader,
            Self::Zstd(reader) => &mut **reader,
        };
        reader.take(BLOCK_BYTES as u64).read_to_end(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its compressed data ends early: it is cut short",
            ),
            kind => io::Error::new(kind, format!("its compressed data is damaged: {error}")),
        })
    }
}

/// A file as it is on disk.
struct Raw {
    file: File,
    /// The bytes to read of a file that may grow. A line that begins before its end is read to its own end.
    left: Option<u64>,
    /// True after the last line that began before the end.
    is_cut: bool,
    read: u64,
}

impl Raw {
    /// Reads the first bytes. Does not wait for more of a pipe than its first line.
    fn head(&mut self, stop: &dyn Fn() -> bool) -> io::Result<Option<Vec<u8>>> {
        let mut head = vec![];
        let is_line = |head: &[u8]| (head.len() > 4 || head.starts_with(b"{")) && head.contains(&b'\n');
        while head.len() < HEAD_BYTES && !(self.left.is_none() && is_line(&head)) {
            if !self.wait(stop)? {
                return Ok(None);
            }
            if self.read_some(&mut head)? == 0 {
                break;
            }
        }
        Ok(Some(head))
    }

    /// Waits for data or the end of the input. Returns false if `stop` returned true first.
    fn wait(&self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        let interval = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        while !stop() {
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&interval)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_cut {
            return Ok(0);
        }
        let before = into.len();
        let wanted = match self.left {
            None => BLOCK_BYTES,
            Some(0) => TAIL_BYTES,
            Some(left) => left.min(BLOCK_BYTES as u64) as usize,
        };
        // A long line grows by its own size, so that it is copied few times.
        if before > 4 * BLOCK_BYTES {
            into.reserve(wanted)
        } else {
            into.reserve_exact(wanted)
        }
        // Reads into uninitialized memory: clearing it first would cost time.
        let read = loop {
            let spare = spare_capacity(into);
            match rustix::io::read(&self.file, spare) {
                Err(Errno::INTR) => {}
                read => break read?,
            }
        };
        self.read += read as u64;
        match &mut self.left {
            None => return Ok(read),
            Some(left) if *left > read as u64 => *left -= read as u64,
            // The read reached the end, or went beyond it.
            Some(left) => {
                let beyond = before + *left as usize;
                *left = 0;
                self.end_line(into, before, beyond);
            }
        }
        Ok(into.len() - before)
    }

    /// Ends the file at the first line break at or after the byte before `end`, if it was read already.
    fn end_line(&mut self, into: &mut Vec<u8>, before: usize, end: usize) {
        let start = end.saturating_sub(1).max(before);
        if let Some(line_break) = memchr::memchr(b'\n', &into[start..]) {
            into.truncate(start + line_break + 1);
            self.is_cut = true;
        }
    }
}

/// Bytes per read of a last line that grew.
const TAIL_BYTES: usize = 4096;

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Compressed files are read to their end: their lines are unknown here.
        let read = Read::read(&mut &self.file, into)?;
        self.read += read as u64;
        Ok(read)
    }
}

//! Reads files of lines in blocks.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use walkdir::{DirEntry, WalkDir};

/// Bytes per read, and so the approximate size of a block.
const BLOCK_BYTES: usize = 1 << 19;

/// The longest line, in bytes.
const MAX_LINE: usize = 64 << 20;

/// The extensions of log files in a directory, each also with `.gz`.
const EXTENSIONS: [&str; 4] = ["ndjson", "jsonl", "json", "log"];

/// An error of reading logs.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is missing, or can't be opened or read.
    #[error("can't read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A directory has no log files.
    #[error("{}: this directory has no file ending in {} (or these with .gz); to ship other files, name them", .0.display(), EXTENSIONS.map(|extension| format!(".{extension}")).join(", "))]
    NoLogFiles(PathBuf),
}

impl InputError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A log file, or standard input (`-`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    path: PathBuf,
    /// The size on disk in bytes; `None` for standard input, pipes and devices.
    bytes: Option<u64>,
}

impl Input {
    /// Returns the inputs that `paths` name: files, all log files of directories sorted by path, and `-`.
    /// An empty list means standard input.
    ///
    /// # Errors
    /// Fails if a path can't be read, or a directory has no log files.
    pub fn find(paths: &[PathBuf]) -> Result<Vec<Self>, InputError> {
        let mut found = Vec::new();
        if paths.is_empty() {
            found.push(Self { path: "-".into(), bytes: None });
        }
        for path in paths {
            if path == Path::new("-") {
                found.push(Self { path: path.clone(), bytes: None });
                continue;
            }
            let metadata = path.metadata().map_err(|error| InputError::new(path, error))?;
            if metadata.is_dir() {
                found.extend(log_files_in(path)?);
            } else {
                found.push(Self { path: path.clone(), bytes: metadata.is_file().then_some(metadata.len()) });
            }
        }
        // Opens each file now, so that an unreadable one fails before half of the others are shipped.
        // Skips pipes, which can be opened only once.
        for input in found.iter().filter(|input| input.bytes.is_some()) {
            File::open(&input.path).map_err(|error| InputError::new(&input.path, error))?;
        }
        Ok(found)
    }

    /// Returns the size on disk in bytes, or `None` for standard input, pipes and devices.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Returns the first complete lines, or nothing if the input can't be read twice.
    ///
    /// # Errors
    /// Fails if the input can't be read.
    pub fn head(&self) -> Result<Vec<u8>, InputError> {
        match self.bytes {
            None => Ok(vec![]),
            Some(_) => {
                Ok(Blocks::new(vec![self.clone()]).next_block(&|| false)?.map_or(vec![], |block| block.bytes))
            }
        }
    }

    fn open(&self) -> io::Result<Reader> {
        if self.path == Path::new("-") {
            return Ok(Reader::Plain(io::stdin().as_fd().try_clone_to_owned()?.into()));
        }
        let file = File::open(&self.path)?;
        let gzipped = self.path.extension().is_some_and(|extension| extension == "gz");
        Ok(if gzipped { Reader::Gzip(Box::new(MultiGzDecoder::new(file))) } else { Reader::Plain(file) })
    }
}

fn log_files_in(path: &Path) -> Result<Vec<Input>, InputError> {
    let mut found = Vec::new();
    // Skips hidden files, and names that begin with `_`, which may be rejects of an earlier run.
    let visible =
        |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with(['.', '_']);
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| InputError::new(path, error.into()))?;
        if entry.file_type().is_file() && is_log_file(entry.path()) {
            let bytes = entry.metadata().map(|metadata| metadata.len()).ok();
            found.push(Input { path: entry.into_path(), bytes });
        }
    }
    if found.is_empty() { Err(InputError::NoLogFiles(path.to_owned())) } else { Ok(found) }
}

fn is_log_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    EXTENSIONS.iter().any(|extension| name.ends_with(&format!(".{extension}")))
}

/// Complete lines of one file.
#[derive(Debug)]
pub struct Block {
    /// The file.
    pub path: Arc<Path>,
    /// The lines. Only the last line of a file may lack a line break.
    pub bytes: Vec<u8>,
}

/// Reads inputs in blocks of complete lines, as soon as lines arrive.
pub struct Blocks {
    inputs: VecDeque<Input>,
    open: Option<(Arc<Path>, Reader)>,
    /// True if nothing of the open input has been read.
    at_start: bool,
    /// The beginning of a line whose end has not been read.
    partial_line: Vec<u8>,
    /// Blocks that were put back.
    returned: VecDeque<Block>,
}

impl Blocks {
    /// Creates a reader of the inputs, in order.
    pub fn new(inputs: Vec<Input>) -> Self {
        Self {
            inputs: inputs.into(),
            open: None,
            at_start: true,
            partial_line: Vec::new(),
            returned: VecDeque::new(),
        }
    }

    /// Returns the next block, or `None` at the end of the input. Also returns `None` if `stop` returns true
    /// while the input has no data.
    ///
    /// # Errors
    /// Fails if a file can't be read or has a line longer than 64 MiB.
    pub fn next_block(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Block>, InputError> {
        if let Some(block) = self.returned.pop_front() {
            return Ok(Some(block));
        }
        loop {
            let Some((path, reader)) = &mut self.open else {
                let Some(input) = self.inputs.pop_front() else { return Ok(None) };
                let reader = input.open().map_err(|error| InputError::new(&input.path, error))?;
                self.open = Some((input.path.into(), reader));
                self.at_start = true;
                continue;
            };
            let path = Arc::clone(path);
            let io_error = |error| InputError::new(&path, error);
            if !reader.wait(stop).map_err(io_error)? {
                return Ok(None);
            }
            let read = reader.read_some(&mut self.partial_line).map_err(io_error)?;
            if read == 0 {
                self.open = None;
                if self.partial_line.is_empty() {
                    continue;
                }
                return Ok(Some(Block { path, bytes: std::mem::take(&mut self.partial_line) }));
            }
            // Some editors write a byte order mark.
            if std::mem::take(&mut self.at_start) && self.partial_line.starts_with(b"\xef\xbb\xbf") {
                self.partial_line.drain(..3);
            }
            // Bytes of earlier reads contain no line break.
            let searched = self.partial_line.len().saturating_sub(read);
            if let Some(end) = memchr::memrchr(b'\n', &self.partial_line[searched..]) {
                let tail = self.partial_line[searched + end + 1..].to_vec();
                self.partial_line.truncate(searched + end + 1);
                return Ok(Some(Block { path, bytes: std::mem::replace(&mut self.partial_line, tail) }));
            }
            if self.partial_line.len() > MAX_LINE {
                let message =
                    format!("a line is longer than {} MiB: check that the file is NDJSON", MAX_LINE >> 20);
                return Err(io_error(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
        }
    }

    /// Puts a block back, so that it is returned next.
    pub fn put_back(&mut self, block: Block) {
        self.returned.push_front(block);
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

/// An open input.
enum Reader {
    Plain(File),
    Gzip(Box<MultiGzDecoder<File>>),
}

impl Reader {
    /// Waits for data or the end of the input. Returns false if `stop` returned true first.
    fn wait(&self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        let Self::Plain(file) = self else { return Ok(true) };
        let interval = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        while !stop() {
            let mut fds = [PollFd::new(file, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&interval)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Reads once into the buffer and returns the number of bytes; 0 at the end.
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve_exact(BLOCK_BYTES);
        loop {
            let read = match self {
                // Reads into uninitialized memory: clearing it first would cost time.
                Self::Plain(file) => rustix::io::read(file, spare_capacity(into)).map_err(io::Error::from),
                Self::Gzip(reader) => reader.take(BLOCK_BYTES as u64).read_to_end(into),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn all(inputs: Vec<Input>) -> Vec<(String, usize, bool)> {
        let mut blocks = Blocks::new(inputs);
        let mut seen = Vec::new();
        while let Some(block) = blocks.next_block(&|| false).unwrap() {
            let name = block.path.file_name().unwrap().to_string_lossy().into_owned();
            seen.push((name, block.bytes.len(), block.bytes.ends_with(b"\n")));
        }
        seen
    }

    #[test]
    fn blocks_are_complete_lines_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        let long = [vec![b'x'; BLOCK_BYTES], b"\nshort".to_vec()].concat();
        write("a.ndjson", &long);
        write("b.log", b"\xef\xbb\xbf1\n2\n");
        write("_rejects.ndjson", b"not one");
        write("c.jsonl", b"");
        write("d.txt", b"not one");
        write(".e.log", b"not one");
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(b"z\n").unwrap();
        write("f.json.gz", &zipped.finish().unwrap());
        let inputs = Input::find(&[folder.path().to_owned()]).unwrap();
        let name = |name: &str| name.to_owned();
        let expected = [
            (name("a.ndjson"), BLOCK_BYTES + 1, true),
            (name("a.ndjson"), 5, false),
            (name("b.log"), 4, true),
            (name("f.json.gz"), 2, true),
        ];
        assert_eq!(all(inputs), expected);
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Input::find(&[folder.path().join("gone.ndjson")]).unwrap_err().to_string();
        assert!(missing.contains("gone.ndjson") && missing.contains("No such file"), "{missing}");
        let empty = Input::find(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(empty.contains("this directory has no file ending in .ndjson"), "{empty}");
    }
}

//! Files of lines, read in blocks.

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

/// Bytes read at once, and so about the size of a block.
const BLOCK: usize = 1 << 19;

/// The longest line that is read as a whole.
const LONGEST_LINE: usize = 64 << 20;

/// The files that a directory is searched for.
const EXTENSIONS: [&str; 4] = ["ndjson", "jsonl", "json", "log"];

/// Why logs can't be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no such file, or it can't be opened or read.
    #[error("can't read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory has nothing to ship.
    #[error("{}: no file in this directory ends in {}, or one of them with .gz; name the files themselves to ship others", .0.display(), EXTENSIONS.map(|extension| format!(".{extension}")).join(", "))]
    Nothing(PathBuf),
}

impl InputError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A file of logs, or standard input (`-`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    path: PathBuf,
    /// Bytes on disk; unknown for standard input and the like.
    bytes: Option<u64>,
}

impl Input {
    /// The files that `paths` name: files themselves, directories with all their files of logs,
    /// sorted by path, and `-`. None named: standard input.
    ///
    /// # Errors
    /// When one can't be read, or a directory has no file of logs.
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
            let facts = path.metadata().map_err(|error| InputError::new(path, error))?;
            if facts.is_dir() {
                found.extend(in_directory(path)?);
            } else {
                found.push(Self { path: path.clone(), bytes: facts.is_file().then_some(facts.len()) });
            }
        }
        // A file that can't be opened is better known before half of the others are shipped. A pipe can be
        // opened once only.
        for input in found.iter().filter(|input| input.bytes.is_some()) {
            File::open(&input.path).map_err(|error| InputError::new(&input.path, error))?;
        }
        Ok(found)
    }

    /// Bytes on disk; unknown for standard input and the like.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The first whole lines, where the input can be read twice.
    ///
    /// # Errors
    /// When it can't be read.
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
        let zipped = self.path.extension().is_some_and(|extension| extension == "gz");
        Ok(if zipped { Reader::Zipped(Box::new(MultiGzDecoder::new(file))) } else { Reader::Plain(file) })
    }
}

fn in_directory(path: &Path) -> Result<Vec<Input>, InputError> {
    let mut found = Vec::new();
    // Hidden files are none of the user's, and what begins with `_` may be rejects of an earlier run.
    let visible =
        |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with(['.', '_']);
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| InputError::new(path, error.into()))?;
        if entry.file_type().is_file() && is_of_logs(entry.path()) {
            let bytes = entry.metadata().map(|facts| facts.len()).ok();
            found.push(Input { path: entry.into_path(), bytes });
        }
    }
    if found.is_empty() { Err(InputError::Nothing(path.to_owned())) } else { Ok(found) }
}

fn is_of_logs(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    EXTENSIONS.iter().any(|extension| name.ends_with(&format!(".{extension}")))
}

/// Whole lines of one file.
#[derive(Debug)]
pub struct Block {
    /// The file.
    pub path: Arc<Path>,
    /// The lines. Only the last line of a file may be without its line break.
    pub bytes: Vec<u8>,
}

/// Reads inputs in blocks of whole lines, as soon as there are any.
pub struct Blocks {
    inputs: VecDeque<Input>,
    open: Option<(Arc<Path>, Reader)>,
    /// Whether nothing of the open input was read yet.
    at_beginning: bool,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// Blocks that were read and put back.
    back: VecDeque<Block>,
}

impl Blocks {
    /// The blocks of the inputs, in order.
    pub fn new(inputs: Vec<Input>) -> Self {
        Self {
            inputs: inputs.into(),
            open: None,
            at_beginning: true,
            rest: Vec::new(),
            back: VecDeque::new(),
        }
    }

    /// The next block, none when all was read, or when `stop` says so while there is nothing to read.
    ///
    /// # Errors
    /// When a file can't be read, or has a line of more than 64 MiB.
    pub fn next_block(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Block>, InputError> {
        if let Some(block) = self.back.pop_front() {
            return Ok(Some(block));
        }
        loop {
            let Some((path, reader)) = &mut self.open else {
                let Some(input) = self.inputs.pop_front() else { return Ok(None) };
                let reader = input.open().map_err(|error| InputError::new(&input.path, error))?;
                self.open = Some((input.path.into(), reader));
                self.at_beginning = true;
                continue;
            };
            let path = Arc::clone(path);
            let failed = |error| InputError::new(&path, error);
            if !reader.wait(stop).map_err(failed)? {
                return Ok(None);
            }
            let read = reader.read_some(&mut self.rest).map_err(failed)?;
            if read == 0 {
                self.open = None;
                if self.rest.is_empty() {
                    continue;
                }
                return Ok(Some(Block { path, bytes: std::mem::take(&mut self.rest) }));
            }
            // Some editors begin a file with this mark.
            if std::mem::take(&mut self.at_beginning) && self.rest.starts_with(b"\xef\xbb\xbf") {
                self.rest.drain(..3);
            }
            // What was there before has no line break.
            let fresh = self.rest.len().saturating_sub(read);
            if let Some(end) = memchr::memrchr(b'\n', &self.rest[fresh..]) {
                let rest = self.rest[fresh + end + 1..].to_vec();
                self.rest.truncate(fresh + end + 1);
                return Ok(Some(Block { path, bytes: std::mem::replace(&mut self.rest, rest) }));
            }
            if self.rest.len() > LONGEST_LINE {
                let message = format!("it has a line of more than {} MiB: is it NDJSON?", LONGEST_LINE >> 20);
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
        }
    }

    /// Puts a block back: it comes next.
    pub fn put_back(&mut self, block: Block) {
        self.back.push_front(block);
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
    Zipped(Box<MultiGzDecoder<File>>),
}

impl Reader {
    /// Waits until there is something to read, or its end; false when `stop` said so before.
    fn wait(&self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        let Self::Plain(file) = self else { return Ok(true) };
        let often = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        while !stop() {
            let mut fds = [PollFd::new(file, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&often)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Appends what one read gives, and says how much that is; 0 at the end.
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve_exact(BLOCK);
        loop {
            let read = match self {
                // Into memory that was never written: clearing it first would cost as much as parsing some.
                Self::Plain(file) => rustix::io::read(file, spare_capacity(into)).map_err(io::Error::from),
                Self::Zipped(reader) => reader.take(BLOCK as u64).read_to_end(into),
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
    fn blocks_are_whole_lines_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        let long = [vec![b'x'; BLOCK], b"\nshort".to_vec()].concat();
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
            (name("a.ndjson"), BLOCK + 1, true),
            (name("a.ndjson"), 5, false),
            (name("b.log"), 4, true),
            (name("f.json.gz"), 2, true),
        ];
        assert_eq!(all(inputs), expected);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Input::find(&[folder.path().join("gone.ndjson")]).unwrap_err().to_string();
        assert!(missing.contains("gone.ndjson") && missing.contains("No such file"), "{missing}");
        let empty = Input::find(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(empty.contains("no file in this directory ends in .ndjson"), "{empty}");
    }
}

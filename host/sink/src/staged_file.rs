//! Objects staged on local disk: [`StagedFile`] while bytes are appended, [`FinishedFile`] before upload.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Read buffer of [`digest`], in bytes.
const READ_BUFFER: usize = 256 << 10;

/// Bytes after which writeback to disk starts, while later bytes are still produced.
const WRITEBACK_BYTES: u64 = 4 << 20;

/// An object that is being written to local disk. Dropping it deletes the file. The end of the process
/// deletes it too, if the file system supports unnamed files (`O_TMPFILE`).
#[derive(Debug)]
pub struct StagedFile {
    file: Backing,
    folder: PathBuf,
    header_room: usize,
    /// Bytes written so far.
    bytes: u64,
    /// Running SHA-256 of these bytes. `None` if a header will precede them.
    hash: Option<Sha256>,
    /// Bytes for which writeback has started. `None` if the file is uploaded and deleted, so durability does
    /// not matter.
    written_back: Option<u64>,
}

/// A complete object on local disk that has no name yet.
#[derive(Debug)]
pub struct FinishedFile {
    file: Backing,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug)]
enum Backing {
    Unnamed(File),
    Named(NamedTempFile),
}

impl Backing {
    fn create(folder: &Path) -> io::Result<Self> {
        // An unnamed file is linked through /proc.
        if Path::new("/proc/self/fd").exists() {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => return Ok(Self::Unnamed(file.into())),
                // Errors of file systems and kernels without `O_TMPFILE`.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The usual mode of a new file: the umask decides who may read it.
        let anyone = fs::Permissions::from_mode(0o666);
        let mut named = tempfile::Builder::new();
        named.prefix(".logship-").suffix(".part").permissions(anyone);
        named.tempfile_in(folder).map(Self::Named)
    }

    fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Links the file at `path`. Fails if `path` exists.
    fn link(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Unnamed(file) => {
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Named(file) => file.persist_noclobber(path).map(drop).map_err(|error| error.error),
        }
    }
}

impl StagedFile {
    /// Creates a staged file in `folder`, which must be on the file system of the final object. Reserves
    /// `header_room` bytes at the beginning.
    pub fn create(folder: &Path, header_room: usize) -> io::Result<Self> {
        let hash = (header_room == 0).then(Sha256::new);
        let file = Backing::create(folder)?;
        let mut staged =
            Self { file, folder: folder.to_owned(), header_room, bytes: 0, hash, written_back: None };
        staged.write(&vec![0; header_room])?;
        Ok(staged)
    }

    /// Like [`create`](Self::create), for an object that stays in `folder`. Writeback runs while the file
    /// grows, so the final `sync` is short.
    pub(crate) fn create_durable(folder: &Path, header_room: usize) -> io::Result<Self> {
        Ok(Self { written_back: Some(0), ..Self::create(folder, header_room)? })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.file();
        file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(written_back) = &mut self.written_back
            && self.bytes - *written_back >= WRITEBACK_BYTES
        {
            start_writeback(file, *written_back..self.bytes);
            *written_back = self.bytes;
        }
        Ok(())
    }

    /// Writes `header` in front of the body and returns the finished file with its size and digest.
    pub fn finish(mut self, header: &[u8]) -> io::Result<FinishedFile> {
        if let Some(hash) = self.hash.take().filter(|_| header.is_empty()) {
            return Ok(FinishedFile {
                file: self.file,
                bytes: self.bytes,
                sha256: hex::encode(hash.finalize()),
            });
        }
        if header.len() == self.header_room {
            self.file.file().write_all_at(header, 0)?;
        } else {
            self.move_body(header)?;
        }
        let (bytes, sha256) = digest(self.file.file())?;
        Ok(FinishedFile { file: self.file, bytes, sha256 })
    }

    /// Copies the body to a new file, because the header does not have the reserved length.
    fn move_body(&mut self, header: &[u8]) -> io::Result<()> {
        let finished = Backing::create(&self.folder)?;
        finished.file().write_all(header)?;
        let mut body = self.file.file();
        body.seek(SeekFrom::Start(self.header_room as u64))?;
        io::copy(&mut body, &mut finished.file())?;
        self.file = finished;
        Ok(())
    }
}

impl FinishedFile {
    /// Flushes the content to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.file().sync_all()
    }

    /// Links the file at `path`. Fails if `path` exists.
    pub(crate) fn link(self, path: &Path) -> io::Result<()> {
        self.file.link(path)
    }

    /// Reads up to `bytes` bytes at `offset`. Returns an empty vector at the end.
    pub fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let left = self.bytes.saturating_sub(offset).min(bytes as u64);
        let mut read = vec![0; left as usize];
        self.file.file().read_exact_at(&mut read, offset)?;
        Ok(read)
    }
}

/// Starts writeback of a range of a file. This is only a hint: `sync` makes the data durable and reports
/// errors.
fn start_writeback(file: &File, range: Range<u64>) {
    let (from, bytes) = (range.start as libc::off64_t, (range.end - range.start) as libc::off64_t);
    // SAFETY: the file is open as long as it is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Returns the size of a file in bytes, and its SHA-256 in hexadecimal.
pub fn digest(mut file: &File) -> io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; READ_BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, hex::encode(hash.finalize()))),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_file_is_header_and_body_with_digest() {
        let folder = tempfile::tempdir().unwrap();
        // Crosses the writeback limit, in pieces that do not divide it.
        let piece: Vec<u8> = (0..100_003_u32).map(|number| number as u8).collect();
        let pieces = (WRITEBACK_BYTES as usize / piece.len()) + 3;
        for (room, header) in [(0, ""), (0, "HEAD"), (4, "HEAD"), (4, "HEADER"), (4, "")] {
            for make in [StagedFile::create, StagedFile::create_durable] {
                let mut staged = make(folder.path(), room).unwrap();
                (0..pieces).for_each(|_| staged.write(&piece).unwrap());
                let finished = staged.finish(header.as_bytes()).unwrap();
                let expected = [header.as_bytes(), &piece.repeat(pieces)].concat();
                assert_eq!(finished.bytes, expected.len() as u64, "{header:?} in a room of {room}");
                assert_eq!(finished.sha256, hex::encode(Sha256::digest(&expected)));
                let path = folder.path().join("object");
                finished.sync().unwrap();
                finished.link(&path).unwrap();
                assert!(fs::read(&path).unwrap() == expected, "{header:?} in a room of {room}");
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut staged = StagedFile::create_durable(folder.path(), 4).unwrap();
        staged.write(b"of no use").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

//! The bytes of an object in the making, in a file that nobody sees.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// Bytes that are sent on their way to the disk together, while those behind them are made.
const STRETCH: u64 = 4 << 20;

/// An object in the making. Dropped, it leaves nothing behind; nor does the end of the process, where the file
/// system has files without a name.
#[derive(Debug)]
pub struct Part {
    file: Hidden,
    folder: PathBuf,
    header_room: usize,
    /// Bytes that were written.
    bytes: u64,
    /// SHA-256 of them, as long as nothing else will stand before them.
    hash: Option<Sha256>,
    /// What of them is on its way to the disk. None where the object only waits for who takes it elsewhere.
    sent: Option<u64>,
}

/// An object whose bytes are all there, but which has no name yet.
#[derive(Debug)]
pub struct Whole {
    file: Hidden,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of them, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug)]
enum Hidden {
    Nameless(File),
    Named(NamedTempFile),
}

impl Hidden {
    fn within(folder: &Path) -> io::Result<Self> {
        // A file without a name gets one by way of /proc.
        if Path::new("/proc/self/fd").exists() {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => return Ok(Self::Nameless(file.into())),
                // How file systems, and kernels, say that they have no such files.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // As any file that is made: readable to whom the umask lets.
        let anyone = fs::Permissions::from_mode(0o666);
        let mut named = tempfile::Builder::new();
        named.prefix(".logship-").suffix(".part").permissions(anyone);
        named.tempfile_in(folder).map(Self::Named)
    }

    fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it the name `path`, which must not be taken.
    fn link(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Nameless(file) => {
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Named(file) => file.persist_noclobber(path).map(drop).map_err(|error| error.error),
        }
    }
}

impl Part {
    /// A part in `folder`, which must be on the file system that the object is to be on. `header_room` bytes are
    /// kept free at its beginning.
    pub fn within(folder: &Path, header_room: usize) -> io::Result<Self> {
        let hash = (header_room == 0).then(Sha256::new);
        let file = Hidden::within(folder)?;
        let mut part = Self { file, folder: folder.to_owned(), header_room, bytes: 0, hash, sent: None };
        part.write(&vec![0; header_room])?;
        Ok(part)
    }

    /// As [`within`](Self::within), for an object that gets its name there: it is on its way to the disk while it grows, so
    /// that little is left to wait for at its end.
    pub(crate) fn staying(folder: &Path, header_room: usize) -> io::Result<Self> {
        Ok(Self { sent: Some(0), ..Self::within(folder, header_room)? })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.file();
        file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(sent) = &mut self.sent
            && self.bytes - *sent >= STRETCH
        {
            send(file, *sent..self.bytes);
            *sent = self.bytes;
        }
        Ok(())
    }

    /// Puts `header` before all that was written, and tells what it has become.
    pub fn finish(mut self, header: &[u8]) -> io::Result<Whole> {
        if let Some(hash) = self.hash.take().filter(|_| header.is_empty()) {
            return Ok(Whole { file: self.file, bytes: self.bytes, sha256: hex::encode(hash.finalize()) });
        }
        if header.len() == self.header_room {
            self.file.file().write_all_at(header, 0)?;
        } else {
            self.move_body(header)?;
        }
        let (bytes, sha256) = digest(self.file.file())?;
        Ok(Whole { file: self.file, bytes, sha256 })
    }

    /// Writes the object anew, for a header that is not of the length that room was kept for.
    fn move_body(&mut self, header: &[u8]) -> io::Result<()> {
        let whole = Hidden::within(&self.folder)?;
        whole.file().write_all(header)?;
        let mut body = self.file.file();
        body.seek(SeekFrom::Start(self.header_room as u64))?;
        io::copy(&mut body, &mut whole.file())?;
        self.file = whole;
        Ok(())
    }
}

impl Whole {
    /// Brings it to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.file().sync_all()
    }

    /// Gives it the name `path`, which must not be taken.
    pub(crate) fn link(self, path: &Path) -> io::Result<()> {
        self.file.link(path)
    }

    /// Reads up to `bytes` of it from `offset` on; none at its end.
    pub fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let left = self.bytes.saturating_sub(offset).min(bytes as u64);
        let mut read = vec![0; left as usize];
        self.file.file().read_exact_at(&mut read, offset)?;
        Ok(read)
    }
}

/// Has the system begin to write a stretch of a file to the disk. A hint: `sync` is what counts, and what fails here fails
/// there.
fn send(file: &File, stretch: Range<u64>) {
    let (from, bytes) = (stretch.start as libc::off64_t, (stretch.end - stretch.start) as libc::off64_t);
    // SAFETY: the file is open as long as it is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How many bytes a file has, and their SHA-256 in hexadecimal.
pub fn digest(mut file: &File) -> io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; READ]);
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
    fn an_object_is_its_header_and_what_was_written_and_has_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        // Over a stretch, in pieces that do not divide it.
        let piece: Vec<u8> = (0..100_003_u32).map(|number| number as u8).collect();
        let pieces = (STRETCH as usize / piece.len()) + 3;
        for (room, header) in [(0, ""), (0, "HEAD"), (4, "HEAD"), (4, "HEADER"), (4, "")] {
            for make in [Part::within, Part::staying] {
                let mut part = make(folder.path(), room).unwrap();
                (0..pieces).for_each(|_| part.write(&piece).unwrap());
                let whole = part.finish(header.as_bytes()).unwrap();
                let expected = [header.as_bytes(), &piece.repeat(pieces)].concat();
                assert_eq!(whole.bytes, expected.len() as u64, "{header:?} in a room of {room}");
                assert_eq!(whole.sha256, hex::encode(Sha256::digest(&expected)));
                let path = folder.path().join("object");
                whole.sync().unwrap();
                whole.link(&path).unwrap();
                assert!(fs::read(&path).unwrap() == expected, "{header:?} in a room of {room}");
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn a_part_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = Part::staying(folder.path(), 4).unwrap();
        part.write(b"of no use").unwrap();
        drop(part);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

//! The bytes of an object in the making, in a file that nobody sees.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// An object in the making. Dropped, it leaves nothing behind; nor does the end of the process, where the file
/// system has files without a name.
#[derive(Debug)]
pub struct Part {
    file: Hidden,
    folder: PathBuf,
    header_room: usize,
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
                use std::os::fd::AsRawFd;
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
        let mut part = Self { file: Hidden::within(folder)?, folder: folder.to_owned(), header_room };
        part.write(&vec![0; header_room])?;
        Ok(part)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.file().write_all(bytes)
    }

    /// Puts `header` before all that was written, and reads what it has become.
    pub fn finish(mut self, header: &[u8]) -> io::Result<Whole> {
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

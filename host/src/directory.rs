//! A local directory as an object store.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A local directory as an object store: keys are paths below it.
///
/// An object has its final name only when all of it is on disk, and never takes the place of
/// another. Until then it is a hidden file beside it, which is removed when the object is given up.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

/// Why an object could not be written. Nothing has its final name then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An object with this key is there.
    #[error("{} is there already, and was left as it is. A key must be an object's own: have the time and the number of the task in it, or choose another prefix", .0.display())]
    Exists(PathBuf),
    /// The disk is full.
    #[error("no space is left to write {}. No half object is left", .0.display())]
    Full(PathBuf),
    /// Something else went wrong on the way to the disk.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// The object's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            _ => Self::Io { path, source },
        }
    }
}

impl Directory {
    /// The directory at `root`, made when the first object is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins an object. `header_room` bytes are kept free at its beginning.
    ///
    /// # Errors
    /// When there is such an object already, or the file can't be made.
    pub fn create(&self, key: &str, header_room: usize) -> Result<ObjectFile, StoreError> {
        let path = self.root.join(key);
        let begin = || -> io::Result<NamedTempFile> {
            if path.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            make_folders(folder(&path))?;
            part_beside(&path)
        };
        let part = begin().map_err(|error| StoreError::new(&path, error))?;
        let mut object = ObjectFile { part, path, header_room, written: 0 };
        object.write(&vec![0; header_room])?;
        Ok(object)
    }
}

/// An object in the making. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct ObjectFile {
    part: NamedTempFile,
    path: PathBuf,
    header_room: usize,
    /// Bytes in the file, the room for the header counted.
    written: u64,
}

impl ObjectFile {
    /// Appends bytes.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.part.write_all(bytes).map_err(|error| StoreError::new(&self.path, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Puts `header` before all that was written, brings the object to the disk and gives it its
    /// name. Returns how many bytes it has.
    ///
    /// # Errors
    /// As the disk has it, or when another object took the name meanwhile.
    pub fn finish(self, header: &[u8]) -> Result<u64, StoreError> {
        let path = self.path.clone();
        self.settle(header).map_err(|error| StoreError::new(&path, error))
    }

    fn settle(mut self, header: &[u8]) -> io::Result<u64> {
        if header.len() == self.header_room {
            self.part.as_file().write_all_at(header, 0)?;
        } else {
            self.move_body(header)?;
        }
        self.part.as_file().sync_all()?;
        // Opened before: behind the new name nothing may fail that would call the object unwritten.
        let folder = File::open(folder(&self.path))?;
        self.part.persist_noclobber(&self.path).map_err(|error| error.error)?;
        if let Err(error) = sync_folder(&folder) {
            fs::remove_file(&self.path)?;
            return Err(error);
        }
        Ok(self.written)
    }

    /// Writes the object anew, for a header that is not of the length that room was kept for.
    fn move_body(&mut self, header: &[u8]) -> io::Result<()> {
        let mut whole = part_beside(&self.path)?;
        whole.write_all(header)?;
        let mut body = self.part.reopen()?;
        io::Seek::seek(&mut body, io::SeekFrom::Start(self.header_room as u64))?;
        self.written = header.len() as u64 + io::copy(&mut body, &mut whole)?;
        self.part = whole;
        Ok(())
    }
}

/// A hidden file in the folder that the object is to be in.
fn part_beside(path: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // As any file that is made: readable to whom the umask lets.
    let anyone = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".logship-").suffix(".part").permissions(anyone).tempfile_in(folder(path))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a folder and those above it, on disk: an object is only as durable as its path.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = self::folder(folder);
    make_folders(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(&File::open(above)?)
}

/// Brings the names in a folder to the disk, where its file system knows how.
fn sync_folder(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn the_header_comes_first_whatever_room_was_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        for (room, header) in [(0, ""), (4, "four"), (4, ""), (4, "five!"), (0, "x")] {
            let key = format!("{room}/{header}o");
            let mut object = store.create(&key, room).unwrap();
            object.write(b"bo").unwrap();
            object.write(b"dy").unwrap();
            let written = object.finish(header.as_bytes()).unwrap();
            let read = fs::read_to_string(root.path().join(&key)).unwrap();
            assert_eq!((read.as_str(), written), (format!("{header}body").as_str(), read.len() as u64));
        }
        assert_eq!(names(&root.path().join("4")).len(), 3);
    }

    #[test]
    fn an_object_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut object = Directory::new(root.path()).create("a/b", 0).unwrap();
        object.write(b"half").unwrap();
        assert!(!root.path().join("a/b").exists());
        drop(object);
        assert_eq!(names(&root.path().join("a")), Vec::<String>::new());
    }

    #[test]
    fn another_object_is_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let late = store.create("key", 0).unwrap();
        store.create("key", 0).unwrap().finish(b"first").unwrap();
        assert!(matches!(late.finish(b"second"), Err(StoreError::Exists(_))));
        assert!(matches!(store.create("key", 0), Err(StoreError::Exists(_))));
        assert_eq!(fs::read(root.path().join("key")).unwrap(), b"first");
        assert_eq!(names(root.path()), ["key"]);
    }
}

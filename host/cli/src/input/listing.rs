//! Finds the input files.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::file::{FileId, Input, InputError};
use super::unread::Unread;

/// The input files, each once, and the files that were passed over.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files to read, in order.
    pub inputs: Vec<Input>,
    /// The files that can't be read, or are passed over.
    pub unread: Vec<Unread>,
    /// The first path of each file.
    seen: HashMap<FileId, PathBuf>,
    /// The output directory, whose objects are no logs to read.
    output: Option<FileId>,
}

impl Listing {
    /// Finds the files that `paths` name: files, all files of directories sorted by path, and `-`. An empty list means
    /// standard input. Directories are read without the output directory, if they have it.
    ///
    /// # Errors
    /// Fails if a path can't be read, or a directory has no files to read.
    pub fn find(paths: &[PathBuf], output: Option<&Path>) -> Result<Self, InputError> {
        let output = output.and_then(|output| output.metadata().ok()).map(|metadata| FileId::of(&metadata));
        let mut found = Self { output, ..Self::default() };
        let standard_input = [PathBuf::from("-")];
        for path in if paths.is_empty() { &standard_input } else { paths } {
            found.add(path)?;
        }
        Ok(found)
    }

    fn add(&mut self, path: &Path) -> Result<(), InputError> {
        if path == Path::new("-") {
            let input = Input::standard_input();
            if self.inputs.contains(&input) {
                self.unread.push(Unread::intended(path, "standard input is read once"));
            } else {
                self.inputs.push(input);
            }
            return Ok(());
        }
        let metadata = path.metadata().map_err(|error| InputError::new(path, error))?;
        if metadata.is_dir() {
            return self.add_directory(path, FileId::of(&metadata));
        }
        let input = Input::new(path.to_owned(), &metadata);
        // Fails before other files are shipped. A pipe can be opened only once.
        if input.file.is_some() {
            input.open().map_err(|error| InputError::new(path, error))?;
        }
        self.add_file(input);
        Ok(())
    }

    fn add_file(&mut self, input: Input) {
        if let Some((_, id)) = input.file {
            match self.seen.entry(id) {
                Entry::Occupied(first) => {
                    let reason = format!("the same file as {}", first.get().display());
                    return self.unread.push(Unread::intended(&input.path, reason));
                }
                Entry::Vacant(entry) => drop(entry.insert(input.path.clone())),
            }
        }
        self.inputs.push(input);
    }

    fn add_directory(&mut self, path: &Path, id: FileId) -> Result<(), InputError> {
        if self.output == Some(id) {
            return Err(InputError::IsOutput(path.to_owned()));
        }
        let (inputs, unread) = (self.inputs.len(), self.unread.len());
        let root = path.canonicalize().map_err(|error| InputError::new(path, error))?;
        let mut entries = WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if entry.depth() == 0 => {}
                Ok(entry) => {
                    if !self.add_entry(entry, &root) {
                        entries.skip_current_dir();
                    }
                }
                Err(error) => self.add_error(path, error)?,
            }
        }
        if self.inputs.len() > inputs || self.unread[unread..].iter().any(is_same_file) {
            return Ok(());
        }
        let shown: Vec<_> = self.unread[unread..].iter().take(3).map(|unread| unread.to_string()).collect();
        let passed_over =
            if shown.is_empty() { String::new() } else { format!("; passed over: {}", shown.join("; ")) };
        Err(InputError::NoFiles { path: path.to_owned(), passed_over })
    }

    /// Adds an entry of the directory `root`. Returns false if it is a directory that is passed over.
    fn add_entry(&mut self, entry: DirEntry, root: &Path) -> bool {
        let is_directory = entry.file_type().is_dir();
        if let Some(target) = link_to_ancestor(&entry, root) {
            let reason = format!("a link to {}, which has files outside of this directory", target.display());
            self.unread.push(Unread::intended(entry.path(), reason));
            return false;
        }
        match self.reason_to_pass_over(&entry) {
            Some(reason) => {
                self.unread.push(Unread::intended(entry.path(), reason));
                return !is_directory;
            }
            None if is_directory => {}
            None => match entry.metadata() {
                Ok(metadata) => self.add_file(Input::new(entry.into_path(), &metadata)),
                Err(error) => self.unread.push(Unread::new(entry.path(), reason(&error))),
            },
        }
        true
    }

    fn reason_to_pass_over(&self, entry: &DirEntry) -> Option<&'static str> {
        let (name, kind) = (entry.file_name().as_encoded_bytes(), entry.file_type());
        let is_output = || {
            self.output.is_some()
                && self.output == entry.metadata().ok().map(|metadata| FileId::of(&metadata))
        };
        match name.first() {
            Some(b'.') => Some("its name is hidden"),
            Some(b'_') => Some("its name begins with _, as that of rejected lines"),
            _ if is_rejects(name) => Some("lines that logship put rejected"),
            _ if kind.is_dir() => is_output().then_some("the output directory"),
            _ if kind.is_fifo() => Some("a pipe"),
            _ if kind.is_socket() => Some("a socket"),
            _ if kind.is_block_device() || kind.is_char_device() => Some("a device"),
            _ => None,
        }
    }

    /// Adds the error of a directory's entry. Fails if it is the directory itself.
    fn add_error(&mut self, root: &Path, error: walkdir::Error) -> Result<(), InputError> {
        match error.path() {
            Some(path) if error.depth() > 0 => {
                self.unread.push(Unread::new(path, reason(&error)));
                Ok(())
            }
            _ => Err(InputError::new(root, error.into())),
        }
    }
}

/// Returns the target of a link to a directory in which `root` is: it leads to files that the user did not name.
fn link_to_ancestor(entry: &DirEntry, root: &Path) -> Option<PathBuf> {
    if !entry.path_is_symlink() || !entry.file_type().is_dir() {
        return None;
    }
    let target = entry.path().canonicalize().ok()?;
    (target != root && root.starts_with(&target)).then_some(target)
}

fn is_same_file(unread: &Unread) -> bool {
    unread.reason.starts_with("the same file")
}

/// Returns true for the default names of the lines that `logship put` rejected: `rejects-TIME.ndjson`.
fn is_rejects(name: &[u8]) -> bool {
    name.strip_prefix(b"rejects-").is_some_and(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && matches!(&rest[digits..], b".ndjson" | b".reasons.txt")
    })
}

fn reason(error: &walkdir::Error) -> String {
    if let Some(ancestor) = error.loop_ancestor() {
        return format!("a link to {}, which it is in", ancestor.display());
    }
    let is_link = error.path().is_some_and(Path::is_symlink);
    match error.io_error() {
        Some(error) if is_link && error.kind() == std::io::ErrorKind::NotFound => {
            "a link to a file that does not exist".into()
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(listing: &Listing, root: &Path) -> Vec<String> {
        let name = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        listing.inputs.iter().map(|input| name(&input.path)).collect()
    }

    #[test]
    fn finds_every_file_once_and_tells_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let logs = [
            "App.LOG",
            "a.log",
            "a.log-20260101.gz",
            "a.log.1",
            "a.log.2.gz",
            "messages",
            "sub/b.csv",
            "x.txt",
        ];
        fs::create_dir_all(root.join("sub/out/2026")).unwrap();
        for name in
            logs.iter().chain(&[".hidden", "_rejects", "sub/out/2026/object", "rejects-17.reasons.txt"])
        {
            fs::write(root.join(name), name).unwrap();
        }
        fs::hard_link(root.join("a.log"), root.join("b.log")).unwrap();
        symlink(root.join("a.log.1"), root.join("c.log")).unwrap();
        symlink(root.join("gone"), root.join("dangling")).unwrap();
        symlink(root, root.join("sub/loop")).unwrap();
        symlink("../..", root.join("sub/up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let found =
            Listing::find(&[root.to_owned(), root.join("a.log")], Some(&root.join("sub/out"))).unwrap();
        assert_eq!(names(&found, root), logs);
        let unread: Vec<_> = found.unread.iter().map(|unread| unread.to_string()).collect();
        let expected = [
            "/.hidden: its name is hidden",
            "/_rejects: its name begins with _",
            "/b.log: the same file as ",
            "/c.log: the same file as ",
            "/dangling: a link to a file that does not exist",
            "/pipe: a pipe",
            "/rejects-17.reasons.txt: lines that logship put rejected",
            "/sub/loop: a link to ",
            "/sub/out: the output directory",
            "/sub/up: a link to ",
            "/a.log: the same file as ",
        ];
        assert_eq!(unread.len(), expected.len(), "{unread:#?}");
        for (unread, expected) in unread.iter().zip(expected) {
            assert!(unread.contains(expected), "{unread} should contain {expected}");
        }
    }

    #[test]
    fn fails_for_named_paths_without_logs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = |path: &Path, output: Option<&Path>| {
            Listing::find(&[path.to_owned()], output).unwrap_err().to_string()
        };
        let missing = error(&root.join("gone.ndjson"), None);
        assert!(missing.contains("gone.ndjson") && missing.contains("No such file"), "{missing}");
        assert!(error(root, None).ends_with("this directory has no files with logs"));
        fs::write(root.join(".hidden"), "").unwrap();
        assert!(error(root, None).contains("passed over: "), "{}", error(root, None));
        assert!(error(root, Some(root)).contains("also the output directory"));
    }

    #[test]
    fn reads_file_under_its_new_name_after_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.log"), "old").unwrap();
        let found = Listing::find(&[folder.path().to_owned()], None).unwrap();
        fs::rename(path("a.log"), path("a.log.1")).unwrap();
        let read = || std::io::read_to_string(found.inputs[0].open().unwrap()).unwrap();
        assert_eq!(read(), "old");
        fs::write(path("a.log"), "new").unwrap();
        assert_eq!(read(), "old", "the next run reads the new file");
        fs::remove_file(path("a.log.1")).unwrap();
        assert!(found.inputs[0].open().unwrap_err().to_string().contains("another file took its place"));
        fs::remove_file(path("a.log")).unwrap();
        assert!(found.inputs[0].open().unwrap_err().to_string().contains("vanished"));
    }
}

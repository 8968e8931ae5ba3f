//! Lines that are no logs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::ndjson::Reject;

/// Keeps the lines that are no logs: as they are in one file, to be mended and shipped again, and
/// where each is from and what is wrong with it in another beside it.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    files: Option<(BufWriter<File>, BufWriter<File>)>,
    count: u64,
    first: Vec<String>,
}

/// How many are told of in words.
const TOLD: usize = 10;

/// Rejected lines can't be kept; shipping stops, for they would be lost.
#[derive(Debug, thiserror::Error)]
#[error("can't keep rejected lines in {}: {source}", path.display())]
pub struct RejectError {
    path: PathBuf,
    source: io::Error,
}

impl Rejects {
    /// Rejects kept at `path`, a file that is made with the first of them.
    pub fn new(path: PathBuf) -> Self {
        Self { path, files: None, count: 0, first: vec![] }
    }

    /// Where the lines are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the reasons are.
    pub fn reasons_path(&self) -> PathBuf {
        self.path.with_extension("reasons.txt")
    }

    /// How many lines were rejected.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first ten, as `file:line: reason`.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// Keeps a line, the `line`th of `file`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&mut self, file: &Path, line: u64, reject: &Reject) -> Result<(), RejectError> {
        let told = format!("{}:{line}: {}", file.display(), reject.reason);
        self.write(&reject.text, &told).map_err(|source| RejectError { path: self.path.clone(), source })?;
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(told);
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8], told: &str) -> io::Result<()> {
        if self.files.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let create = |path: &Path| File::create_new(path).map(BufWriter::new);
            self.files = Some((create(&self.path)?, create(&self.reasons_path())?));
        }
        let Some((lines, reasons)) = &mut self.files else { return Ok(()) };
        lines.write_all(text)?;
        lines.write_all(b"\n")?;
        writeln!(reasons, "{told}")
    }

    /// Refuses a place that is taken, before there is anything to keep.
    ///
    /// # Errors
    /// When there is such a file.
    pub fn check(&self) -> Result<(), RejectError> {
        let taken = [self.path.clone(), self.reasons_path()].into_iter().find(|path| path.exists());
        taken.map_or(Ok(()), |path| Err(RejectError { path, source: io::ErrorKind::AlreadyExists.into() }))
    }

    /// Hands what was kept to the system, so that the end of the process does not lose it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn flush(&mut self) -> Result<(), RejectError> {
        let Some((lines, reasons)) = &mut self.files else { return Ok(()) };
        lines
            .flush()
            .and_then(|()| reasons.flush())
            .map_err(|source| RejectError { path: self.path.clone(), source })
    }

    /// Brings what was kept to the disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(&mut self) -> Result<(), RejectError> {
        let Some((lines, reasons)) = self.files.take() else { return Ok(()) };
        let settle =
            |file: BufWriter<File>| file.into_inner().map_err(|error| error.into_error())?.sync_all();
        settle(lines)
            .and_then(|()| settle(reasons))
            .map_err(|source| RejectError { path: self.path.clone(), source })
    }
}

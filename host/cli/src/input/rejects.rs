//! Keeps malformed lines.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::iter;
use std::path::{Path, PathBuf};

use indicatif::HumanCount;
use logship_batch::parser::{Looks, Reject};

/// Writes malformed lines to two files. One has the lines unchanged, to be fixed and shipped again. The
/// other has the origin of each line and the reason.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    files: Option<(BufWriter<File>, BufWriter<File>)>,
    count: u64,
    first: Vec<String>,
    /// The first lines, which show what the input looks like.
    sample: Vec<u8>,
}

/// The largest number of reasons that [`Rejects::describe`] shows.
const MAX_SHOWN: usize = 10;

/// The bytes of a line that are kept as a sample.
const SAMPLE_BYTES: usize = 1000;

/// Rejected lines can't be written. Shipping stops, because they would be lost.
#[derive(Debug, thiserror::Error)]
#[error("can't write rejected lines to {}: {source}", path.display())]
pub struct RejectError {
    path: PathBuf,
    source: io::Error,
}

impl Rejects {
    /// Creates a writer to `path`. The first rejected line creates the file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, files: None, count: 0, first: vec![], sample: vec![] }
    }

    /// Returns the path of the lines.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the reasons.
    pub fn reasons_path(&self) -> PathBuf {
        self.path.with_extension("reasons.txt")
    }

    /// Returns the number of rejected lines.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns what the lines look like.
    pub fn looks(&self) -> Option<Looks> {
        Looks::of(&self.sample)
    }

    /// Describes the lines for the user, if there are some: a summary, the first reasons, and the option that reads them.
    pub fn describe(&self, with_option: bool) -> Vec<String> {
        let lines = if self.count == 1 {
            "1 malformed line".into()
        } else {
            format!("{} malformed lines", HumanCount(self.count))
        };
        let (kept, reasons) = (self.path.display(), self.reasons_path());
        let summary = format!(
            "warning: skipped {lines}. They are kept in {kept}, with the reasons in {}:",
            reasons.display()
        );
        let hint = self.looks().filter(|looks| with_option && matches!(looks, Looks::Text | Looks::Csv));
        let details = self.first.iter().cloned().chain(hint.map(|hint| hint.to_string()));
        let all = iter::once(summary).chain(details.map(|line| format!("  {line}")));
        all.take(if self.count > 0 { usize::MAX } else { 0 }).collect()
    }

    /// Writes a rejected line, number `line` of `file`.
    ///
    /// # Errors
    /// Fails if the files can't be written.
    pub fn add(&mut self, file: &Path, line: u64, reject: &Reject) -> Result<(), RejectError> {
        let message = format!("{}:{line}: {}", file.display(), reject.reason);
        self.write(&reject.text, &message)
            .map_err(|source| RejectError { path: self.path.clone(), source })?;
        self.count += 1;
        if self.first.len() < MAX_SHOWN {
            self.first.push(message);
            self.sample.extend_from_slice(&reject.text[..reject.text.len().min(SAMPLE_BYTES)]);
            self.sample.push(b'\n');
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8], message: &str) -> io::Result<()> {
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
        writeln!(reasons, "{message}")
    }

    /// Checks that neither file exists yet.
    ///
    /// # Errors
    /// Fails if one of them exists.
    pub fn check(&self) -> Result<(), RejectError> {
        let existing = [self.path.clone(), self.reasons_path()].into_iter().find(|path| path.exists());
        existing.map_or(Ok(()), |path| Err(RejectError { path, source: io::ErrorKind::AlreadyExists.into() }))
    }

    /// Flushes the files to the system, so that they survive the end of the process.
    ///
    /// # Errors
    /// Fails if the files can't be written.
    pub fn flush(&mut self) -> Result<(), RejectError> {
        let Some((lines, reasons)) = &mut self.files else { return Ok(()) };
        lines
            .flush()
            .and_then(|()| reasons.flush())
            .map_err(|source| RejectError { path: self.path.clone(), source })
    }

    /// Syncs the files to disk and closes them.
    ///
    /// # Errors
    /// Fails if the files can't be written.
    pub fn finish(&mut self) -> Result<(), RejectError> {
        let Some((lines, reasons)) = self.files.take() else { return Ok(()) };
        let sync = |file: BufWriter<File>| file.into_inner().map_err(|error| error.into_error())?.sync_all();
        sync(lines)
            .and_then(|()| sync(reasons))
            .map_err(|source| RejectError { path: self.path.clone(), source })
    }
}

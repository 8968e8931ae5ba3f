//! Copies of input files: log rotation keeps a file and its compressed or renamed copy for a while.
//!
//! Gzip deletes `app.log.1` only after `app.log.1.gz` is complete, and logrotate's copytruncate empties `app.log` only after
//! `app.log.1` is. A run that reads both would ship the logs twice. So a file whose name is that of a copy is compared with
//! what was read of its original. Names only select the files to compare; the contents decide.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::file::Input;
use super::fingerprint::{Comparison, Fingerprint};
use super::stream::Stream;
use super::unread::Unread;

/// The suffixes of compressed copies.
const COMPRESSED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// The smallest renamed copy, in bytes: short files can be equal by chance.
const MIN_RENAMED: u64 = 1024;

/// The originals among the inputs, and their contents so far.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The originals of each file that may be a copy, in the order in which they are read, before the file.
    originals: HashMap<PathBuf, Vec<PathBuf>>,
    /// The contents of originals that were read; none of those to read.
    contents: HashMap<PathBuf, Option<Fingerprint>>,
}

impl Copies {
    pub(super) fn among(inputs: &[Input]) -> Self {
        let files = inputs.iter().filter(|input| input.file.is_some());
        let order: HashMap<&Path, usize> = files.map(|input| input.path.as_path()).zip(0..).collect();
        let mut compressed: HashMap<PathBuf, Vec<&Path>> = HashMap::new();
        let mut pairs: Vec<(&Path, &Path)> = vec![];
        for &path in order.keys() {
            let uncompressed = without_compression(path);
            let other = uncompressed.clone().or_else(|| without_rotation(path));
            pairs.extend(other.and_then(|other| Some((path, *order.get_key_value(other.as_path())?.0))));
            if let Some(uncompressed) = uncompressed {
                compressed.entry(uncompressed).or_default().push(path);
            }
        }
        for (uncompressed, paths) in &compressed {
            if !order.contains_key(uncompressed.as_path()) {
                let first = paths.iter().min_by_key(|path| order[*path]);
                pairs.extend(
                    first.into_iter().flat_map(|&first| paths.iter().map(move |&path| (path, first))),
                );
            }
        }
        let mut copies = Self::default();
        pairs.retain(|(one, other)| one != other);
        // The first one to read is the original.
        for (one, other) in &mut pairs {
            if order[*other] < order[*one] {
                std::mem::swap(one, other);
            }
        }
        pairs.sort_by_key(|(original, _)| order[*original]);
        for (original, copy) in pairs {
            copies.contents.insert(original.to_owned(), None);
            copies.originals.entry(copy.to_owned()).or_default().push(original.to_owned());
        }
        copies
    }

    /// Returns a new fingerprint if a file may have copies behind it.
    pub(super) fn fingerprint(&self, path: &Path) -> Option<Fingerprint> {
        self.contents.contains_key(path).then(Fingerprint::default)
    }

    /// Remembers the content of an original.
    pub(super) fn remember(&mut self, path: &Path, mut content: Fingerprint) {
        content.finish();
        self.contents.insert(path.to_owned(), Some(content));
    }

    /// Returns the record of a file that is a copy of one that was read.
    pub(super) fn find(&mut self, input: &Input, stop: &dyn Fn() -> bool) -> Option<Unread> {
        let path = &input.path;
        let (content, reason) = self.originals.get(path)?.iter().find_map(|original| {
            let content = self.contents.get(original)?.as_ref()?;
            Some((content.clone(), reason(input, original, content, stop)?))
        })?;
        if let Some(known) = self.contents.get_mut(path) {
            *known = Some(content);
        }
        Some(Unread::intended(path, reason))
    }
}

/// Returns the reason to pass over a file that is a copy of an original, if it is one.
fn reason(input: &Input, original: &Path, content: &Fingerprint, stop: &dyn Fn() -> bool) -> Option<String> {
    let path = &input.path;
    let is_renamed = [path.as_path(), original].iter().all(|path| without_compression(path).is_none());
    let name = original.display();
    match compare(input, content, stop)? {
        Comparison::Equal if !is_renamed || content.bytes() >= MIN_RENAMED => {
            Some(format!("a copy of {name}: both have the same content"))
        }
        Comparison::Beginning => Some(format!("a copy of the beginning of {name}, which has its logs")),
        Comparison::Equal | Comparison::Longer => {
            let (file, original) = (path.display(), name);
            tracing::warn!(%file, %original, "two files begin alike, so some logs may be read twice");
            None
        }
        Comparison::Different => None,
    }
}

/// Compares a file with the content of another one. Returns `None` if `stop` returned true, or the file can't be read.
fn compare(input: &Input, content: &Fingerprint, stop: &dyn Fn() -> bool) -> Option<Comparison> {
    let mut stream = Stream::open(input, stop).ok()??;
    let (mut own, mut buffer) = (Fingerprint::default(), vec![]);
    // A copy that is being written is cut short.
    while !stop() && stream.read_some(&mut buffer).is_ok_and(|has_more| has_more) {
        own.add(&buffer);
        buffer.clear();
        if !content.has_prefix(&own) {
            return Some(Comparison::Different);
        }
    }
    own.finish();
    (!stop()).then(|| content.compare(&own))
}

/// Returns the name without the suffix of a compression.
fn without_compression(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let ends = |suffix: &&str| {
        let begin = name.len().checked_sub(suffix.len()).filter(|&begin| begin > 0)?;
        name[begin..].eq_ignore_ascii_case(suffix.as_bytes()).then_some(begin)
    };
    let begin = COMPRESSED.iter().find_map(ends)?;
    Some(path.with_file_name(OsStr::from_bytes(&name[..begin])))
}

/// Returns the name without the `.1`, `-20260101` or the like of the last rotation.
fn without_rotation(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let at = name.iter().rposition(|byte| !byte.is_ascii_digit()).filter(|&at| at > 0)?;
    let digits = &name[at + 1..];
    let is_last = matches!(name[at], b'.' | b'-' | b'_') && (digits == b"1" || digits.len() >= 8);
    is_last.then(|| path.with_file_name(OsStr::from_bytes(&name[..at])))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use logship_batch::parser::Expected;

    use super::*;
    use crate::input::{Blocks, Listing, RecordOptions};

    #[test]
    fn names_select_the_files_to_compare() {
        let metadata = tempfile::tempfile().unwrap().metadata().unwrap();
        let names = [
            "a.log",
            "a.log.1",
            "a.log.1.gz",
            "a.log.2.gz",
            "a.log-20260101",
            "b.GZ",
            "b.zst",
            "c.1",
            "1.gz",
        ];
        let inputs: Vec<_> =
            names.iter().map(|name| Input::new(Path::new("d").join(name), &metadata)).collect();
        let copies = Copies::among(&inputs);
        let mut found: Vec<_> = copies
            .originals
            .iter()
            .flat_map(|(copy, originals)| originals.iter().map(move |original| (copy, original)))
            .map(|(copy, original)| format!("{} {}", copy.display(), original.display()))
            .collect();
        found.sort();
        let expected =
            ["d/a.log-20260101 d/a.log", "d/a.log.1 d/a.log", "d/a.log.1.gz d/a.log.1", "d/b.zst d/b.GZ"];
        assert_eq!(found, expected);
        let reversed: Vec<_> = inputs[2..4].iter().chain(&inputs[1..2]).cloned().collect();
        let copies_first = Copies::among(&reversed).originals;
        assert_eq!(copies_first[Path::new("d/a.log.1")], [Path::new("d/a.log.1.gz")]);
        let between: Vec<_> = [2, 0, 1].map(|index| inputs[index].clone()).to_vec();
        let both = [Path::new("d/a.log.1.gz"), Path::new("d/a.log")];
        assert_eq!(Copies::among(&between).originals[Path::new("d/a.log.1")], both);
        assert!(copies.fingerprint(Path::new("d/a.log")).is_some());
        assert!(copies.fingerprint(Path::new("d/a.log.2.gz")).is_none());
    }

    fn gzipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Returns the number of bytes read, and what was passed over, of files in a folder.
    fn read(files: &[(&str, Vec<u8>)]) -> (u64, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, content)| std::fs::write(folder.path().join(name), content).unwrap());
        let inputs = Listing::find(&[folder.path().to_owned()], None).unwrap().inputs;
        let (expected, text_field) = (Expected::Json, "message".into());
        let mut blocks = Blocks::new(inputs, RecordOptions { expected, text_field, max_record: 1 << 20 });
        let (mut bytes, mut unread) = (0, vec![]);
        while let Some(block) = blocks.next_block(&|| false) {
            bytes += block.bytes();
            unread.extend(block.to_unread().map(|unread| {
                format!("{} {}", unread.is_intended, unread).replace(&folder.path().display().to_string(), "")
            }));
        }
        (bytes, unread)
    }

    #[test]
    fn copy_is_read_once_and_told() {
        let lines = |range: std::ops::Range<u32>| -> Vec<u8> {
            range.flat_map(|number| format!("{{\"number\":{number}}}\n").into_bytes()).collect()
        };
        let (text, other) = (lines(0..1000), lines(1000..2000));
        let size = text.len() as u64;
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let short = lines(0..1);
        // The compressed file is complete, and its original not deleted yet.
        let copies =
            [("a.log.1", text.clone()), ("a.log.1.gz", gzipped(&text)), ("a.log.1.zst", zstd.clone())];
        let same = |name: &str| format!("true /{name}: a copy of /a.log.1: both have the same content");
        assert_eq!(read(&copies), (size, vec![same("a.log.1.gz"), same("a.log.1.zst")]));
        assert_eq!(read(&copies[1..]).0, size, "without the original");
        assert_eq!(read(&[("s", short.clone()), ("s.gz", gzipped(&short))]).0, short.len() as u64);
        // The compressed file is being written.
        let noise: Vec<u8> = (0..1_000_000_u32)
            .flat_map(|n| format!("{{\"n\":{}}}\n", n.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        let half = gzipped(&noise)[..2_000_000].to_vec();
        let (bytes, unread) = read(&[("a", noise.clone()), ("a.gz", half)]);
        assert_eq!(bytes, noise.len() as u64);
        assert_eq!(unread, ["true /a.gz: a copy of the beginning of /a, which has its logs"]);
        // copytruncate has copied the file, and the program goes on writing.
        let grown = [&text[..], &other].concat();
        let (bytes, unread) =
            read(&[("a.log", grown.clone()), ("a.log.1", text.clone()), ("a.log-20260101", text.clone())]);
        assert_eq!((bytes, unread.len()), (grown.len() as u64, 2), "{unread:?}");
        // Names like those of copies, with other logs.
        for files in [
            [("a.log", text.clone()), ("a.log.1", other.clone())],
            [("a.log", text.clone()), ("a.log.gz", gzipped(&other))],
            [("a.log", short.clone()), ("a.log.1", short.clone())],
            [("a.log", text.clone()), ("b.log", text.clone())],
        ] {
            let (bytes, unread) = read(&files);
            assert!(bytes >= 2 * short.len() as u64 && unread.is_empty(), "{unread:?}");
            assert_ne!(bytes, size, "both are read");
        }
    }
}

//! Runs the golden cases, `tests/cases/*.case`, through the program.
//!
//! A case is one file, and its name is a short assertion:
//!
//! ```text
//! # Rejects a key that leads out of the bucket.
//! === rule.toml
//! [path]
//! key = "../../etc/passwd"
//! $ logship ship logs.ndjson --to out --rule rule.toml --renderer $EXAMPLES/constant-path.wasm
//! status 1
//! --- stderr
//! error: …
//! ```
//!
//! - The first line is a comment: one sentence about the behavior.
//! - Input files of this case follow, each after `=== NAME`. `stdin` is the standard input of all commands.
//! - The expected part begins with the first `$ logship` line: each command with its exit status, standard
//!   output and standard error. The files that the commands wrote follow, each after `=== PATH`.
//!
//! A command that names a file of `tests/cases/inputs/` gets a copy of it, unless the case has its own.
//! `$COMPONENTS` and `$EXAMPLES` are the folders of built stages. Ids, durations, digests and sizes of
//! components are replaced. `BLESS=1` rewrites the expected part: review the difference.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use sha2::{Digest as _, Sha256};

/// The beginning of a line with a command.
const PROMPT: &str = "$ logship ";

/// The beginning of a line with the name of a file.
const FILE: &str = "=== ";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

fn main() {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("inputs"));
    files.sort();
    let trial = |file: PathBuf| {
        assert!(file.extension().is_some_and(|suffix| suffix == "case"), "{} is not a case", file.display());
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Trial::test(name, move || check(&file))
    };
    libtest_mimic::run(&Arguments::from_args(), files.into_iter().map(trial).collect()).exit();
}

fn check(file: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(file)?;
    let case = Case::parse(&text).map_err(|reason| format!("{}: {reason}", file.display()))?;
    let actual = case.run();
    if !commands(&actual).eq(case.commands()) {
        return Err(format!("a line of the output begins with {PROMPT:?}:\n{actual}").into());
    }
    if env::var_os("BLESS").is_some() {
        fs::write(file, format!("{}{actual}", case.head))?;
        return Ok(());
    }
    if actual == case.expected {
        return Ok(());
    }
    let expected = case.expected;
    Err(format!(
        "{} differs (BLESS=1 rewrites it)\n--- expected\n{expected}\n--- actual\n{actual}",
        file.display()
    )
    .into())
}

/// The commands of a case's expected part, without `logship`.
fn commands(expected: &str) -> impl Iterator<Item = &str> {
    expected.lines().filter_map(|line| line.strip_prefix(PROMPT))
}

/// A case file.
struct Case<'a> {
    /// The comment and the input files.
    head: &'a str,
    inputs: BTreeMap<&'a str, &'a str>,
    expected: &'a str,
}

impl<'a> Case<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let end =
            text.find(&format!("\n{PROMPT}")).ok_or_else(|| format!("no line begins with {PROMPT:?}"))?;
        let (head, expected) = text.split_at(end + 1);
        let (comment, mut rest) = head.split_once('\n').unwrap_or_default();
        if !comment.starts_with("# ") {
            return Err("the first line is not a comment, `# …`".into());
        }
        let mut inputs = BTreeMap::new();
        while !rest.is_empty() {
            let (name, content) = rest
                .strip_prefix(FILE)
                .and_then(|rest| rest.split_once('\n'))
                .ok_or_else(|| format!("an input file begins with `{FILE}NAME`, not with {rest:?}"))?;
            // The content ends before the next file's name.
            let end = if content.starts_with(FILE) {
                0
            } else {
                content.find(&format!("\n{FILE}")).map_or(content.len(), |end| end + 1)
            };
            inputs.insert(name, &content[..end]);
            rest = &content[end..];
        }
        Ok(Self { head, inputs, expected })
    }

    fn commands(&self) -> impl Iterator<Item = &'a str> {
        commands(self.expected)
    }

    /// The content of each input file: the case's own files, and the shared files that commands name.
    fn all_inputs(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let own = self.inputs.iter().map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec()));
        let mut inputs: BTreeMap<_, _> = own.collect();
        for shared in support::files(&folder().join("inputs")) {
            let name = PathBuf::from(shared.file_name().unwrap());
            let is_named = |arg: &str| Path::new(arg.trim_start_matches("./")) == name;
            if self.commands().any(|line| line.split_whitespace().any(is_named)) {
                inputs.entry(name).or_insert_with(|| fs::read(&shared).unwrap());
            }
        }
        inputs
    }

    /// Runs the commands in a temporary directory. Returns the actual form of the expected part.
    fn run(&self) -> String {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let inputs = self.all_inputs();
        for (name, content) in &inputs {
            fs::write(directory.join(name), content).unwrap();
        }
        let folder_of = |path: PathBuf| path.parent().unwrap().display().to_string();
        let components = folder_of(support::component("encode-json"));
        let examples = folder_of(support::example("misbehaving-stage"));
        let mut report = String::new();
        for line in self.commands() {
            let args = line.replace("$COMPONENTS", &components).replace("$EXAMPLES", &examples);
            let stdin = fs::File::open(directory.join("stdin")).map_or(Stdio::null(), Stdio::from);
            let output = support::logship()
                .args(args.split_whitespace())
                .current_dir(directory)
                .stdin(stdin)
                .output()
                .unwrap();
            report += &format!("{PROMPT}{line}\nstatus {}\n", output.status.code().unwrap_or(-1));
            for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
                if !bytes.is_empty() {
                    report += &format!("--- {name}\n{}", normalize(&String::from_utf8(bytes).unwrap()));
                }
            }
        }
        for path in support::files(directory) {
            let name = path.strip_prefix(directory).unwrap();
            let bytes = fs::read(&path).unwrap();
            if inputs.get(name) != Some(&bytes) {
                let is_component = path.extension().is_some_and(|suffix| suffix == "wasm");
                let content = if is_component { "(a component)\n".into() } else { describe(bytes) };
                report += &format!("{FILE}{}\n{content}", normalize(&name.display().to_string()));
            }
        }
        let directory = directory.display().to_string();
        report.replace(&components, "$COMPONENTS").replace(&examples, "$EXAMPLES").replace(&directory, ".")
    }
}

/// Returns the text of a written file, or the size and digest of a binary one.
fn describe(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => normalize(&text.replace('\r', "␍")),
        Err(error) => {
            let bytes = error.as_bytes();
            format!("({} bytes, sha256 {})\n", bytes.len(), hex::encode(Sha256::digest(bytes)))
        }
    }
}

/// Replaces the parts that depend on the run or the compiler: ids, seconds, digests, sizes of components.
fn normalize(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let fraction = rest[digits..]
            .strip_prefix('.')
            .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
        let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits == 19 {
            let number = rest[19..]
                .strip_prefix('_')
                .map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
            out.push_str("ID");
            rest = &rest[19 + number..];
        } else if digits > 0
            && fraction == 2
            && !out.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
        {
            out.push_str("N.NN");
            rest = &rest[digits + 3..];
        } else if hex == 64 || (out.ends_with("sha256:") && hex == 12) {
            out.push_str("DIGEST");
            rest = &rest[hex..];
        } else if digits > 0 && (rest[digits..].starts_with(" KiB") || out.ends_with("\"bytes\": ")) {
            out.push('N');
            rest = &rest[digits..];
        } else if digits > 0 {
            out.push_str(&rest[..digits]);
            rest = &rest[digits..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

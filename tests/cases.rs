//! Runs each folder of `tests/cases/` through the program.
//!
//! A folder's name says what is shown. In it, `cmd` has the arguments, a line a run, `$COMPONENTS` and
//! `$EXAMPLES` standing for the folders of built stages; `expected` has status, output, and the files that
//! were written, with ids and times replaced. `BLESS=1` writes `expected` anew: look at the difference.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let trial = |case: &std::path::PathBuf| {
        let case = case.clone();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        Trial::test(name, move || check(&case))
    };
    libtest_mimic::run(&Arguments::from_args(), cases.iter().map(trial).collect()).exit();
}

fn check(case: &Path) -> Result<(), Failed> {
    let actual = run(case);
    let file = case.join("expected");
    if env::var_os("BLESS").is_some() {
        fs::write(&file, &actual)?;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    if actual == expected {
        return Ok(());
    }
    Err(format!(
        "{} differs (BLESS=1 writes it anew)\n--- expected\n{expected}\n--- actual\n{actual}",
        file.display()
    )
    .into())
}

/// Runs the case in a copy of its folder, and tells all that came of it.
fn run(case: &Path) -> String {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    for file in fs::read_dir(case).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), place.join(file.file_name())).unwrap();
    }
    let folder_of = |path: std::path::PathBuf| path.parent().unwrap().display().to_string();
    let components = folder_of(support::component("encode-json"));
    let examples = folder_of(support::example("misbehaving-stage"));
    let mut told = String::new();
    for line in fs::read_to_string(case.join("cmd")).unwrap().lines() {
        let args = line.replace("$COMPONENTS", &components).replace("$EXAMPLES", &examples);
        let stdin = fs::File::open(place.join("stdin")).map_or(Stdio::null(), Stdio::from);
        let output = support::logship()
            .args(args.split_whitespace())
            .current_dir(place)
            .stdin(stdin)
            .output()
            .unwrap();
        told += &format!("$ logship {line}\nstatus {}\n", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            if !bytes.is_empty() {
                told += &format!("--- {name}\n{}", normal(&String::from_utf8(bytes).unwrap()));
            }
        }
    }
    for path in support::files(place) {
        let below = path.strip_prefix(place).unwrap();
        if !case.join(below).exists() {
            told += &format!("=== {}\n{}", normal(&below.display().to_string()), content(&path));
        }
    }
    let place = place.display().to_string();
    told.replace(&components, "$COMPONENTS").replace(&examples, "$EXAMPLES").replace(&place, ".")
}

fn content(path: &Path) -> String {
    if path.extension().is_some_and(|suffix| suffix == "wasm") {
        // How large it is, the compiler decides.
        return "(a component)\n".into();
    }
    let bytes = fs::read(path).unwrap();
    match String::from_utf8(bytes) {
        Ok(text) => normal(&text.replace('\r', "␍")),
        Err(error) => format!("({} bytes that are no text)\n", error.as_bytes().len()),
    }
}

/// What differs from run to run or from compiler to compiler, replaced: ids, seconds, digests, sizes
/// of components.
fn normal(text: &str) -> String {
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

//! Helpers for all tests of the program.
#![allow(dead_code, reason = "no test uses all helpers")]

pub(crate) mod service;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// Returns the target directory of this build.
fn target() -> PathBuf {
    // TARGET/release/deps/TEST-HASH
    let test = env::current_exe().expect("the test is a file");
    test.ancestors().nth(3).expect("the test is in the target directory").to_owned()
}

/// Returns the path of the component of a built-in stage.
pub(crate) fn component(name: &str) -> PathBuf {
    built(target().join("components"), name)
}

/// Returns the path of the component of an example or a test stage.
pub(crate) fn example(name: &str) -> PathBuf {
    built(target().join("components-examples"), name)
}

fn built(folder: PathBuf, name: &str) -> PathBuf {
    let path = folder.join(name).with_extension("wasm");
    assert!(path.exists(), "{} is missing: run `cargo xtask build --examples`", path.display());
    path
}

/// Returns the paths of all built-in components.
pub(crate) fn components() -> Vec<PathBuf> {
    let folder = target().join("components");
    let mut found: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 7, "{} lacks stages: run `cargo xtask build`", folder.display());
    found
}

/// Returns the cache directory of tests, for compiled stages.
pub(crate) fn cache() -> PathBuf {
    target().join("tests/cache")
}

/// Returns a command of the program that uses the cache of tests.
pub(crate) fn logship() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logship"));
    command.env("LOGSHIP_CACHE", cache());
    command
}

/// Returns the objects below `folder`, sorted by path. Names that begin with `.` or `_` are skipped.
pub(crate) fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| {
        let below = path.strip_prefix(folder).unwrap();
        !below.iter().any(|level| level.to_string_lossy().starts_with(['_', '.']))
    });
    found
}

/// Returns all files below `folder`, sorted by path.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Returns an encoder component whose functions trap. `change` edits its WIT.
pub(crate) fn dummy(change: impl Fn(String) -> String) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let read = |path: &str| change(fs::read_to_string(wit.join(path)).unwrap());
    resolve.push_str("batch.wit", &read("deps/batch/batch.wit")).unwrap();
    resolve.push_str("encode.wit", &read("deps/encode/encode.wit")).unwrap();
    let package = resolve.push_str("world.wit", &change(WORLD.to_owned())).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// The world of [`dummy`], before its change.
pub(crate) const WORLD: &str = "package test:dummy; world encoder { export logship:encode/encoder@1.0.0; }";

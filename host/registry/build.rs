//! Embeds the components that `cargo xtask build` wrote to the target directory: the stages (`components/*.wasm`) and the
//! fuse adapters (`fuse-adapters/*.wasm`). Also embeds the digests of the functions (`functions/*.wasm`), which are
//! trusted like built-in stages.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest as _, Sha256};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let write = |name: &str, content: &str| {
        fs::write(out.join(name), content).expect("OUT_DIR can be written to");
        out.join(name)
    };
    let stages = components(&out);
    println!("cargo::rerun-if-env-changed=LOGSHIP_COMPONENTS");
    let entries: String = wasm_files(&stages).iter().map(|path| embedded(path, &out)).collect();
    write("builtin.rs", &format!("&[\n{entries}]\n"));
    let functions = wasm_files(&stages.with_file_name("functions"));
    let digests: String = functions.iter().map(|path| digest(path)).collect();
    write("functions.rs", &format!("[\n{digests}] as [&str; {}]\n", functions.len()));
    let fuse_adapters: String =
        wasm_files(&stages.with_file_name("fuse-adapters")).iter().map(|path| embedded(path, &out)).collect();
    write("fuse_adapters.rs", &format!("&[\n{fuse_adapters}]\n"));
}

/// The folder of the stages, in the target directory of this build.
fn components(out: &Path) -> PathBuf {
    if let Some(folder) = env::var_os("LOGSHIP_COMPONENTS") {
        return folder.into();
    }
    // TARGET/release/build/logship-HASH/out
    out.ancestors().nth(4).expect("OUT_DIR is in the target directory").join("components")
}

/// The components in a folder, sorted.
fn wasm_files(folder: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    if files.is_empty() {
        println!("cargo::warning=no components in {}: run `cargo xtask build`", folder.display());
    }
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    files
}

/// The level of compression. The highest usual one: it takes seconds, once.
const LEVEL: i32 = 19;

/// An entry of the tables in `src/embedded.rs`.
fn embedded(path: &Path, out: &Path) -> String {
    let name = path.file_stem().expect("a file has a name").to_string_lossy();
    let bytes = read(path);
    let compressed = zstd::bulk::compress(&bytes, LEVEL).expect("a component can be compressed");
    let file = out.join(format!("{name}.wasm.zst"));
    fs::write(&file, compressed).expect("OUT_DIR can be written to");
    let (digest, size, file) = (hex::encode(Sha256::digest(&bytes)), bytes.len(), file.display().to_string());
    format!(
        "Embedded {{ name: {name:?}, digest: {digest:?}, size: {size}, compressed: include_bytes!({file:?}) }},\n"
    )
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn digest(path: &Path) -> String {
    format!(
        "{:?},
",
        hex::encode(Sha256::digest(read(path)))
    )
}

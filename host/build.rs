//! Embeds the built components: `target/components/*.wasm`, and `target/joints/joint.wasm` that joins some of them, put
//! there by `cargo xtask build`.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let folder = components();
    println!("cargo::rerun-if-env-changed=LOGSHIP_COMPONENTS");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    if files.is_empty() {
        println!("cargo::warning=no stages in {}: run `cargo xtask build`", folder.display());
    }
    let entries: String = files.iter().map(|path| entry(path)).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("builtin.rs");
    fs::write(out, format!("&[\n{entries}]\n")).expect("OUT_DIR can be written to");
    let joint = folder.with_file_name("joints").join("joint.wasm");
    println!("cargo::rustc-env=LOGSHIP_JOINT={}", joint.display());
    println!("cargo::rerun-if-changed={}", joint.display());
}

/// The folder with the components, in the target directory that this build is for.
fn components() -> PathBuf {
    if let Some(folder) = env::var_os("LOGSHIP_COMPONENTS") {
        return folder.into();
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // TARGET/release/build/logship-HASH/out
    out.ancestors().nth(4).expect("OUT_DIR is in the target directory").join("components")
}

fn entry(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    let name = path.file_stem().expect("a file has a name").to_string_lossy();
    format!("({name:?}, include_bytes!({:?}) as &[u8]),\n", path.display().to_string())
}

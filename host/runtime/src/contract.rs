//! The WIT contract of stages in `wit/`.

use wit_parser::{PackageId, Resolve};

macro_rules! wit {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../wit/", $path)))),*]
    };
}

/// The contract's files: their paths in `wit/` and their text, in order of dependency.
pub const FILES: [(&str, &str); 10] = wit![
    "deps/batch/batch.wit",
    "deps/compress/compress.wit",
    "deps/encode/encode.wit",
    "deps/losses/losses.wit",
    "deps/object-path/object-path.wit",
    "deps/pipeline/pipeline.wit",
    "deps/rows/rows.wit",
    "deps/siem/siem.wit",
    "deps/transform/transform.wit",
    "stages.wit",
];

/// Parses the contract. Returns it with the package that has the worlds of stages.
pub fn resolve() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let packages = FILES.map(|(path, text)| resolve.push_str(path, text).expect("the contract is valid WIT"));
    (resolve, packages[FILES.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_world_for_each_kind() {
        let (resolve, package) = resolve();
        let worlds = ["transformer", "encoder", "compressor", "renderer", "formatter", "row-encoder"];
        for world in worlds.into_iter().chain(["reporting-encoder"]) {
            assert!(resolve.select_world(&[package], Some(world)).is_ok(), "{world}");
        }
    }
}

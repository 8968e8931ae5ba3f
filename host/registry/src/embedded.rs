//! Components inside the program. `build.rs` compresses them and computes their digests.

use std::collections::HashSet;
use std::sync::LazyLock;

/// A component inside the program.
#[derive(Debug)]
pub struct Embedded {
    /// Its name.
    pub name: &'static str,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: &'static str,
    /// Its size, in bytes.
    size: usize,
    /// Its bytes, as a zstd frame.
    compressed: &'static [u8],
}

impl Embedded {
    /// Decompresses the component.
    pub fn bytes(&self) -> Vec<u8> {
        zstd::bulk::decompress(self.compressed, self.size).expect("build.rs compressed it")
    }
}

/// The built-in stages.
pub static BUILT_IN: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The fuse adapters; empty if logship was built without them.
pub static FUSE_ADAPTERS: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/fuse_adapters.rs"));

/// The functions that come with logship, by digest. They are trusted like built-in stages.
pub static FUNCTIONS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include!(concat!(env!("OUT_DIR"), "/functions.rs")).iter().copied().collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_components_have_their_digests() {
        for embedded in BUILT_IN.iter().chain(FUSE_ADAPTERS) {
            assert_eq!(crate::digest(&embedded.bytes()), embedded.digest, "{}", embedded.name);
        }
    }
}

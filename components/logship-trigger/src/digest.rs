//! Digests by which receivers verify objects.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::problem::Problem;

/// The header that selects the digest of an object returned to the caller.
pub const DIGEST: &str = "x-logship-digest";

/// A kind of digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256: the permanent identity of an object.
    #[default]
    Sha256,
    /// XXH3 with 128 bits, for callers that compute the SHA-256 of the returned object themselves. It also detects
    /// corruption in transit, in a tenth of the time. A function has no SHA-256 instructions: SHA-256 took a third of a
    /// call with an uncompressed object.
    Xxh3,
}

impl Digest {
    /// Parses the header.
    ///
    /// # Errors
    /// If the header names an unknown digest.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("sha256") => Ok(Self::Sha256),
            Some("xxh3") => Ok(Self::Xxh3),
            Some(other) => Err(Problem::bad_call(format!("unknown {DIGEST} {other:?}: use sha256 or xxh3"))),
        }
    }

    /// Returns the digest of `bytes`, in hexadecimal.
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
            Self::Xxh3 => format!("{:032x}", xxh3_128(bytes)),
        }
    }

    /// Returns the response header for the digest.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Sha256 => "x-logship-sha256",
            Self::Xxh3 => "x-logship-xxh3",
        }
    }
}

//! What an object is checked by, where it comes to.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::problem::Problem;

/// The header in which a caller that gets the object says what it checks it by.
pub const DIGEST: &str = "x-logship-digest";

/// What an object is checked by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256: what names an object for ever.
    #[default]
    Sha256,
    /// XXH3 of 128 bits, for a caller that makes the SHA-256 itself of what it gets. It finds what was damaged on the way as
    /// well, and takes a tenth of the time: a function has no instructions for SHA-256, of which a third of a call with an
    /// object that is not compressed was.
    Xxh3,
}

impl Digest {
    /// Reads the header.
    ///
    /// # Errors
    /// When it names none.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("sha256") => Ok(Self::Sha256),
            Some("xxh3") => Ok(Self::Xxh3),
            Some(other) => Err(Problem::bad_call(format!("{DIGEST} is {other:?}: say sha256 or xxh3"))),
        }
    }

    /// The digest of bytes, in hexadecimal.
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
            Self::Xxh3 => format!("{:032x}", xxh3_128(bytes)),
        }
    }

    /// The header that tells it.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Sha256 => "x-logship-sha256",
            Self::Xxh3 => "x-logship-xxh3",
        }
    }
}

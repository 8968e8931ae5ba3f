//! The compressions of bodies: `x-log-compresstype`.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// A raw LZ4 block: neither size nor frame around it.
    Lz4,
    /// A zstd frame.
    Zstd,
    /// A zlib stream, of old clients.
    Deflate,
}

/// A compression that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no compression: a body is compressed by lz4, zstd or deflate, or the header is left out"
)]
pub struct UnknownCompression {
    /// What it was called, shortened.
    pub name: String,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The body says that it is larger than it may be. Nothing was decompressed.
    #[error(
        "the body says that it has {raw_size} bytes uncompressed, and {limit} are allowed. Send less at a time"
    )]
    TooLarge {
        /// Bytes that it should have.
        raw_size: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The body has another size than it says.
    #[error("the body has {actual} bytes uncompressed, and its size is said to be {declared}")]
    Size {
        /// Bytes that it should have.
        declared: usize,
        /// Bytes that it has.
        actual: usize,
    },
    /// The body isn't what it says, or it has more bytes than it says.
    #[error("the body is not what {} makes of {raw_size} bytes: {reason}", compression.name())]
    Corrupt {
        /// How it should be compressed.
        compression: Compression,
        /// Bytes that it should have.
        raw_size: usize,
        /// What is wrong with it, by the compression's own words.
        reason: String,
    },
    /// Something is behind the compressed bytes.
    #[error("the body goes on for {bytes} bytes after the compressed ones")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Why something could not be compressed: as a rule for want of memory.
#[derive(Debug, thiserror::Error)]
#[error("{} can't compress {raw_size} bytes: {source}", compression.name())]
pub struct CompressError {
    compression: Compression,
    raw_size: usize,
    source: io::Error,
}

impl Compression {
    /// What `x-log-compresstype` says; nothing is [`None`](Self::None).
    ///
    /// # Errors
    /// When no compression has the name.
    pub fn from_header(value: &str) -> Result<Self, UnknownCompression> {
        let name = value.trim();
        if name.is_empty() {
            return Ok(Self::None);
        }
        let known = [Self::Lz4, Self::Zstd, Self::Deflate];
        let found = known.into_iter().find(|compression| name.eq_ignore_ascii_case(compression.name()));
        found.ok_or_else(|| UnknownCompression { name: name.chars().take(40).collect() })
    }

    /// The one to answer a pull with, of those that `Accept-Encoding` names: the first of LZ4, zstd, deflate.
    pub fn from_accept_encoding(value: &str) -> Self {
        let named = |compression: &Self| value.split(',').any(|item| accepts(item, compression.name()));
        [Self::Lz4, Self::Zstd, Self::Deflate].into_iter().find(named).unwrap_or(Self::None)
    }

    /// The name in headers; empty for [`None`](Self::None), of which a header is best left out.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    /// Decompresses a body that is said to have `raw_size` bytes. No more memory is taken than for these, and none
    /// if they are more than `limit`.
    ///
    /// # Errors
    /// When the size is above the limit, or the body isn't exactly `raw_size` bytes, compressed.
    pub fn decompress(self, body: &[u8], raw_size: usize, limit: usize) -> Result<Vec<u8>, DecompressError> {
        if raw_size > limit {
            return Err(DecompressError::TooLarge { raw_size, limit });
        }
        // What doesn't compress has its size already: nothing need be copied to find it wrong.
        if self == Self::None && body.len() != raw_size {
            return Err(DecompressError::Size { declared: raw_size, actual: body.len() });
        }
        let corrupt = |reason| DecompressError::Corrupt { compression: self, raw_size, reason };
        let raw = match self {
            Self::None => body.to_vec(),
            Self::Lz4 => {
                lz4_flex::block::decompress(body, raw_size).map_err(|error| corrupt(error.to_string()))?
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                zstd::bulk::decompress(body, raw_size).map_err(|error| corrupt(error.to_string()))?
            }
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => return Err(corrupt(NO_ZSTD.into())),
            Self::Deflate => inflate(body, raw_size, corrupt)?,
        };
        if raw.len() == raw_size {
            Ok(raw)
        } else {
            Err(DecompressError::Size { declared: raw_size, actual: raw.len() })
        }
    }

    /// As [`decompress`](Self::decompress) of LZ4, into memory that is used again and only ever grows.
    ///
    /// # Errors
    /// When the body isn't exactly `raw_size` bytes, compressed by LZ4.
    pub fn decompress_lz4_into<'a>(
        body: &[u8],
        raw_size: usize,
        memory: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], DecompressError> {
        if memory.len() < raw_size {
            memory.resize(raw_size, 0);
        }
        let raw = &mut memory[..raw_size];
        match lz4_flex::block::decompress_into(body, raw) {
            Ok(actual) if actual == raw_size => Ok(raw),
            Ok(actual) => Err(DecompressError::Size { declared: raw_size, actual }),
            Err(error) => {
                Err(DecompressError::Corrupt { compression: Self::Lz4, raw_size, reason: error.to_string() })
            }
        }
    }

    /// Compresses a body, fast rather than small.
    ///
    /// # Errors
    /// When the library says so, which it has no reason to but a lack of memory.
    pub fn compress(self, raw: &[u8]) -> Result<Vec<u8>, CompressError> {
        let compressed = match self {
            Self::None => Ok(raw.to_vec()),
            Self::Lz4 => Ok(lz4_flex::block::compress(raw)),
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::bulk::compress(raw, 1),
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => Err(io::Error::new(io::ErrorKind::Unsupported, NO_ZSTD)),
            Self::Deflate => deflate(raw),
        };
        compressed.map_err(|source| CompressError { compression: self, raw_size: raw.len(), source })
    }
}

#[cfg(not(feature = "zstd"))]
const NO_ZSTD: &str = "zstd is not built in";

/// Whether an item of `Accept-Encoding` allows a compression.
fn accepts(item: &str, name: &str) -> bool {
    let (named, weight) = item.split_once(';').unwrap_or((item, ""));
    // `;q=0` is how a client says no.
    let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
    named.trim().eq_ignore_ascii_case(name) && weight != Some(0.0)
}

fn inflate(
    body: &[u8],
    raw_size: usize,
    corrupt: impl Fn(String) -> DecompressError,
) -> Result<Vec<u8>, DecompressError> {
    let mut stream = Decompress::new(true);
    // The stream writes into what the vector has room for, and never makes it larger.
    let mut raw = Vec::with_capacity(raw_size);
    match stream.decompress_vec(body, &mut raw, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => {}
        Ok(_) if raw.len() >= raw_size => return Err(corrupt("it has more".into())),
        Ok(_) => return Err(corrupt("it ends within the stream".into())),
        Err(error) => return Err(corrupt(error.to_string())),
    }
    let read = usize::try_from(stream.total_in()).unwrap_or(body.len());
    if read < body.len() {
        return Err(DecompressError::Trailing { bytes: body.len() - read });
    }
    Ok(raw)
}

fn deflate(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::fast());
    io::Write::write_all(&mut encoder, raw)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 4] =
        [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate];

    #[test]
    fn what_was_compressed_comes_back_at_its_size_only() {
        let mut random = vec![0; 5000];
        random.iter_mut().fold(1_u32, |seed, byte| {
            *byte = (seed >> 24) as u8;
            seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
        });
        for compression in ALL {
            for raw in [&b""[..], b"a", &[b'x'; 100_000], &random] {
                let body = compression.compress(raw).unwrap();
                let size = raw.len();
                assert_eq!(compression.decompress(&body, size, size).as_deref(), Ok(raw), "{compression:?}");
                assert!(compression.decompress(&body, size + 1, usize::MAX >> 8).is_err(), "{compression:?}");
                if size > 0 {
                    assert!(compression.decompress(&body, size - 1, size).is_err(), "{compression:?} {size}");
                    let cut = &body[..body.len() - 1];
                    assert!(compression.decompress(cut, size, size).is_err(), "{compression:?} {size}");
                    let limit = DecompressError::TooLarge { raw_size: size, limit: size - 1 };
                    assert_eq!(compression.decompress(&body, size, size - 1), Err(limit));
                }
                let more = [&body[..], b"\x01\x02"].concat();
                assert!(compression.decompress(&more, size, size).is_err(), "{compression:?} {size}");
            }
        }
    }

    #[test]
    fn a_block_of_literals_is_longer_than_its_content_and_legal() {
        let block = Compression::Lz4.compress(b"abc").unwrap();
        assert_eq!(block, b"\x30abc");
    }

    #[test]
    fn a_declared_size_beyond_memory_takes_none() {
        let found = Compression::Lz4.decompress(b"\x00", usize::MAX, 1 << 20);
        assert_eq!(found, Err(DecompressError::TooLarge { raw_size: usize::MAX, limit: 1 << 20 }));
    }

    #[test]
    fn headers_name_compressions() {
        assert_eq!(Compression::from_header(""), Ok(Compression::None));
        for compression in ALL {
            assert_eq!(Compression::from_header(&compression.name().to_uppercase()), Ok(compression));
        }
        assert!(Compression::from_header("gzip").is_err());
        let cases = [
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd),
            ("", Compression::None),
            ("gzip, deflate", Compression::Deflate),
            ("gzip, deflate, zstd;q=0.5, LZ4 ; q=0", Compression::Zstd),
            ("gzip, br, *", Compression::None),
            ("zstd,lz4", Compression::Lz4),
        ];
        for (value, expected) in cases {
            assert_eq!(Compression::from_accept_encoding(value), expected, "{value}");
        }
    }
}

//! Compression of request and reply bodies: `x-log-compresstype`.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

/// A body's compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Uncompressed.
    None,
    /// A raw LZ4 block, without a size prefix or a frame.
    Lz4,
    /// A zstd frame.
    Zstd,
    /// A zlib stream, which old clients send.
    Deflate,
}

/// An unknown compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown compression {name:?}: use lz4, zstd or deflate, or omit the header for an uncompressed body"
)]
pub struct UnknownCompression {
    /// The compression's name, truncated.
    pub name: String,
}

/// A failed decompression of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The declared size exceeds the limit. Nothing was decompressed.
    #[error(
        "the body's uncompressed size of {raw_size} bytes exceeds the limit of {limit} bytes: send less per request"
    )]
    TooLarge {
        /// Declared uncompressed size, in bytes.
        raw_size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The uncompressed size differs from the declared size.
    #[error("the body's uncompressed size is {actual} bytes, but {declared} bytes were declared")]
    Size {
        /// Declared uncompressed size, in bytes.
        declared: usize,
        /// Actual uncompressed size, in bytes.
        actual: usize,
    },
    /// The compressed data are invalid, or decompress to more bytes than declared.
    #[error("the body can't be decompressed by {} to {raw_size} bytes: {reason}", compression.name())]
    Corrupt {
        /// Declared compression.
        compression: Compression,
        /// Declared uncompressed size, in bytes.
        raw_size: usize,
        /// The decompressor's error message.
        reason: String,
    },
    /// Bytes follow the compressed data.
    #[error("{bytes} unexpected bytes follow the compressed data")]
    Trailing {
        /// Number of trailing bytes.
        bytes: usize,
    },
}

/// A failed compression. The usual cause is a lack of memory.
#[derive(Debug, thiserror::Error)]
#[error("{} can't compress {raw_size} bytes: {source}", compression.name())]
pub struct CompressError {
    compression: Compression,
    raw_size: usize,
    source: io::Error,
}

impl Compression {
    /// Parses an `x-log-compresstype` header. An empty value means [`None`](Self::None).
    ///
    /// # Errors
    /// Fails if no compression has the name.
    pub fn from_header(value: &str) -> Result<Self, UnknownCompression> {
        let name = value.trim();
        if name.is_empty() {
            return Ok(Self::None);
        }
        let known = [Self::Lz4, Self::Zstd, Self::Deflate];
        let found = known.into_iter().find(|compression| name.eq_ignore_ascii_case(compression.name()));
        found.ok_or_else(|| UnknownCompression { name: name.chars().take(40).collect() })
    }

    /// Selects the compression of a reply from `Accept-Encoding`, in this order: LZ4, zstd, deflate.
    pub fn from_accept_encoding(value: &str) -> Self {
        let named = |compression: &Self| value.split(',').any(|item| accepts(item, compression.name()));
        [Self::Lz4, Self::Zstd, Self::Deflate].into_iter().find(named).unwrap_or(Self::None)
    }

    /// Returns the name in headers. The name of [`None`](Self::None) is empty: omit the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    /// Decompresses a body with the declared size `raw_size`. Allocates at most `raw_size` bytes, and nothing if
    /// `raw_size` exceeds `limit`.
    ///
    /// # Errors
    /// Fails if the size exceeds the limit, or the body doesn't decompress to exactly `raw_size` bytes.
    pub fn decompress(self, body: &[u8], raw_size: usize, limit: usize) -> Result<Vec<u8>, DecompressError> {
        if raw_size > limit {
            return Err(DecompressError::TooLarge { raw_size, limit });
        }
        // An uncompressed body's size is known without copying it.
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

    /// Decompresses LZ4 like [`decompress`](Self::decompress), but into a reusable buffer that only grows.
    ///
    /// # Errors
    /// Fails if the body doesn't decompress to exactly `raw_size` bytes.
    pub fn decompress_lz4_into<'a>(
        body: &[u8],
        raw_size: usize,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], DecompressError> {
        if buffer.len() < raw_size {
            buffer.resize(raw_size, 0);
        }
        let raw = &mut buffer[..raw_size];
        match lz4_flex::block::decompress_into(body, raw) {
            Ok(actual) if actual == raw_size => Ok(raw),
            Ok(actual) => Err(DecompressError::Size { declared: raw_size, actual }),
            Err(error) => {
                Err(DecompressError::Corrupt { compression: Self::Lz4, raw_size, reason: error.to_string() })
            }
        }
    }

    /// Compresses a body, at the fastest level.
    ///
    /// # Errors
    /// Fails if the compression library fails, as for a lack of memory.
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

/// Returns true if an item of `Accept-Encoding` allows the compression.
fn accepts(item: &str, name: &str) -> bool {
    let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
    // `;q=0` excludes a compression.
    let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
    coding.trim().eq_ignore_ascii_case(name) && weight != Some(0.0)
}

fn inflate(
    body: &[u8],
    raw_size: usize,
    corrupt: impl Fn(String) -> DecompressError,
) -> Result<Vec<u8>, DecompressError> {
    let mut stream = Decompress::new(true);
    // `decompress_vec` fills the spare capacity and never grows the vector.
    let mut raw = Vec::with_capacity(raw_size);
    match stream.decompress_vec(body, &mut raw, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => {}
        Ok(_) if raw.len() >= raw_size => return Err(corrupt("it decompresses to more bytes".into())),
        Ok(_) => return Err(corrupt("the stream is truncated".into())),
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
    fn round_trips_only_at_exact_size() {
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
    fn lz4_block_of_literals_is_longer_than_content() {
        let block = Compression::Lz4.compress(b"abc").unwrap();
        assert_eq!(block, b"\x30abc");
    }

    #[test]
    fn rejects_huge_declared_size_without_allocating() {
        let found = Compression::Lz4.decompress(b"\x00", usize::MAX, 1 << 20);
        assert_eq!(found, Err(DecompressError::TooLarge { raw_size: usize::MAX, limit: 1 << 20 }));
    }

    #[test]
    fn parses_header_names() {
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

//! Bodies of blocks: compression.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use logship_config::maxcompute::BlockCompression;

/// The level of zlib, as the vendor's clients have it.
const ZLIB_LEVEL: u32 = 1;

/// The level of zstd.
const ZSTD_LEVEL: i32 = 1;

/// Returns the name of a compression, as `Content-Encoding` has it.
pub(super) fn encoding(compression: BlockCompression) -> &'static str {
    match compression {
        BlockCompression::Deflate => "deflate",
        BlockCompression::Snappy => "x-snappy-framed",
        BlockCompression::Zstd => "zstd",
    }
}

/// Compresses a block.
pub(super) fn compress(compression: BlockCompression, body: &[u8]) -> io::Result<Bytes> {
    let room = Vec::with_capacity(body.len() / 4);
    Ok(match compression {
        BlockCompression::Deflate => {
            let mut encoder = ZlibEncoder::new(room, Compression::new(ZLIB_LEVEL));
            encoder.write_all(body)?;
            encoder.finish()?
        }
        BlockCompression::Snappy => {
            let mut encoder = snap::write::FrameEncoder::new(room);
            encoder.write_all(body)?;
            encoder.into_inner().map_err(snap::write::IntoInnerError::into_error)?
        }
        BlockCompression::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL)?,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn compressed_blocks_are_read_back() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let made = |compression| compress(compression, &body).unwrap();
        let mut plain = vec![];
        flate2::read::ZlibDecoder::new(&*made(BlockCompression::Deflate)).read_to_end(&mut plain).unwrap();
        assert!(plain == body);
        plain.clear();
        snap::read::FrameDecoder::new(&*made(BlockCompression::Snappy)).read_to_end(&mut plain).unwrap();
        assert!(plain == body);
        assert!(zstd::bulk::decompress(&made(BlockCompression::Zstd), body.len()).unwrap() == body);
    }
}

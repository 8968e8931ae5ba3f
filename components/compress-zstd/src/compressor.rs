use std::fmt;

use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};
use structured_zstd::encoding::{CompressionContext, CompressionLevel};

use crate::Config;

/// The input size of one call to the compressor: one zstd block. The compressor's output may depend on how its input
/// is cut, so the input is always cut at the same places.
const PIECE: usize = 1 << 17;

/// An open zstd frame.
pub struct ZstdCompressor {
    pieces: Pieces,
    context: CompressionContext,
}

impl Compressor for ZstdCompressor {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            compression: "zstd".into(),
            suffix: ".zst".into(),
            suffix_place: SuffixPlace::AfterFormat,
            header_room: 0,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let mut context = CompressionContext::new(CompressionLevel::from_level(config.level));
        context.set_content_checksum(true).map_err(to_error)?;
        Ok(Self { pieces: Pieces::of(PIECE), context })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() / 4);
        self.pieces.push(bytes, |piece| self.context.write(&mut out, piece).map(drop).map_err(to_error))?;
        Ok(out)
    }

    fn finish(mut self) -> Result<Ending> {
        let mut trailer = vec![];
        self.context.write(&mut trailer, self.pieces.rest()).map_err(to_error)?;
        self.context.finish_frame(&mut trailer).map_err(to_error)?;
        Ok(Ending { header: vec![], trailer })
    }
}

impl fmt::Debug for ZstdCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdCompressor").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// Converts an error. It never occurs, because a writer into memory cannot fail.
fn to_error(error: impl fmt::Display) -> Error {
    Error::TooLarge(format!("zstd: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Assembles the object as a host does.
    fn compress<'a>(config: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = ZstdCompressor::open(config).unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Decompresses exactly one frame with the C library, which verifies the checksum.
    fn decompress(object: &[u8]) -> Vec<u8> {
        let mut remainder = object;
        let mut text = vec![];
        let mut reader = zstd::Decoder::with_buffer(&mut remainder).unwrap().single_frame();
        std::io::copy(&mut reader, &mut text).unwrap();
        drop(reader);
        assert_eq!(remainder, b"", "bytes after the frame");
        text
    }

    /// Returns moderately compressible text.
    fn text(len: usize) -> Vec<u8> {
        let line =
            |number: u32| format!("GET /item/{} 200 {}\n", number.wrapping_mul(2_654_435_761), number % 7);
        (0..).flat_map(|number| line(number).into_bytes()).take(len).collect()
    }

    #[test]
    fn output_is_independent_of_chunks_at_each_kind_of_level() {
        let text = text(20 * PIECE + 77);
        for level in [1, 2, 3, 5, 8, 12] {
            let config = format!(r#"{{"level": {level}}}"#);
            let at_once = compress(&config, [&text[..]]);
            assert!(decompress(&at_once) == text, "level {level}");
            for cut in [9973, PIECE - 1, 3 * PIECE + 1] {
                assert!(compress(&config, text.chunks(cut)) == at_once, "level {level} in chunks of {cut}");
            }
        }
    }

    #[test]
    fn empty_object_is_a_frame() {
        let empty = compress("", []);
        assert_eq!(decompress(&empty), b"");
        assert_eq!(compress("", [&b""[..], b""]), empty);
    }

    #[test]
    fn checksum_detects_corruption() {
        let text = text(3 * PIECE);
        let mut object = compress("", [&text[..]]);
        let last = object.len() - 1;
        object[last] ^= 1;
        assert!(zstd::decode_all(&object[..]).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn rejects_unsupported_level() {
        let rejected = |config| ZstdCompressor::open(config).unwrap_err().to_string();
        assert_eq!(rejected(r#"{"level": 22}"#), "level: 22 is not supported; use 1 to 12");
        assert_eq!(rejected(r#"{"level": 0}"#), "level: 0 is not supported; use 1 to 12");
        assert!(rejected(r#"{"window": 1}"#).contains("unknown field"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn output_round_trips_through_another_reader(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
            repeat in 1..60usize,
            level in 1..=12,
        ) {
            let config = format!(r#"{{"level": {level}}}"#);
            let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.repeat(repeat)).collect();
            let object = compress(&config, chunks.iter().map(Vec::as_slice));
            prop_assert!(object == compress(&config, [&chunks.concat()[..]]));
            prop_assert!(decompress(&object) == chunks.concat());
        }
    }
}

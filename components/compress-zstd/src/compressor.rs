use std::fmt;

use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};
use structured_zstd::encoding::{CompressionContext, CompressionLevel};

use crate::Config;

/// What the compressor is given in one go, a block of zstd's: it promises that its output reads
/// back, not that the output is the same however the input was cut.
const PIECE: usize = 1 << 17;

/// A zstd frame in the making.
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
        context.set_content_checksum(true).map_err(refused)?;
        Ok(Self { pieces: Pieces::of(PIECE), context })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() / 4);
        self.pieces.push(bytes, |piece| self.context.write(&mut out, piece).map(drop).map_err(refused))?;
        Ok(out)
    }

    fn finish(mut self) -> Result<Ending> {
        let mut trailer = vec![];
        self.context.write(&mut trailer, self.pieces.rest()).map_err(refused)?;
        self.context.finish_frame(&mut trailer).map_err(refused)?;
        Ok(Ending { header: vec![], trailer })
    }
}

impl fmt::Debug for ZstdCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdCompressor").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// What can't be: a writer into memory fails at nothing.
fn refused(error: impl fmt::Display) -> Error {
    Error::TooLarge(format!("zstd: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The object that a host puts together.
    fn compress<'a>(config: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = ZstdCompressor::open(config).unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Reads with the C library, one frame and no more, and checks the checksum.
    fn read(object: &[u8]) -> Vec<u8> {
        let mut rest = object;
        let mut text = vec![];
        let mut reader = zstd::Decoder::with_buffer(&mut rest).unwrap().single_frame();
        std::io::copy(&mut reader, &mut text).unwrap();
        drop(reader);
        assert_eq!(rest, b"", "bytes behind the frame");
        text
    }

    /// Bytes that compress somewhat.
    fn text(len: usize) -> Vec<u8> {
        let line =
            |number: u32| format!("GET /item/{} 200 {}\n", number.wrapping_mul(2_654_435_761), number % 7);
        (0..).flat_map(|number| line(number).into_bytes()).take(len).collect()
    }

    #[test]
    fn each_kind_of_level_reads_back_whatever_the_cuts() {
        let text = text(20 * PIECE + 77);
        for level in [1, 2, 3, 5, 8, 12] {
            let config = format!(r#"{{"level": {level}}}"#);
            let whole = compress(&config, [&text[..]]);
            assert!(read(&whole) == text, "level {level}");
            for cut in [9973, PIECE - 1, 3 * PIECE + 1] {
                assert!(compress(&config, text.chunks(cut)) == whole, "level {level} in chunks of {cut}");
            }
        }
    }

    #[test]
    fn an_empty_object_is_a_frame_too() {
        let empty = compress("", []);
        assert_eq!(read(&empty), b"");
        assert_eq!(compress("", [&b""[..], b""]), empty);
    }

    #[test]
    fn a_damaged_byte_is_noticed() {
        let text = text(3 * PIECE);
        let mut object = compress("", [&text[..]]);
        let last = object.len() - 1;
        object[last] ^= 1;
        assert!(zstd::decode_all(&object[..]).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn a_level_that_is_not_offered_is_refused() {
        let refused = |config| ZstdCompressor::open(config).unwrap_err().to_string();
        assert_eq!(refused(r#"{"level": 22}"#), "level: 22 is not offered; 1 to 12 are");
        assert_eq!(refused(r#"{"level": 0}"#), "level: 0 is not offered; 1 to 12 are");
        assert!(refused(r#"{"window": 1}"#).contains("unknown field"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn another_reader_reads_what_was_written(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
            repeat in 1..60usize,
            level in 1..=12,
        ) {
            let config = format!(r#"{{"level": {level}}}"#);
            let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.repeat(repeat)).collect();
            let object = compress(&config, chunks.iter().map(Vec::as_slice));
            prop_assert!(object == compress(&config, [&chunks.concat()[..]]));
            prop_assert!(read(&object) == chunks.concat());
        }
    }
}

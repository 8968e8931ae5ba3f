use std::fmt;
use std::io::Write;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};

use crate::Config;

/// The input size of one call to deflate, in bytes. Deflate's output may depend on how its input is cut, so the input
/// is always cut at the same places.
const PIECE: usize = 1 << 16;

/// The operating system in the header: unknown, in gzip's numbering.
const UNKNOWN_SYSTEM: u8 = 255;

/// An open gzip member.
pub struct GzipCompressor {
    pieces: Pieces,
    encoder: GzEncoder<Vec<u8>>,
}

impl Compressor for GzipCompressor {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            compression: "gzip".into(),
            suffix: ".gz".into(),
            suffix_place: SuffixPlace::AfterFormat,
            header_room: 0,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let header = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM);
        Ok(Self { pieces: Pieces::of(PIECE), encoder: header.write(vec![], Compression::new(config.level)) })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.pieces.push(bytes, |piece| self.encoder.write_all(piece).map_err(to_error))?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }

    fn finish(mut self) -> Result<Ending> {
        self.encoder.write_all(self.pieces.rest()).map_err(to_error)?;
        Ok(Ending { header: vec![], trailer: self.encoder.finish().map_err(to_error)? })
    }
}

impl fmt::Debug for GzipCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzipCompressor").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// Converts an error. It never occurs, because a writer into memory cannot fail.
fn to_error(error: std::io::Error) -> Error {
    Error::TooLarge(format!("gzip: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Assembles the object as a host does.
    fn compress<'a>(config: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = GzipCompressor::open(config).unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Decompresses with another implementation, which checks length and checksum.
    fn decompress(object: &[u8]) -> Vec<u8> {
        zune_inflate::DeflateDecoder::new(object).decode_gzip().unwrap()
    }

    /// Returns moderately compressible text.
    fn text(len: usize) -> Vec<u8> {
        let line =
            |number: u32| format!("GET /item/{} 200 {}\n", number.wrapping_mul(2_654_435_761), number % 7);
        (0..).flat_map(|number| line(number).into_bytes()).take(len).collect()
    }

    #[test]
    fn output_is_independent_of_chunks_at_every_level() {
        let text = text(5 * PIECE + 77);
        for level in 0..=9 {
            let config = format!(r#"{{"level": {level}}}"#);
            let at_once = compress(&config, [&text[..]]);
            assert_eq!(decompress(&at_once), text, "level {level}");
            for cut in [997, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
                assert!(compress(&config, text.chunks(cut)) == at_once, "level {level} in chunks of {cut}");
            }
        }
    }

    #[test]
    fn header_has_no_time_name_or_system() {
        let empty = compress("", []);
        assert_eq!(empty[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(decompress(&empty), b"");
    }

    #[test]
    fn rejects_unknown_level() {
        let rejected = |config| GzipCompressor::open(config).unwrap_err().to_string();
        assert_eq!(rejected(r#"{"level": 10}"#), "level: 10 is not a gzip level; use 0 to 9");
        assert!(rejected(r#"{"level": -1}"#).starts_with("level: invalid value"));
        assert!(rejected(r#"{"Level": 1}"#).contains("unknown field"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn output_round_trips_through_another_reader(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
            repeat in 1..60usize,
        ) {
            let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.repeat(repeat)).collect();
            let object = compress("", chunks.iter().map(Vec::as_slice));
            prop_assert!(object == compress("", [&chunks.concat()[..]]));
            prop_assert!(decompress(&object) == chunks.concat());
        }
    }
}

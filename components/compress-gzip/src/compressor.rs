use std::fmt;
use std::io::Write;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};

use crate::Config;

/// What deflate is given in one go: it promises that its output reads back, not that the output is
/// the same however the input was cut.
const PIECE: usize = 1 << 16;

/// The operating system in the header: unknown, as gzip counts them.
const NO_SYSTEM: u8 = 255;

/// A gzip member in the making.
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
        let header = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM);
        Ok(Self { pieces: Pieces::of(PIECE), encoder: header.write(vec![], Compression::new(config.level)) })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.pieces.push(bytes, |piece| self.encoder.write_all(piece).map_err(refused))?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }

    fn finish(mut self) -> Result<Ending> {
        self.encoder.write_all(self.pieces.rest()).map_err(refused)?;
        Ok(Ending { header: vec![], trailer: self.encoder.finish().map_err(refused)? })
    }
}

impl fmt::Debug for GzipCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzipCompressor").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

/// What can't be: a writer into memory fails at nothing.
fn refused(error: std::io::Error) -> Error {
    Error::TooLarge(format!("gzip: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The object that a host puts together.
    fn compress<'a>(config: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = GzipCompressor::open(config).unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Reads with another implementation, which checks length and checksum.
    fn read(object: &[u8]) -> Vec<u8> {
        zune_inflate::DeflateDecoder::new(object).decode_gzip().unwrap()
    }

    /// Bytes that compress somewhat.
    fn text(len: usize) -> Vec<u8> {
        let line =
            |number: u32| format!("GET /item/{} 200 {}\n", number.wrapping_mul(2_654_435_761), number % 7);
        (0..).flat_map(|number| line(number).into_bytes()).take(len).collect()
    }

    #[test]
    fn every_level_reads_back_whatever_the_cuts() {
        let text = text(5 * PIECE + 77);
        for level in 0..=9 {
            let config = format!(r#"{{"level": {level}}}"#);
            let whole = compress(&config, [&text[..]]);
            assert_eq!(read(&whole), text, "level {level}");
            for cut in [997, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
                assert!(compress(&config, text.chunks(cut)) == whole, "level {level} in chunks of {cut}");
            }
        }
    }

    #[test]
    fn the_header_holds_neither_time_nor_name_nor_system() {
        let empty = compress("", []);
        assert_eq!(empty[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(read(&empty), b"");
    }

    #[test]
    fn a_level_that_gzip_does_not_have_is_refused() {
        let refused = |config| GzipCompressor::open(config).unwrap_err().to_string();
        assert_eq!(refused(r#"{"level": 10}"#), "level: 10 is not a level of gzip; 0 to 9 are");
        assert!(refused(r#"{"level": -1}"#).starts_with("level: invalid value"));
        assert!(refused(r#"{"Level": 1}"#).contains("unknown field"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn another_reader_reads_what_was_written(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
            repeat in 1..60usize,
        ) {
            let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.repeat(repeat)).collect();
            let object = compress("", chunks.iter().map(Vec::as_slice));
            prop_assert!(object == compress("", [&chunks.concat()[..]]));
            prop_assert!(read(&object) == chunks.concat());
        }
    }
}

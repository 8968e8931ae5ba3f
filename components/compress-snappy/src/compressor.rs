use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};
use snap::raw::{Encoder, max_compress_len};

use crate::Config;

/// The size of the pieces that snappy compresses independently. Effectively part of the format: a copy never
/// refers further back.
const PIECE: usize = 1 << 16;

/// An open raw snappy block.
#[derive(Debug)]
pub struct SnappyCompressor {
    pieces: Pieces,
    body: Body,
    /// The number of uncompressed bytes so far.
    len: u64,
}

impl Compressor for SnappyCompressor {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            compression: "snappy".into(),
            suffix: ".snappy".into(),
            suffix_place: SuffixPlace::BeforeFormat,
            // The length of the header for 2 MiB to 256 MiB.
            header_room: 4,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        config::parse::<Config>(text)?;
        let body =
            Body { encoder: Encoder::new(), piece: vec![0; max_compress_len(PIECE)], compressed: vec![] };
        Ok(Self { pieces: Pieces::of(PIECE), body, len: 0 })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.len = checked_len(self.len, bytes.len())?;
        self.body.compressed.reserve(bytes.len() / 2);
        self.pieces.push(bytes, |piece| self.body.push(piece))?;
        Ok(std::mem::take(&mut self.body.compressed))
    }

    fn finish(mut self) -> Result<Ending> {
        self.body.push(self.pieces.rest())?;
        Ok(Ending { header: varint(self.len), trailer: self.body.compressed })
    }
}

/// The compressed pieces.
#[derive(Debug)]
struct Body {
    encoder: Encoder,
    /// A buffer for one compressed piece. It fits into the processor's cache and is not cleared for each push.
    piece: Vec<u8>,
    compressed: Vec<u8>,
}

impl Body {
    fn push(&mut self, piece: &[u8]) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let len =
            self.encoder.compress(piece, &mut self.piece).map_err(|e| Error::TooLarge(e.to_string()))?;
        // Snappy returns each piece as a separate block, so its length prefix is removed.
        self.compressed.extend_from_slice(&self.piece[varint(piece.len() as u64).len()..len]);
        Ok(())
    }
}

/// Returns the length plus `more` bytes, if the header can represent it.
fn checked_len(len: u64, more: usize) -> Result<u64> {
    let len = len + more as u64;
    if len > u64::from(u32::MAX) {
        let max = format!("a raw snappy block holds at most {} bytes, but the object has {len}", u32::MAX);
        return Err(Error::TooLarge(format!("{max}; lower the shipping size of the rule")));
    }
    Ok(len)
}

/// Encodes a number as snappy does: seven bits per byte, lowest first; the top bit is set if more bytes follow.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Assembles the object as a host does.
    fn compress<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = SnappyCompressor::open("").unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Returns moderately compressible text.
    fn text(len: usize, seed: u32) -> Vec<u8> {
        let words = ["GET ", "POST ", "/index.html ", "200 ", "10.0.0."];
        let mut state = seed | 1;
        let mut text = vec![];
        while text.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend_from_slice(words[(state >> 24) as usize % words.len()].as_bytes());
            text.extend_from_slice((state >> 20).to_string().as_bytes());
        }
        text.truncate(len);
        text
    }

    #[test]
    fn empty_object_is_a_zero_length() {
        let ending = SnappyCompressor::open("{}").unwrap().finish().unwrap();
        assert_eq!((ending.header, ending.trailer), (vec![0], vec![]));
        assert_eq!(compress([&b""[..], b""]), [0]);
    }

    #[test]
    fn output_is_independent_of_chunks_around_a_piece() {
        for len in [1, 16, 17, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 3] {
            let text = text(len, 7);
            let expected = Encoder::new().compress_vec(&text).unwrap();
            for cut in [1, 1000, PIECE - 1, PIECE, PIECE + 1, len] {
                assert_eq!(compress(text.chunks(cut)), expected, "{len} bytes in chunks of {cut}");
            }
        }
    }

    #[test]
    fn rejects_objects_above_header_limit() {
        let max = u64::from(u32::MAX);
        assert_eq!(checked_len(max - 1, 1), Ok(max));
        assert!(matches!(checked_len(max, 1), Err(Error::TooLarge(reason)) if reason.contains("4294967296")));
        assert_eq!(varint(max), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn rejects_any_setting() {
        let error = SnappyCompressor::open(r#"{"level": 3}"#).unwrap_err().to_string();
        assert!(error.contains("level") && error.contains("unknown field"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn output_is_independent_of_chunks_and_round_trips(
            len in 0..4 * PIECE, seed: u32, noise: bool, cuts in prop::collection::vec(0..4 * PIECE, 0..8),
        ) {
            let mut text = text(len, seed);
            if noise {
                let mut state = seed;
                text.iter_mut().for_each(|byte| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte ^= (state >> 24) as u8;
                });
            }
            let mut ends: Vec<_> = cuts.into_iter().map(|cut| cut.min(len)).chain([len]).collect();
            ends.sort_unstable();
            let begins = [0].into_iter().chain(ends.iter().copied());
            let block = compress(begins.zip(&ends).map(|(begin, &end)| &text[begin..end]));
            prop_assert_eq!(&block, &Encoder::new().compress_vec(&text).unwrap());
            prop_assert_eq!(snap::raw::Decoder::new().decompress_vec(&block).unwrap(), text);
        }
    }
}

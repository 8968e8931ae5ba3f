use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, Pieces, Result, config};
use snap::raw::{Encoder, max_compress_len};

use crate::Config;

/// What a snappy compressor looks at in one go. It is part of the format in all but name: a copy
/// never reaches further back.
const PIECE: usize = 1 << 16;

/// A raw snappy block in the making.
#[derive(Debug)]
pub struct SnappyCompressor {
    pieces: Pieces,
    body: Body,
    /// Uncompressed bytes so far.
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
            // As many as a length from 2 MiB to 256 MiB takes.
            header_room: 4,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        config::parse::<Config>(text)?;
        let body = Body { encoder: Encoder::new(), piece: vec![0; max_compress_len(PIECE)], done: vec![] };
        Ok(Self { pieces: Pieces::of(PIECE), body, len: 0 })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.len = grown(self.len, bytes.len())?;
        self.body.done.reserve(bytes.len() / 2);
        self.pieces.push(bytes, |piece| self.body.push(piece))?;
        Ok(std::mem::take(&mut self.body.done))
    }

    fn finish(mut self) -> Result<Ending> {
        self.body.push(self.pieces.rest())?;
        Ok(Ending { header: varint(self.len), trailer: self.body.done })
    }
}

/// The pieces that are compressed.
#[derive(Debug)]
struct Body {
    encoder: Encoder,
    /// Room for a compressed piece: small enough to stay in the processor's cache, and not to be
    /// cleared for each push.
    piece: Vec<u8>,
    done: Vec<u8>,
}

impl Body {
    fn push(&mut self, piece: &[u8]) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let len =
            self.encoder.compress(piece, &mut self.piece).map_err(|e| Error::TooLarge(e.to_string()))?;
        // The piece came out as a block of its own, with its length in front.
        self.done.extend_from_slice(&self.piece[varint(piece.len() as u64).len()..len]);
        Ok(())
    }
}

/// The length with `more` bytes, as long as a header can hold it.
fn grown(len: u64, more: usize) -> Result<u64> {
    let len = len + more as u64;
    if len > u64::from(u32::MAX) {
        let most = format!("a raw snappy block holds {} bytes, the object has {len} already", u32::MAX);
        return Err(Error::TooLarge(format!("{most}; lower its shipping size")));
    }
    Ok(len)
}

/// A number as snappy writes it: seven bits a byte, the lowest first, the top bit set where more
/// follow.
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

    /// The object that a host puts together.
    fn compress<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut compressor = SnappyCompressor::open("").unwrap();
        let mut body = vec![];
        for chunk in chunks {
            body.extend(compressor.push(chunk).unwrap());
        }
        let ending = compressor.finish().unwrap();
        [ending.header, body, ending.trailer].concat()
    }

    /// Bytes that compress somewhat.
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
    fn an_empty_object_is_a_length_of_zero() {
        let ending = SnappyCompressor::open("{}").unwrap().finish().unwrap();
        assert_eq!((ending.header, ending.trailer), (vec![0], vec![]));
        assert_eq!(compress([&b""[..], b""]), [0]);
    }

    #[test]
    fn lengths_around_a_piece_are_what_the_whole_gives() {
        for len in [1, 16, 17, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 3] {
            let text = text(len, 7);
            let expected = Encoder::new().compress_vec(&text).unwrap();
            for cut in [1, 1000, PIECE - 1, PIECE, PIECE + 1, len] {
                assert_eq!(compress(text.chunks(cut)), expected, "{len} bytes in chunks of {cut}");
            }
        }
    }

    #[test]
    fn what_a_header_cannot_hold_is_too_large() {
        let most = u64::from(u32::MAX);
        assert_eq!(grown(most - 1, 1), Ok(most));
        assert!(matches!(grown(most, 1), Err(Error::TooLarge(reason)) if reason.contains("4294967296")));
        assert_eq!(varint(most), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn a_member_of_the_configuration_is_refused() {
        let error = SnappyCompressor::open(r#"{"level": 3}"#).unwrap_err().to_string();
        assert!(error.contains("level") && error.contains("unknown field"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cuts_give_the_same_block_and_it_reads_back(
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

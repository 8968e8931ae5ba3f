//! Splices LZ4 blocks: concatenates blocks and literal bytes to one block, without recompression.
//!
//! A block is a list of sequences. A sequence has literals and a match, which copies earlier bytes at a backward
//! offset. The last sequence has literals only. As offsets are relative, the middle of a block can be copied unchanged.
//! Only the ends change: the last literals of a block, the literal bytes between blocks, and the first literals of the
//! next block become the literals of one sequence, with the next block's first match.
//!
//! # The end of a block
//! The format requires that the last 5 bytes are literals, and that the last match begins at least 12 bytes before the
//! end. Some decoders enforce this; the Rust decoder that checks a put doesn't. A pull with such a block would fail at
//! a strict client at every retry. So this module rejects such blocks: [`check`] a block when it is received, and
//! recompress its content if the check fails.

/// A block that can't be spliced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// The block is empty, or ends within a sequence.
    #[error("the LZ4 block is truncated: decompress blocks to check them before they are spliced")]
    Truncated,
    /// A length in the block exceeds the address space.
    #[error(
        "a length in the LZ4 block is too large: decompress blocks to check them before they are spliced"
    )]
    Length,
    /// Strict decoders reject the end of the block.
    #[error(
        "the LZ4 block ends with {literals} literals after a match of {matched} bytes, but the format requires 5 literals, and 12 bytes from the start of the last match to the end: recompress its content"
    )]
    End {
        /// Number of literals in the last sequence.
        literals: usize,
        /// Length of the last match, in bytes.
        matched: usize,
    },
}

/// Checks that [`BlockWriter::block`] accepts a block. Doesn't check match offsets: decompress the block as well.
///
/// # Errors
/// Fails if the block can't be spliced.
pub fn check(block: &[u8]) -> Result<(), InvalidBlock> {
    Ends::of(block).map(drop)
}

/// Writes one block from literals and other blocks.
#[derive(Debug, Clone, Default)]
pub struct BlockWriter {
    block: Vec<u8>,
    /// Literals of the next sequence. Buffered, as their count is part of the sequence's token.
    literals: Vec<u8>,
}

impl BlockWriter {
    /// Creates a writer with a capacity of `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { block: Vec::with_capacity(bytes), literals: vec![] }
    }

    /// Appends `content` as literals.
    pub fn literals(&mut self, content: &[u8]) {
        self.literals.extend_from_slice(content);
    }

    /// Appends the content of `block`. Doesn't detect a match whose offset points before the block; such a match would
    /// copy bytes of an earlier block.
    ///
    /// # Errors
    /// Fails if the block is invalid, and then appends nothing.
    pub fn block(&mut self, block: &[u8]) -> Result<(), InvalidBlock> {
        match Ends::of(block)? {
            Ends { literals, rest: None } => self.literals(literals),
            Ends { literals, rest: Some(rest) } => {
                self.literals(literals);
                self.write_token_and_literals(rest.match_code);
                self.block.extend_from_slice(rest.from_first_offset);
                self.literals(rest.last_literals);
            }
        }
        Ok(())
    }

    /// Returns the block.
    pub fn finish(mut self) -> Vec<u8> {
        self.write_token_and_literals(0);
        self.block
    }

    /// Writes the token and the literals of a sequence.
    fn write_token_and_literals(&mut self, match_code: u8) {
        let count = self.literals.len();
        if count < EXTENDED_LENGTH {
            self.block.push((count as u8) << 4 | match_code);
        } else {
            self.block.push(0xf0 | match_code);
            let extra = count - EXTENDED_LENGTH;
            self.block.resize(self.block.len() + extra / 255, 255);
            self.block.push((extra % 255) as u8);
        }
        self.block.extend_from_slice(&self.literals);
        self.literals.clear();
    }
}

/// The smallest length that needs extra bytes after the token.
const EXTENDED_LENGTH: usize = 15;
/// The length of a match with code 0, in bytes.
const MIN_MATCH: usize = 4;
/// The minimum number of literals at the end of a block with matches.
const MIN_LAST_LITERALS: usize = 5;
/// The minimum distance of the last match's start from the end of the block, in bytes.
const MIN_LAST_MATCH_DISTANCE: usize = 12;

/// The parts of a block that splicing needs.
struct Ends<'a> {
    /// Literals of the first sequence.
    literals: &'a [u8],
    /// The remainder of the block. `None` if the block has only one sequence.
    rest: Option<Rest<'a>>,
}

struct Rest<'a> {
    /// The lower four bits of the first token.
    match_code: u8,
    /// The bytes from the first match's offset to the last sequence.
    from_first_offset: &'a [u8],
    last_literals: &'a [u8],
}

impl<'a> Ends<'a> {
    fn of(block: &'a [u8]) -> Result<Self, InvalidBlock> {
        let mut reader = SequenceReader { block, at: 0 };
        let first = reader.literals()?;
        let literals = reader.slice(first.begin, reader.at)?;
        if reader.is_at_end() {
            return Ok(Self { literals, rest: None });
        }
        let first_offset = reader.at;
        let mut matched = reader.match_length(first.token)?;
        loop {
            let last = reader.at;
            let Literals { token, begin } = reader.literals()?;
            if !reader.is_at_end() {
                matched = reader.match_length(token)?;
                continue;
            }
            let last_literals = reader.slice(begin, reader.at)?;
            let count = last_literals.len();
            if count < MIN_LAST_LITERALS || count.saturating_add(matched) < MIN_LAST_MATCH_DISTANCE {
                return Err(InvalidBlock::End { literals: count, matched });
            }
            let from_first_offset = reader.slice(first_offset, last)?;
            let rest = Rest { match_code: first.token & 15, from_first_offset, last_literals };
            return Ok(Self { literals, rest: Some(rest) });
        }
    }
}

/// Iterates over sequences, and reads only their lengths.
struct SequenceReader<'a> {
    block: &'a [u8],
    at: usize,
}

/// The token of a sequence, and the start of its literals. The literals end at the reader's position.
struct Literals {
    token: u8,
    begin: usize,
}

impl<'a> SequenceReader<'a> {
    #[inline(always)]
    fn is_at_end(&self) -> bool {
        self.at == self.block.len()
    }

    fn slice(&self, begin: usize, end: usize) -> Result<&'a [u8], InvalidBlock> {
        self.block.get(begin..end).ok_or(InvalidBlock::Truncated)
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, InvalidBlock> {
        let byte = *self.block.get(self.at).ok_or(InvalidBlock::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn literals(&mut self) -> Result<Literals, InvalidBlock> {
        let token = self.byte()?;
        let count = self.length(token >> 4)?;
        let begin = self.at;
        self.at = begin.checked_add(count).ok_or(InvalidBlock::Length)?;
        // The last sequence must end exactly at the end of the block.
        if self.at > self.block.len() { Err(InvalidBlock::Truncated) } else { Ok(Literals { token, begin }) }
    }

    /// Reads the next match, and returns its length.
    #[inline(always)]
    fn match_length(&mut self, token: u8) -> Result<usize, InvalidBlock> {
        // Skips the offset, which is copied unchanged.
        self.at += 2;
        Ok(self.length(token & 15)?.saturating_add(MIN_MATCH))
    }

    #[inline(always)]
    fn length(&mut self, code: u8) -> Result<usize, InvalidBlock> {
        let mut length = usize::from(code);
        if length == EXTENDED_LENGTH {
            loop {
                let byte = self.byte()?;
                length = length.checked_add(usize::from(byte)).ok_or(InvalidBlock::Length)?;
                if byte < 255 {
                    break;
                }
            }
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use lz4_flex::block::{compress, decompress};
    use proptest::prelude::*;

    use super::*;

    fn splice(parts: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut writer = BlockWriter::default();
        for (literals, block) in parts {
            writer.literals(literals);
            writer.block(block).unwrap();
        }
        writer.finish()
    }

    #[test]
    fn splices_edge_case_blocks() {
        let run = [b'a'; 300];
        let long = compress(&run);
        let cases: [(&[u8], &[u8]); 6] = [
            (b"\x00", b""),
            (b"\x30abc", b"abc"),
            (b"\xf0\x00123456789012345", b"123456789012345"),
            (b"\x13a\x01\x00\x50bcdef", b"aaaaaaaabcdef"),
            (b"\x1fa\x01\x00\x00\x50bcdef", b"aaaaaaaaaaaaaaaaaaaabcdef"),
            (&long, &run),
        ];
        for (first, one) in cases {
            for (second, two) in cases {
                for (third, three) in cases {
                    let all = splice(&[(b"", first), (b"\n\x05", second), (b"xyz", third)]);
                    let content = [one, b"\n\x05", two, b"xyz", three].concat();
                    assert_eq!(decompress(&all, content.len()).unwrap(), content);
                    check(&all).unwrap();
                }
            }
        }
        assert_eq!(BlockWriter::default().finish(), b"\x00");
    }

    #[test]
    fn encodes_literal_counts_at_length_boundaries() {
        for count in [14, 15, 16, 269, 270, 271, 524, 525, 70_000] {
            let literals = vec![b'l'; count];
            let all = splice(&[(&literals, b"\x00")]);
            assert_eq!(decompress(&all, count).unwrap(), literals);
        }
    }

    #[test]
    fn rejects_invalid_blocks_and_appends_nothing() {
        let end = |literals, matched| InvalidBlock::End { literals, matched };
        let cases: [(&[u8], InvalidBlock); 9] = [
            (b"", InvalidBlock::Truncated),
            (b"\x10", InvalidBlock::Truncated),
            (b"\xf0", InvalidBlock::Truncated),
            (b"\xf0\xff", InvalidBlock::Truncated),
            (b"\x10a\x01", InvalidBlock::Truncated),
            // A match without a sequence after it, or with too few literals after it.
            (b"\x13a\x01\x00", InvalidBlock::Truncated),
            (b"\x13a\x01\x00\x00", end(0, 7)),
            (b"\x1fa\x01\x00\x09\x40bcde", end(4, 28)),
            (b"\x12a\x01\x00\x50bcdef", end(5, 6)),
        ];
        for (block, expected) in cases {
            let mut writer = BlockWriter::default();
            assert_eq!(writer.block(block), Err(expected), "{block:02x?}");
            assert_eq!(check(block), Err(expected));
            assert_eq!(writer.finish(), b"\x00");
        }
    }

    /// Generates compressible and incompressible bytes.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let words = proptest::collection::vec(0_usize..12, 0..400);
        let words = words.prop_map(|words| {
            let text =
                ["GET ", "/index", "200", " ", "10.0.0.", "1", "ab", "\n", "time=", "error ", "x", "y"];
            words.into_iter().flat_map(|word| text[word].bytes()).collect()
        });
        let random = proptest::collection::vec(any::<u8>(), 0..600);
        let run = (any::<u8>(), 0_usize..3000).prop_map(|(byte, count)| vec![byte; count]);
        prop_oneof![words, random, run]
    }

    proptest! {
        #[test]
        fn spliced_block_decompresses_to_concatenated_contents(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), content()), 1..8)
        ) {
            let blocks: Vec<_> = parts.iter().map(|(literals, content)| (literals, compress(content))).collect();
            let blocks: Vec<_> = blocks.iter().map(|(literals, block)| (&literals[..], &block[..])).collect();
            let all = splice(&blocks);
            let content = parts.iter().flat_map(|(literals, content)| [&literals[..], &content[..]]).collect::<Vec<_>>().concat();
            prop_assert_eq!(decompress(&all, content.len()).unwrap(), content);
            prop_assert!(check(&all).is_ok());
        }
    }
}

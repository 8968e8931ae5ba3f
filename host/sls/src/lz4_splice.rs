//! LZ4 blocks joined as they are: one block whose content is that of many, with bytes of one's own in between.
//!
//! A block is a row of sequences, each of some literals and a match, which repeats bytes from so many before it. The
//! last sequence has literals only. As matches count backwards, a block means the same wherever it stands, save at
//! its two ends: its last literals, what is written in between and the first literals of the next block become the
//! literals of one sequence, with the next block's first match. All between the ends is copied without a look.
//!
//! # The end of a block
//! The format wants the last 5 bytes to be literals, and the last match to begin 12 bytes before the end at least.
//! Some decoders insist, the Rust one that checks a put doesn't, and a pull would hand such a block to a client that
//! then fails on the whole pull, again and again. So it is refused here: [`check`] it when it comes in, and compress
//! its content anew if it doesn't pass.

/// A block that can't be spliced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// It ends within a sequence, or has no byte at all.
    #[error(
        "the LZ4 block ends within a sequence. Check blocks by decompressing them before they are spliced"
    )]
    Truncated,
    /// A length in it is too large for memory.
    #[error(
        "a length in the LZ4 block is too large. Check blocks by decompressing them before they are spliced"
    )]
    Length,
    /// It ends in a way that some decoders refuse.
    #[error(
        "the LZ4 block ends with {literals} literals after a match of {matched} bytes, and the format wants 5 of 12 at least. Compress its content anew"
    )]
    End {
        /// How many literals its last sequence has.
        literals: usize,
        /// Length of the last match.
        matched: usize,
    },
}

/// Whether [`BlockWriter::block`] would take a block. What its matches repeat is not looked at: decompress it too.
///
/// # Errors
/// When it would not.
pub fn check(block: &[u8]) -> Result<(), InvalidBlock> {
    Ends::of(block).map(drop)
}

/// Writes a block out of literals and other blocks.
#[derive(Debug, Clone, Default)]
pub struct BlockWriter {
    block: Vec<u8>,
    /// What goes into the next sequence, in whose token their number stands.
    literals: Vec<u8>,
}

impl BlockWriter {
    /// A block with room for `bytes` of the blocks to come.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { block: Vec::with_capacity(bytes), literals: vec![] }
    }

    /// Adds `content`, as literals.
    pub fn literals(&mut self, content: &[u8]) {
        self.literals.extend_from_slice(content);
    }

    /// Adds the content of `block`.
    ///
    /// # Errors
    /// When it is no block or ends badly. Nothing was added then. A match that reaches back beyond the block is not
    /// found, and would repeat what was written before it.
    pub fn block(&mut self, block: &[u8]) -> Result<(), InvalidBlock> {
        match Ends::of(block)? {
            Ends { literals, rest: None } => self.literals(literals),
            Ends { literals, rest: Some(rest) } => {
                self.literals(literals);
                self.sequence_of_literals(rest.match_code);
                self.block.extend_from_slice(rest.from_first_offset);
                self.literals(rest.last_literals);
            }
        }
        Ok(())
    }

    /// The block.
    pub fn finish(mut self) -> Vec<u8> {
        self.sequence_of_literals(0);
        self.block
    }

    /// Writes the token of a sequence and all of its literals.
    fn sequence_of_literals(&mut self, match_code: u8) {
        let count = self.literals.len();
        if count < LONG {
            self.block.push((count as u8) << 4 | match_code);
        } else {
            self.block.push(0xf0 | match_code);
            let more = count - LONG;
            self.block.resize(self.block.len() + more / 255, 255);
            self.block.push((more % 255) as u8);
        }
        self.block.extend_from_slice(&self.literals);
        self.literals.clear();
    }
}

/// The length from which on it needs bytes behind the token.
const LONG: usize = 15;
/// The length of a match whose code is 0.
const SHORTEST_MATCH: usize = 4;
/// How many literals a block ends with at least, if it has matches.
const LAST_LITERALS: usize = 5;
/// How far before the end the last match begins at least.
const LAST_MATCH: usize = 12;

/// What of a block has to be known to put it among others.
struct Ends<'a> {
    /// Those of the first sequence.
    literals: &'a [u8],
    /// All after them; none if the first sequence is the last.
    rest: Option<Rest<'a>>,
}

struct Rest<'a> {
    /// The lower half of the first token.
    match_code: u8,
    /// From the first match's offset up to the last sequence.
    from_first_offset: &'a [u8],
    last_literals: &'a [u8],
}

impl<'a> Ends<'a> {
    fn of(block: &'a [u8]) -> Result<Self, InvalidBlock> {
        let mut walk = Walk { block, at: 0 };
        let first = walk.literals()?;
        let literals = walk.slice(first.begin, walk.at)?;
        if walk.is_at_end() {
            return Ok(Self { literals, rest: None });
        }
        let first_offset = walk.at;
        let mut matched = walk.matched(first.token)?;
        loop {
            let last = walk.at;
            let Literals { token, begin } = walk.literals()?;
            if !walk.is_at_end() {
                matched = walk.matched(token)?;
                continue;
            }
            let last_literals = walk.slice(begin, walk.at)?;
            let count = last_literals.len();
            if count < LAST_LITERALS || count.saturating_add(matched) < LAST_MATCH {
                return Err(InvalidBlock::End { literals: count, matched });
            }
            let from_first_offset = walk.slice(first_offset, last)?;
            let rest = Rest { match_code: first.token & 15, from_first_offset, last_literals };
            return Ok(Self { literals, rest: Some(rest) });
        }
    }
}

/// Goes from sequence to sequence, and looks at lengths only.
struct Walk<'a> {
    block: &'a [u8],
    at: usize,
}

/// The token of a sequence, and where its literals begin; they end where the walk is.
struct Literals {
    token: u8,
    begin: usize,
}

impl<'a> Walk<'a> {
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
        // Past the end nothing is read, but the last sequence must end right there.
        if self.at > self.block.len() { Err(InvalidBlock::Truncated) } else { Ok(Literals { token, begin }) }
    }

    /// The length of the match that is next.
    #[inline(always)]
    fn matched(&mut self, token: u8) -> Result<usize, InvalidBlock> {
        // Its offset, two bytes, which stay what they are.
        self.at += 2;
        Ok(self.length(token & 15)?.saturating_add(SHORTEST_MATCH))
    }

    #[inline(always)]
    fn length(&mut self, code: u8) -> Result<usize, InvalidBlock> {
        let mut length = usize::from(code);
        if length == LONG {
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
    fn corner_blocks_are_joined() {
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
    fn literals_around_the_lengths_of_lengths_are_counted_right() {
        for count in [14, 15, 16, 269, 270, 271, 524, 525, 70_000] {
            let literals = vec![b'l'; count];
            let all = splice(&[(&literals, b"\x00")]);
            assert_eq!(decompress(&all, count).unwrap(), literals);
        }
    }

    #[test]
    fn what_is_no_block_is_refused_and_adds_nothing() {
        let end = |literals, matched| InvalidBlock::End { literals, matched };
        let cases: [(&[u8], InvalidBlock); 9] = [
            (b"", InvalidBlock::Truncated),
            (b"\x10", InvalidBlock::Truncated),
            (b"\xf0", InvalidBlock::Truncated),
            (b"\xf0\xff", InvalidBlock::Truncated),
            (b"\x10a\x01", InvalidBlock::Truncated),
            // A match without a sequence behind it, or with too little in it.
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

    /// Bytes that compress, and some that don't.
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
        fn spliced_blocks_are_the_block_of_their_contents(
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

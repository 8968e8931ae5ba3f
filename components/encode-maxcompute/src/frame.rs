//! The framing of Arrow blocks: chunks of one size, each followed by its checksum, and the checksum of everything at the
//! end.

use crc32c::{crc32c_append, crc32c_combine};

/// The size of a chunk, in bytes.
const CHUNK: usize = 65_536;

/// Cuts a stream into chunks.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// True after the first byte of the stream. The chunk size precedes it.
    begun: bool,
    /// The checksum of the open chunk, and its length.
    chunk: (u32, usize),
    /// The checksum of all complete chunks.
    complete: u32,
}

impl Frame {
    /// Appends the next bytes of the stream, framed.
    pub(crate) fn write(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len() + bytes.len() / CHUNK * 4 + 16);
        if !self.begun && !bytes.is_empty() {
            out.extend_from_slice(&(CHUNK as u32).to_be_bytes());
            self.begun = true;
        }
        while !bytes.is_empty() {
            let (checksum, length) = &mut self.chunk;
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - *length));
            out.extend_from_slice(now);
            *checksum = crc32c_append(*checksum, now);
            *length += now.len();
            bytes = rest;
            if *length == CHUNK {
                out.extend_from_slice(&checksum.to_be_bytes());
                self.complete = self.whole();
                self.chunk = (0, 0);
            }
        }
    }

    /// Returns the checksum that ends the stream.
    pub(crate) fn finish(self) -> [u8; 4] {
        self.whole().to_be_bytes()
    }

    /// The checksum of all bytes. It follows from those of the chunks, so that each byte is summed once.
    fn whole(&self) -> u32 {
        crc32c_combine(self.complete, self.chunk.0, self.chunk.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(bytes: &[u8], cut: usize) -> Vec<u8> {
        let (mut frame, mut out) = (Frame::default(), vec![]);
        bytes.chunks(cut.max(1)).for_each(|part| frame.write(part, &mut out));
        out.extend(frame.finish());
        out
    }

    #[test]
    fn each_chunk_and_the_whole_have_checksums() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut expected = if length > 0 { 65_536u32.to_be_bytes().to_vec() } else { vec![] };
            for chunk in bytes.chunks(CHUNK) {
                expected.extend_from_slice(chunk);
                if chunk.len() == CHUNK {
                    expected.extend(crc32c::crc32c(chunk).to_be_bytes());
                }
            }
            expected.extend(crc32c::crc32c(&bytes).to_be_bytes());
            for cut in [length, 1_000, 65_535] {
                assert!(framed(&bytes, cut) == expected, "{length} bytes in parts of {cut}");
            }
        }
    }
}

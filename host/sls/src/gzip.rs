//! Reads gzip data.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Decompresses the members of gzip data, and skips zero bytes after them, as tapes and some tools add them.
#[derive(Debug)]
pub struct GzipMembers<R> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    /// Creates a reader of data that begins with a member.
    pub fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let source = self.member.take().map(GzDecoder::into_inner);
            self.member = source.map_or(Ok(None), next_member)?;
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut source: R) -> io::Result<Option<GzDecoder<R>>> {
    loop {
        let bytes = source.fill_buf()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            None if bytes.is_empty() => return Ok(None),
            None => {}
            Some(0x1f) => {
                source.consume(zeros);
                return Ok(Some(GzDecoder::new(source)));
            }
            Some(_) => {
                let message = "the data after its last gzip member is not gzip";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        source.consume(zeros);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Returns what was read, and the error.
    fn read(bytes: &[u8]) -> (String, Option<String>) {
        // Parts of two bytes, as a pipe may give them.
        let source = io::BufReader::with_capacity(2, bytes);
        let mut text = vec![];
        let error = GzipMembers::new(source).read_to_end(&mut text).err().map(|error| error.to_string());
        (String::from_utf8(text).unwrap(), error)
    }

    #[test]
    fn reads_members_and_padding() {
        let members = [zipped(b"a"), zipped(b""), zipped(b"b")].concat();
        assert_eq!(read(&members), ("ab".into(), None));
        assert_eq!(read(&[&members[..], &[0; 1000]].concat()), ("ab".into(), None));
        assert_eq!(read(&[&members[..], &[0; 3], &zipped(b"c")].concat()), ("abc".into(), None));
    }

    #[test]
    fn returns_everything_before_the_damage() {
        let members = [zipped(b"a"), zipped(b"bbb")].concat();
        let (text, error) = read(&members[..members.len() - 9]);
        assert!(text.starts_with('a') && error.is_some(), "{text} {error:?}");
        let (text, error) = read(&[&members[..], b"garbage"].concat());
        assert_eq!((&text[..], error.is_some()), ("abbb", true));
    }
}

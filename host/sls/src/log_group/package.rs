use super::reader::Reader;
use super::{Malformed, Reason};
use crate::compression::{Compression, DecompressError};

/// A separately compressed log group in loongcollector's package list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package<'a> {
    /// The compressed group.
    pub data: &'a [u8],
    /// Uncompressed size, in bytes. Optional for an uncompressed group.
    pub raw_size: Option<u32>,
    /// The compression. The default is LZ4.
    pub compression: Compression,
}

impl Package<'_> {
    /// Decompresses the group. Without `raw_size`, the size of the data is the expected size.
    ///
    /// # Errors
    /// Fails like [`Compression::decompress`].
    pub fn decompress(&self, limit: usize) -> Result<Vec<u8>, DecompressError> {
        let raw_size = self.raw_size.map_or(self.data.len(), |size| size as usize);
        self.compression.decompress(self.data, raw_size, limit)
    }
}

/// Iterates over an SlsLogPackageList, the body of a put with `x-log-mode: batch_group`.
pub fn packages(list: &[u8]) -> Packages<'_> {
    Packages { list: Reader::new(list), failed: false }
}

/// An iterator over the packages of a list, from [`packages`]. Ends after an error.
#[derive(Debug, Clone)]
pub struct Packages<'a> {
    list: Reader<'a>,
    failed: bool,
}

impl<'a> Iterator for Packages<'a> {
    type Item = Result<Package<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let package = self.package().transpose();
        self.failed = matches!(package, Some(Err(_)));
        package
    }
}

impl<'a> Packages<'a> {
    fn package(&mut self) -> Result<Option<Package<'a>>, Malformed> {
        while !self.list.is_at_end() {
            match self.list.tag()? {
                0x0a => return read(self.list.message()?).map(Some),
                tag => self.list.unknown(tag, 1)?,
            }
        }
        Ok(None)
    }
}

fn read(mut package: Reader<'_>) -> Result<Package<'_>, Malformed> {
    let begin = package.offset();
    let (mut data, mut raw_size, mut compression) = (None, None, Compression::Lz4);
    while !package.is_at_end() {
        match package.tag()? {
            0x0a => data = Some(package.bytes()?),
            0x10 => raw_size = Some(size(&mut package)?),
            0x18 => compression = compression_of(&mut package)?,
            tag => package.unknown(tag, 3)?,
        }
    }
    let missing = Reason::Missing { message: "SlsLogPackage", field: "data" };
    let data = data.ok_or(Malformed { offset: begin, reason: missing })?;
    Ok(Package { data, raw_size, compression })
}

/// Reads a size: a signed number on the wire that must not be negative.
fn size(package: &mut Reader<'_>) -> Result<u32, Malformed> {
    let offset = package.offset();
    let size = package.varint()?;
    let fits = u32::try_from(size).ok().filter(|size| *size <= i32::MAX as u32);
    fits.ok_or(Malformed { offset, reason: Reason::Size { size } })
}

fn compression_of(package: &mut Reader<'_>) -> Result<Compression, Malformed> {
    let offset = package.offset();
    match package.varint()? {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Deflate),
        2 => Ok(Compression::Lz4),
        3 => Ok(Compression::Zstd),
        number => Err(Malformed { offset, reason: Reason::Compression { number } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_packages_with_defaults() {
        let list = b"\x0a\x02\x0a\x00\x0a\x07\x0a\x01d\x10\x01\x18\x00\x78\x01\x0a\x04\x18\x03\x0a\x00";
        let found: Vec<_> = packages(list).map(Result::unwrap).collect();
        let expected = [
            Package { data: b"", raw_size: None, compression: Compression::Lz4 },
            Package { data: b"d", raw_size: Some(1), compression: Compression::None },
            Package { data: b"", raw_size: None, compression: Compression::Zstd },
        ];
        assert_eq!(found, expected);
        assert_eq!(found[1].decompress(1).unwrap(), b"d");
    }

    #[test]
    fn rejects_malformed_packages() {
        let minus_one = b"\x0a\x0d\x0a\x00\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let cases: [(&[u8], Reason); 4] = [
            (b"\x0a\x00", Reason::Missing { message: "SlsLogPackage", field: "data" }),
            (b"\x0a\x04\x0a\x00\x18\x09", Reason::Compression { number: 9 }),
            (minus_one, Reason::Size { size: u64::MAX }),
            (b"\x0a\x02\x18", Reason::Length),
        ];
        for (list, reason) in cases {
            let found: Vec<_> = packages(list).collect();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].map_err(|malformed| malformed.reason), Err(reason));
        }
    }
}

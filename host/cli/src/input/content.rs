//! Tells by the first bytes what a file holds. Names tell little: rotation changes them.

use logship_batch::utf16::Endian;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Text, or nothing.
    Text,
    Utf16(Endian),
    Gzip,
    Zstd,
    /// Data without lines: its name, and what to do.
    Foreign(&'static str, &'static str),
}

/// The number of first bytes that tell the content.
pub(super) const HEAD_BYTES: usize = 512;

/// The first bytes of formats that hold no lines.
const FOREIGN: [(&[u8], Content); 17] = [
    (b"BZh", Content::Foreign("bzip2 data", "bzcat")),
    (b"\xfd7zXZ\0", Content::Foreign("xz data", "xzcat")),
    (b"PK\x03\x04", Content::Foreign("a zip archive", "unzip -p")),
    (b"PK\x05\x06", Content::Foreign("an empty zip archive", "unzip -p")),
    (b"7z\xbc\xaf\x27\x1c", Content::Foreign("a 7z archive", "7z x -so")),
    (b"\x04\x22\x4d\x18", Content::Foreign("lz4 data", "lz4cat")),
    (b"LZIP", Content::Foreign("lzip data", "lzip -dc")),
    (b"\x1f\x9d", Content::Foreign("compress data", "zcat")),
    (b"\xff\x06\0\0sNaPpY", Content::Foreign("snappy data", "snzip -dc")),
    (b"\xff\xfe\0\0", Content::Foreign("UTF-32 text", "iconv -f UTF-32 -t UTF-8")),
    (b"\0\0\xfe\xff", Content::Foreign("UTF-32 text", "iconv -f UTF-32 -t UTF-8")),
    (b"LPKSHHRH", Content::Foreign("a systemd journal", "journalctl -o json --file")),
    (b"PAR1", Content::Foreign("a Parquet file", "")),
    (b"Obj\x01", Content::Foreign("an Avro file", "")),
    (b"SQLite format 3\0", Content::Foreign("an SQLite database", "")),
    (b"\x7fELF", Content::Foreign("a program", "")),
    (b"\x89PNG", Content::Foreign("an image", "")),
];

impl Content {
    pub(super) fn of(head: &[u8]) -> Self {
        let foreign = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic));
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame of data, or a frame to skip before it, as pzstd writes.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            // Text can begin with BZh.
            [b'B', b'Z', b'h', rest @ ..]
                if rest.get(1..4) != Some(b"1AY") && rest.get(1..4) != Some(b"\x17rE") =>
            {
                Self::Text
            }
            _ if let Some((_, foreign)) = foreign => *foreign,
            _ if head.get(257..262) == Some(b"ustar") => Self::Foreign("a tar archive", "tar -xOf"),
            _ => Endian::detect(head).map_or_else(|| without_zeros(head), Self::Utf16),
        }
    }

    /// Returns the reason not to read data that holds no lines.
    pub(super) fn reason(self) -> Option<String> {
        match self {
            Self::Foreign(name, "") => Some(format!("{name}, which has no lines of logs")),
            Self::Foreign(name, command) => {
                Some(format!("{name}: read it with a command such as {command}, and pipe it to logship"))
            }
            _ => None,
        }
    }
}

/// Tells text from data that is no text.
fn without_zeros(head: &[u8]) -> Content {
    let start = head.iter().position(|&byte| byte != 0).unwrap_or(0);
    // After a crash, a file has zero bytes before or after its lines, but none within the first one.
    let text = &head[start..];
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let zero = line.iter().position(|&byte| byte == 0);
    match zero {
        Some(zero) if line[zero..].iter().any(|&byte| byte != 0) && !line.starts_with(b"{") => {
            Content::Foreign("binary data", "")
        }
        _ => Content::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_content_by_first_bytes() {
        let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
        let cases: [(&[u8], &str); 19] = [
            (b"", "text"),
            (b"{\"a\":1}\n\0\0\0", "text"),
            (b"\0\0\0\0{\"a\":1}\n", "text"),
            (b"\0\0\0\0", "text"),
            (b"BZhou\n", "text"),
            (b"\xef\xbb\xbf{}", "text"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"{\0\"\0a\0\"\0:\0", "UTF-16"),
            (b"\0{\0\"\0a\0\"\0:\x01\x02", "UTF-16"),
            (b"BZh91AY&SY", "bzip2 data: read it with a command such as bzcat, and pipe it to logship"),
            (b"\xfd7zXZ\0", "xzcat"),
            (b"PK\x03\x04", "unzip -p"),
            (b"PAR1", "a Parquet file, which has no lines of logs"),
            (b"\x07\0\0\0\x01\x02\0\0", "binary data"),
            (&tar, "tar -xOf"),
            (b"\x1f\x8b", "gzip"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"\x50\x2a\x4d\x18\x04\0\0\0", "zstd"),
        ];
        for (head, expected) in cases {
            let content = Content::of(head);
            let found = match content {
                Content::Text => "text".to_owned(),
                Content::Utf16(_) => "UTF-16".into(),
                Content::Gzip => "gzip".into(),
                Content::Zstd => "zstd".into(),
                Content::Foreign(..) => content.reason().unwrap(),
            };
            assert!(found.contains(expected), "{head:?}: {found} should contain {expected}");
        }
    }
}

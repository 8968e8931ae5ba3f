//! Decodes bodies: compression and UTF-16.

use std::io::Read;

use flate2::read::ZlibDecoder;
use logship_batch::utf16::{Endian, Utf16Decoder};
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::gzip::GzipMembers;

/// Returns the order of bytes that the charset of a content type says, if it is UTF-16: none if the text itself tells.
pub(super) fn charset(content_type: &str) -> Option<Option<Endian>> {
    let is_charset = |parameter: &&str| parameter.trim_start().to_ascii_lowercase().starts_with("charset=");
    let parameter = content_type.split(';').skip(1).find(is_charset)?;
    let (_, name) = parameter.split_once('=')?;
    match name.trim().trim_matches('"').to_ascii_lowercase().as_str() {
        "utf-16" | "utf16" => Some(None),
        "utf-16le" | "utf16le" => Some(Some(Endian::Little)),
        "utf-16be" | "utf16be" => Some(Some(Endian::Big)),
        _ => None,
    }
}

/// Converts a body in UTF-16, up to `limit` bytes. The text tells the order of bytes better than the charset.
pub(super) fn to_utf8(
    body: Vec<u8>,
    charset: Option<Option<Endian>>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let endian = Endian::detect(&body).or(charset.map(|endian| endian.unwrap_or(Endian::Big)));
    let Some(endian) = endian else { return Ok(body) };
    let (mut decoder, mut text) = (Utf16Decoder::new(endian), vec![]);
    for part in body.chunks(1 << 16) {
        decoder.decode(part, &mut text);
        check_size(&text, limit)?;
    }
    decoder.finish(&mut text);
    Ok(text)
}

fn check_size(body: &[u8], limit: usize) -> Result<(), ApiError> {
    if body.len() <= limit {
        return Ok(());
    }
    let message = format!("the body exceeds {limit} bytes after decompression: send smaller requests");
    Err(ApiError::new(ErrorCode::PostBodyTooLarge, message))
}

/// The largest zstd window: 16 MiB, as a power of two.
const ZSTD_WINDOW: u32 = 24;

/// Returns the encoding of a body: its `Content-Encoding`, or the compression that its first bytes tell if the sender
/// forgot the header. No text begins like them.
pub(super) fn encoding<'a>(header: Option<&'a str>, body: &[u8]) -> &'a str {
    match (header.map(str::trim).filter(|header| !header.is_empty()), body) {
        (Some(header), _) => header,
        (None, [0x1f, 0x8b, 0x08, ..]) => "gzip",
        (None, [0x28, 0xb5, 0x2f, 0xfd, ..]) => "zstd",
        _ => "",
    }
}

/// Decompresses a body by its `Content-Encoding`, up to `limit` bytes.
pub(super) fn decode(body: &[u8], encoding: &str, limit: usize) -> Result<Vec<u8>, ApiError> {
    let invalid = |error: std::io::Error| {
        ApiError::new(
            ErrorCode::PostBodyUncompressError,
            format!("the body is not valid {encoding}: {error}"),
        )
    };
    let reader: Box<dyn Read> = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Box::new(body),
        _ if body.is_empty() => Box::new(body),
        "gzip" | "x-gzip" => Box::new(GzipMembers::new(body)),
        "deflate" => Box::new(ZlibDecoder::new(body)),
        "zstd" => {
            let mut decoder = zstd::Decoder::new(body).map_err(invalid)?;
            // A window larger than the body limit is never needed.
            decoder.window_log_max(ZSTD_WINDOW).map_err(invalid)?;
            Box::new(decoder)
        }
        other => {
            let message = format!("Content-Encoding {other} is not supported: use gzip, deflate or zstd");
            return Err(ApiError::new(ErrorCode::InvalidCompressType, message));
        }
    };
    let mut decoded = vec![];
    reader.take(limit as u64 + 1).read_to_end(&mut decoded).map_err(invalid)?;
    check_size(&decoded, limit)?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_utf_16() {
        let text = "{\"é\":\"😀\"}\r\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (mark, body, content_type) in [
            (&b"\xff\xfe"[..], &little, ""),
            (b"\xfe\xff", &big, "application/x-ndjson"),
            (b"\xff\xfe", &little, "application/json; charset=utf-8"),
            (b"", &little, "application/json; boundary=x; Charset=\"UTF-16LE\""),
            (b"", &big, "text/plain;charset=utf-16"),
            (b"", &little, ""),
        ] {
            let body = [mark, body.as_slice()].concat();
            let read = to_utf8(body, charset(content_type), 100).unwrap();
            assert_eq!(
                String::from_utf8(read).unwrap().trim_start_matches('\u{feff}'),
                text,
                "{content_type}"
            );
        }
        // By the charset alone: nothing in the text tells.
        let units = "日本語\n".encode_utf16();
        let body: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
        assert_eq!(to_utf8(body, charset("a/b; charset=UTF-16"), 100).unwrap(), "日本語\n".as_bytes());
        let body = "日".encode_utf16().cycle().take(1000).flat_map(u16::to_be_bytes).collect();
        assert!(to_utf8(body, Some(None), 2999).is_err(), "larger than its bytes");
        assert_eq!(to_utf8(text.into(), None, 100).unwrap(), text.as_bytes());
    }

    #[test]
    fn compression_is_told_by_header_or_first_bytes() {
        let gzip = [0x1f, 0x8b, 0x08, 0];
        assert_eq!(encoding(Some("zstd"), &gzip), "zstd");
        assert_eq!((encoding(None, &gzip), encoding(Some(" "), &gzip)), ("gzip", "gzip"));
        assert_eq!(encoding(None, b"\x28\xb5\x2f\xfd\x04"), "zstd");
        assert_eq!((encoding(None, b"{}"), encoding(None, b"")), ("", ""));
        assert_eq!(encoding(Some("identity"), &gzip), "identity");
    }

    #[test]
    fn rejects_decompression_bomb() {
        let mut bomb = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        std::io::copy(&mut std::io::repeat(b' ').take(50 << 20), &mut bomb).unwrap();
        let error = decode(&bomb.finish().unwrap(), "gzip", 1 << 20).unwrap_err();
        assert_eq!(error.code, ErrorCode::PostBodyTooLarge);
        assert_eq!(decode(b"x", "gzip", 100).unwrap_err().code, ErrorCode::PostBodyUncompressError);
        assert_eq!(decode(b"", "gzip", 100).unwrap(), b"");
        assert_eq!(decode(b"x", "br", 100).unwrap_err().code, ErrorCode::InvalidCompressType);
    }
}

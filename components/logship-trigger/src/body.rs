//! Parses the body of a call as batches.

use std::io::Read;

use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_batch::parser::{Parser, Settings};
use logship_batch::time::Time;
use logship_sls::compression::Compression;
use logship_sls::gzip::GzipMembers;
use logship_sls::log_group::{Malformed, groups};

use crate::problem::Problem;

/// The largest body as sent, in bytes. A function keeps the complete body in memory.
pub const MAX_BODY: usize = 16 << 20;

/// The largest decompressed body, in bytes.
pub const MAX_RAW_BODY: usize = 64 << 20;

/// The header with [`MAX_BODY`] in descriptions of a rule.
pub const MAX_BODY_BYTES: &str = "x-logship-max-body-bytes";

/// The header with [`MAX_RAW_BODY`] in descriptions of a rule.
pub const MAX_RAW_BYTES: &str = "x-logship-max-raw-bytes";

/// The size of the lines or log groups of a batch, in bytes. The host uses the same size.
const CHUNK: usize = 512 << 10;

/// A decompressed body and its type.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lines,
    LogGroup,
    LogGroupList,
}

impl Kind {
    fn of(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
        match parts.next()?.as_str() {
            "application/x-ndjson" | "application/json-lines" | "application/jsonl" => Some(Self::Lines),
            "application/x-protobuf" => {
                match parts.find_map(|part| Some(part.strip_prefix("message=")?.to_owned())) {
                    None => Some(Self::LogGroup),
                    Some(message) => match message.trim_matches('"') {
                        "loggroup" => Some(Self::LogGroup),
                        "loggrouplist" => Some(Self::LogGroupList),
                        _ => None,
                    },
                }
            }
            _ => None,
        }
    }
}

impl Body {
    /// Decompresses a body. The headers give its type (`Content-Type`) and its compression (`Content-Encoding: gzip` or
    /// `lz4`, or `x-log-compresstype` as in Log Service). LZ4 needs `x-log-bodyrawsize`.
    ///
    /// # Errors
    /// If the type or the compression is unknown, the body is too large, or the body is not valid.
    pub fn read(bytes: Vec<u8>, header: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let content_type = header("content-type").unwrap_or_default();
        let kind = Kind::of(&content_type).ok_or_else(|| {
            Problem::new(
                415,
                "unknown-type",
                format!("Content-Type is {content_type:?}: send application/x-ndjson, or application/x-protobuf (a LogGroup; with message=LogGroupList, a list)"),
            )
        })?;
        let encoding =
            header("content-encoding").or_else(|| header("x-log-compresstype")).unwrap_or_default();
        let raw_size = header("x-log-bodyrawsize");
        Ok(Self { bytes: decompress(bytes, &encoding, raw_size)?, kind })
    }

    /// Calls `take` with the logs in batches of about half a megabyte. Lines without a time get `default_time`.
    ///
    /// # Errors
    /// If a line or a log group is invalid, or if `take` fails. Earlier batches were already taken.
    pub fn for_each_batch(
        &self,
        default_time: Time,
        mut take: impl FnMut(LogBatch) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        match self.kind {
            Kind::Lines => lines(&self.bytes, default_time, &mut take),
            Kind::LogGroup => log_groups(std::iter::once(Ok(&*self.bytes)), &mut take),
            Kind::LogGroupList => log_groups(groups(&self.bytes), &mut take),
        }
    }

    /// Returns all batches.
    ///
    /// # Errors
    /// If a line or a log group is invalid.
    pub fn batches(&self, default_time: Time) -> Result<Vec<LogBatch>, Problem> {
        let mut batches = vec![];
        self.for_each_batch(default_time, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }
}

fn decompress(bytes: Vec<u8>, encoding: &str, raw_size: Option<String>) -> Result<Vec<u8>, Problem> {
    let too_large =
        || Problem::too_large(format!("the decompressed body has more than {MAX_RAW_BODY} bytes"));
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(bytes),
        "gzip" | "x-gzip" => {
            let mut raw = vec![];
            let mut reader = GzipMembers::new(&bytes[..]).take(MAX_RAW_BODY as u64 + 1);
            reader
                .read_to_end(&mut raw)
                .map_err(|error| Problem::bad_batch(format!("the body is not valid gzip: {error}")))?;
            if raw.len() > MAX_RAW_BODY { Err(too_large()) } else { Ok(raw) }
        }
        name => {
            let compression = match Compression::from_header(name) {
                Ok(compression @ (Compression::Lz4 | Compression::Deflate)) => compression,
                _ => {
                    let detail = format!(
                        "unknown compression {name:?} of the body: send it uncompressed, or use gzip or lz4"
                    );
                    return Err(Problem::new(415, "unknown-encoding", detail));
                }
            };
            let size = raw_size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| Problem::bad_call("x-log-bodyrawsize is missing or not a number: send the uncompressed size of the body in bytes"))?;
            if size > MAX_RAW_BODY {
                return Err(too_large());
            }
            compression
                .decompress(&bytes, size, MAX_RAW_BODY)
                .map_err(|error| Problem::bad_batch(error.to_string()))
        }
    }
}

/// The consumer of batches.
type Take<'a> = &'a mut dyn FnMut(LogBatch) -> Result<(), Problem>;

fn lines(text: &[u8], default_time: Time, take: Take) -> Result<(), Problem> {
    let settings = Settings { time_field: None, default_time, shards: 1, shard_field: String::new() };
    let mut parser = Parser::new(settings);
    let (mut start, mut lines_before) = (0, 0);
    while start < text.len() {
        let end = (start + CHUNK).min(text.len());
        let end = text[end..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| end + at + 1);
        let parsed = parser.parse(&text[start..end]);
        if let Some(reject) = parsed.rejects.first() {
            return Err(Problem::bad_batch(format!(
                "line {}: {}",
                lines_before + reject.line + 1,
                reject.reason
            )));
        }
        for (_, batch) in parsed.batches {
            take(batch)?;
        }
        lines_before += parsed.lines;
        start = end;
    }
    Ok(())
}

fn log_groups<'a>(
    groups: impl Iterator<Item = Result<&'a [u8], Malformed>>,
    take: Take,
) -> Result<(), Problem> {
    let mut builder = BatchBuilder::default();
    let mut bytes = 0;
    for (index, group) in groups.enumerate() {
        let invalid =
            |error: &dyn std::fmt::Display| Problem::bad_batch(format!("log group {}: {error}", index + 1));
        let group = group.map_err(|error| invalid(&error))?;
        builder.log_group(group).map_err(|error| invalid(&error))?;
        bytes += group.len();
        if bytes >= CHUNK {
            take(builder.take())?;
            bytes = 0;
        }
    }
    if builder.is_empty() { Ok(()) } else { take(builder.take()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;

    fn read(bytes: &[u8], headers: &[(&str, &str)]) -> Result<usize, u16> {
        let header = |name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let body = Body::read(bytes.to_vec(), header).map_err(|problem| problem.status)?;
        let batches = body.batches((1, 0)).map_err(|problem| problem.status)?;
        Ok(batches.iter().map(LogBatch::len).sum())
    }

    #[test]
    fn one_invalid_line_rejects_the_body() {
        let lines = ("content-type", "application/x-ndjson; charset=utf-8");
        assert_eq!(read(b"{\"a\":1}\n\n{\"b\":2}", &[lines]), Ok(2));
        assert_eq!(read(b"{\"a\":1}\nno\n", &[lines]), Err(400));
        assert_eq!(read(b"", &[lines]), Ok(0));
        let many = "{\"a\":\"0123456789\"}\n".repeat(100_000);
        assert_eq!(read(many.as_bytes(), &[lines]), Ok(100_000));
    }

    #[test]
    fn rejects_unknown_and_corrupt_bodies() {
        let lines = ("content-type", "application/x-ndjson");
        let group = ("content-type", "application/x-protobuf");
        let list = ("content-type", "application/x-protobuf; message=LogGroupList");
        assert_eq!(read(b"{}", &[]), Err(415));
        assert_eq!(read(b"{}", &[("content-type", "text/plain")]), Err(415));
        assert_eq!(read(b"{}", &[lines, ("content-encoding", "br")]), Err(415));
        assert_eq!(read(b"{}", &[lines, ("content-encoding", "gzip")]), Err(400));
        assert_eq!(read(b"{}", &[lines, ("content-encoding", "lz4")]), Err(400));
        let size = ("x-log-bodyrawsize", "2000000000");
        assert_eq!(read(b"{}", &[lines, ("x-log-compresstype", "lz4"), size]), Err(413));
        assert_eq!(read(b"\x0a\xff", &[group]), Err(400));
        assert_eq!(read(b"\x0a\xff", &[list]), Err(400));
        let gzip = |text: &[u8]| {
            let mut encoder = GzEncoder::new(vec![], flate2::Compression::fast());
            encoder.write_all(text).and_then(|()| encoder.finish()).unwrap()
        };
        let members = [gzip(b"{}\n"), gzip(b"{}\n"), vec![0; 9]].concat();
        assert_eq!(read(&members, &[lines, ("content-encoding", "gzip")]), Ok(2), "no member is lost");
        assert_eq!(read(&members[..members.len() - 12], &[lines, ("content-encoding", "gzip")]), Err(400));
        let packed = Compression::Lz4.compress(b"{}\n").unwrap();
        let raw = ("x-log-bodyrawsize", "3");
        assert_eq!(read(&packed, &[lines, ("content-encoding", "lz4"), raw]), Ok(1));
        assert_eq!(read(&packed, &[lines, ("x-log-compresstype", "LZ4"), raw]), Ok(1));
    }
}

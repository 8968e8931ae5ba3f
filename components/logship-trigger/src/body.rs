//! Batches from what was sent.

use std::io::Read;

use flate2::read::GzDecoder;
use logship_core::batch::{BatchBuilder, LogBatch};
use logship_core::ndjson::{Parser, Settings};
use logship_core::time::Time;
use logship_sls::compression::Compression;
use logship_sls::log_group::{Malformed, groups};

use crate::problem::Problem;

/// Bytes that a body may have on its way: a function has it in memory as a whole.
pub const MOST: usize = 16 << 20;

/// Bytes that it may have in the end.
pub const MOST_RAW: usize = 64 << 20;

/// Bytes of lines, or of log groups, that become a batch: some half a megabyte, as the host has it.
const CHUNK: usize = 512 << 10;

/// A body, and how it is to be read.
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
    /// Takes a body by its headers: what it is, and how it is compressed (`Content-Encoding: gzip` or `lz4`; or
    /// `x-log-compresstype` as Log Service has it). LZ4 needs `x-log-bodyrawsize`.
    ///
    /// # Errors
    /// When the headers say nothing that is known, the body is too large, or it is not what they say.
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

    /// Gives the logs to `take`, some half a megabyte of them at a time. `default_time` is that of lines without a
    /// time.
    ///
    /// # Errors
    /// When a line or a log group is none, or `take` refuses. Nothing is left out: what was taken before is not all.
    pub fn each(
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

    /// All of them.
    ///
    /// # Errors
    /// When a line or a log group is none.
    pub fn batches(&self, default_time: Time) -> Result<Vec<LogBatch>, Problem> {
        let mut batches = vec![];
        self.each(default_time, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }
}

fn decompress(bytes: Vec<u8>, encoding: &str, raw_size: Option<String>) -> Result<Vec<u8>, Problem> {
    let too_large =
        || Problem::too_large(format!("the body has more than {MOST_RAW} bytes when it is unpacked"));
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(bytes),
        "gzip" => {
            let mut raw = vec![];
            let mut reader = GzDecoder::new(&bytes[..]).take(MOST_RAW as u64 + 1);
            reader
                .read_to_end(&mut raw)
                .map_err(|error| Problem::bad_batch(format!("the body is no gzip: {error}")))?;
            if raw.len() > MOST_RAW { Err(too_large()) } else { Ok(raw) }
        }
        name => {
            let compression = match Compression::from_header(name) {
                Ok(compression @ (Compression::Lz4 | Compression::Deflate)) => compression,
                _ => {
                    let detail =
                        format!("the body is compressed by {name:?}: send it as it is, or by gzip or lz4");
                    return Err(Problem::new(415, "unknown-encoding", detail));
                }
            };
            let size = raw_size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| Problem::bad_call("x-log-bodyrawsize is missing or no number: the bytes of the body before it was compressed"))?;
            if size > MOST_RAW {
                return Err(too_large());
            }
            compression
                .decompress(&bytes, size, MOST_RAW)
                .map_err(|error| Problem::bad_batch(error.to_string()))
        }
    }
}

/// What takes the logs.
type Take<'a> = &'a mut dyn FnMut(LogBatch) -> Result<(), Problem>;

fn lines(text: &[u8], default_time: Time, take: Take) -> Result<(), Problem> {
    let settings = Settings { time_field: None, default_time, shards: 1, shard_field: String::new() };
    let mut parser = Parser::new(settings);
    let (mut begin, mut before) = (0, 0);
    while begin < text.len() {
        let end = (begin + CHUNK).min(text.len());
        let end = text[end..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| end + at + 1);
        let parsed = parser.parse(&text[begin..end]);
        if let Some(reject) = parsed.rejects.first() {
            return Err(Problem::bad_batch(format!("line {}: {}", before + reject.line + 1, reject.reason)));
        }
        for (_, batch) in parsed.batches {
            take(batch)?;
        }
        before += parsed.lines;
        begin = end;
    }
    Ok(())
}

fn log_groups<'a>(
    groups: impl Iterator<Item = Result<&'a [u8], Malformed>>,
    take: Take,
) -> Result<(), Problem> {
    let mut builder = BatchBuilder::default();
    let mut bytes = 0;
    for (number, group) in groups.enumerate() {
        let wrong =
            |error: &dyn std::fmt::Display| Problem::bad_batch(format!("log group {}: {error}", number + 1));
        let group = group.map_err(|error| wrong(&error))?;
        builder.log_group(group).map_err(|error| wrong(&error))?;
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
    fn lines_are_all_logs_or_none_is() {
        let lines = ("content-type", "application/x-ndjson; charset=utf-8");
        assert_eq!(read(b"{\"a\":1}\n\n{\"b\":2}", &[lines]), Ok(2));
        assert_eq!(read(b"{\"a\":1}\nno\n", &[lines]), Err(400));
        assert_eq!(read(b"", &[lines]), Ok(0));
        let many = "{\"a\":\"0123456789\"}\n".repeat(100_000);
        assert_eq!(read(many.as_bytes(), &[lines]), Ok(100_000));
    }

    #[test]
    fn what_is_unknown_or_damaged_is_refused() {
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
        let packed = Compression::Lz4.compress(b"{}\n").unwrap();
        let raw = ("x-log-bodyrawsize", "3");
        assert_eq!(read(&packed, &[lines, ("content-encoding", "lz4"), raw]), Ok(1));
        assert_eq!(read(&packed, &[lines, ("x-log-compresstype", "LZ4"), raw]), Ok(1));
    }
}

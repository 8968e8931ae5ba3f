//! Logs as JSON, for senders without an SDK: `POST /ingest/PROJECT/LOGSTORE`.
//!
//! The body is NDJSON or one JSON array, as curl, Vector and Fluent Bit send it. A line that is no log is stored
//! all the same, as it came, in the field `__raw_log__`: a sender that is refused drops the whole body.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use logship_logstore::NewGroup;
use logship_sls::error::{ApiError, ErrorCode};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::json;
use sonic_rs::LazyValue;

use super::call::Call;
use super::put::{self, Route};
use super::reply::{Reply, refuse};
use super::{Service, blocking};
use crate::batch::{BatchBuilder, LogBatch, LogGroup};
use crate::log_group::log_groups;
use crate::ndjson::{Parser, Reject, Settings, is_deep};
use crate::time::Time;

/// The field with a line that is no log, and the one with the reason.
const RAW_LOG: &str = "__raw_log__";
const PARSE_ERROR: &str = "__parse_error__";

/// Stores the logs of a body of JSON.
pub(crate) async fn ingest(
    service: &Service,
    call: &Call,
    project: &str,
    logstore: &str,
) -> Result<Reply, ApiError> {
    service.store.catalog().logstore(project, logstore).map_err(refuse)?;
    let route = Route::of(call)?;
    let now = (service.store_clock)();
    let now = ((now / 1_000_000).try_into().unwrap_or(u32::MAX), (now % 1_000_000) as u32 * 1000);
    let settings = Settings {
        time_field: call.query.get("time_field").map(str::to_owned),
        default_time: now,
        shards: 1,
        shard_field: String::new(),
    };
    let strict = call.query.get("strict").is_some_and(|strict| strict != "false");
    let encoding = call.header("content-encoding").unwrap_or_default().to_owned();
    let (body, source) = (call.body.clone(), call.peer.to_string());
    let limit = service.config.limits.group_bytes;
    let room = service.unpacked.take(if encoding.is_empty() { body.len() } else { limit }).await?;
    let read = move || {
        // Also when the client goes away meanwhile.
        let _room = room;
        read(&decode(&body, &encoding, limit)?, settings, strict, now, &source)
    };
    let read = blocking(read).await?;
    put::store(service, project, logstore, &route, read.groups).await?;
    Ok(Reply::json(&json!({ "accepted": read.accepted, "malformed": read.malformed })))
}

#[derive(Default)]
struct Ingested {
    groups: Vec<NewGroup>,
    accepted: usize,
    malformed: usize,
}

fn read(
    body: &[u8],
    settings: Settings,
    strict: bool,
    now: Time,
    source: &str,
) -> Result<Ingested, ApiError> {
    let array = body.trim_ascii_start().starts_with(b"[").then(|| elements(body));
    let elements = match array {
        Some(Err(error)) if strict => return Err(invalid(format!("{error}; nothing was stored"))),
        Some(Ok(elements)) => Some(elements),
        // Lines of text can begin like an array; they are kept as any that is no log.
        Some(Err(_)) | None => None,
    };
    let mut parser = Parser::new(settings);
    let mut read = Ingested::default();
    let mut lines_before = 0;
    for block in blocks(elements.as_deref().unwrap_or(body)) {
        let parsed = parser.parse(block);
        if let Some(reject) = parsed.rejects.first().filter(|_| strict) {
            let line = lines_before + reject.line + 1;
            return Err(invalid(format!("line {line}: {}; nothing was stored", reject.reason)));
        }
        lines_before += parsed.lines;
        read.malformed += parsed.rejects.len();
        let kept = (!parsed.rejects.is_empty()).then(|| keep(&parsed.rejects, now));
        for batch in parsed.batches.iter().map(|(_, batch)| batch).chain(&kept) {
            read.accepted += batch.len();
            for group in log_groups(batch, source) {
                read.groups.extend(put::stored(group)?);
            }
        }
        put::check_count(read.groups.len())?;
    }
    Ok(read)
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::PostBodyInvalid, message)
}

/// What becomes one log group at most for each source and topic.
const BLOCK_BYTES: usize = 512 << 10;
const BLOCK_LINES: usize = 8192;

/// Blocks of whole lines. A short line takes more in a log group than in the body, so they are counted too.
fn blocks(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut ends = memchr::memchr_iter(b'\n', lines).enumerate();
        let full = ends.find(|&(line, end)| line + 1 >= BLOCK_LINES || end + 1 >= BLOCK_BYTES);
        let end = full.map_or(lines.len(), |(_, end)| end + 1);
        let (block, rest) = lines.split_at(end);
        lines = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// The elements of an array as lines.
fn elements(body: &[u8]) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(body).map_err(|error| error.to_string())?;
    // The reader recurses.
    if is_deep(text) {
        return Err("values are nested too deep".into());
    }
    let mut array = sonic_rs::Deserializer::from_str(text);
    let lines = array.deserialize_seq(Lines).map_err(|error| format!("the array is no JSON: {error}"))?;
    array.end().map_err(|_| "something follows the array".to_owned())?;
    Ok(lines)
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of logs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<u8>, A::Error> {
        let mut lines = vec![];
        while let Some(element) = array.next_element::<LazyValue<'de>>()? {
            // Within a string of JSON there is no line break, and elsewhere it is as good as a space.
            let plain = |&byte: &u8| if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
            lines.extend(element.as_raw_str().as_bytes().iter().map(plain));
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

/// Lines that are no logs, as logs.
fn keep(rejects: &[Reject], (seconds, nanos): Time) -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
    for reject in rejects {
        builder.field(RAW_LOG, &reject.text);
        builder.field(PARSE_ERROR, reject.reason.as_bytes());
        builder.end_log(group, seconds, nanos);
    }
    builder.take()
}

/// The largest window of zstd, as a power of two: 16 MiB.
const ZSTD_WINDOW: u32 = 24;

/// Undoes the `Content-Encoding`, to no more than `limit` bytes.
fn decode(body: &[u8], encoding: &str, limit: usize) -> Result<Vec<u8>, ApiError> {
    let invalid = |error: std::io::Error| {
        ApiError::new(ErrorCode::PostBodyUncompressError, format!("the body is no {encoding}: {error}"))
    };
    let reader: Box<dyn Read> = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body)),
        "deflate" => Box::new(ZlibDecoder::new(body)),
        "zstd" => {
            let mut decoder = zstd::Decoder::new(body).map_err(invalid)?;
            // Senders that ask for more memory than they may send are none of ours.
            decoder.window_log_max(ZSTD_WINDOW).map_err(invalid)?;
            Box::new(decoder)
        }
        other => {
            let message = format!("Content-Encoding {other} is none of gzip, deflate, zstd");
            return Err(ApiError::new(ErrorCode::InvalidCompressType, message));
        }
    };
    let mut decoded = vec![];
    reader.take(limit as u64 + 1).read_to_end(&mut decoded).map_err(invalid)?;
    if decoded.len() > limit {
        let message = format!("the body has more than {limit} bytes uncompressed: send less at a time");
        return Err(ApiError::new(ErrorCode::PostBodyTooLarge, message));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use logship_sls::compression::Compression;
    use logship_sls::log_group::LogGroupView;

    use super::*;

    fn ingested(body: &str, strict: bool) -> Result<Vec<String>, ApiError> {
        let settings =
            Settings { time_field: None, default_time: (7, 0), shards: 1, shard_field: String::new() };
        let mut logs = vec![];
        for group in read(body.as_bytes(), settings, strict, (7, 0), "peer")?.groups {
            let size = group.size as usize;
            let raw = Compression::Lz4.decompress(&group.body, size, size).unwrap();
            let view = LogGroupView::parse(&raw).unwrap();
            let source = String::from_utf8_lossy(view.source()).into_owned();
            for log in view.logs() {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let fields: Vec<_> =
                    log.fields().map(|(key, value)| text(key) + "=" + &text(value)).collect();
                logs.push(format!("{source} {} {}", log.time(), fields.join(",")));
            }
        }
        Ok(logs)
    }

    #[test]
    fn lines_and_arrays_are_the_same() {
        let expected = ["peer 7 a=1", "peer 9 b={\"c\": [1,  2]}"];
        assert_eq!(ingested("{\"a\":1}\n{\"__time__\":9,\"b\":{\"c\": [1,  2]}}", true).unwrap(), expected);
        assert_eq!(
            ingested(" [{\"a\":1},\n{\"__time__\":9,\"b\":{\"c\": [1, \n2]}}\n]", true).unwrap(),
            expected
        );
        assert_eq!(ingested("", true).unwrap(), Vec::<String>::new());
        assert_eq!(ingested("[]", true).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_line_that_is_no_log_is_kept() {
        let logs = ingested("{\"a\":1}\noops\n", false).unwrap();
        assert_eq!(logs.len(), 2);
        assert!(logs[1].starts_with("peer 7 __raw_log__=oops,__parse_error__="), "{}", logs[1]);
        let refused = ingested("{\"a\":1}\noops\n", true).unwrap_err();
        assert!(refused.to_string().starts_with("PostBodyInvalid: line 2: "), "{refused}");
        assert!(ingested("[{\"a\":1},", true).is_err(), "a cut array");
        let logs = ingested("[2024-01-01] started\n{\"a\":1}\n", false).unwrap();
        assert_eq!(logs[0], "peer 7 a=1");
        assert!(logs[1].starts_with("peer 7 __raw_log__=[2024-01-01] started"), "{}", logs[1]);
        assert_eq!(ingested("[{\"a\":1}]\n[{\"a\":2}]", false).unwrap().len(), 2, "nothing is passed over");
    }

    #[test]
    fn what_is_nested_deep_or_has_many_lines_takes_no_more_than_it_may() {
        let deep = "[".repeat(1 << 20);
        assert!(ingested(&deep, true).is_err());
        assert_eq!(ingested(&deep, false).unwrap().len(), 1, "a line that is no log");
        let many = "x\n".repeat(100_000);
        let settings =
            Settings { time_field: None, default_time: (7, 0), shards: 1, shard_field: String::new() };
        let read = read(many.as_bytes(), settings, false, (7, 0), "peer").unwrap();
        assert_eq!((read.accepted, read.malformed), (100_000, 100_000));
        assert!(read.groups.iter().all(|group| group.size < 2 << 20 && group.logs <= BLOCK_LINES as u32));
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let mut bomb = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        std::io::copy(&mut std::io::repeat(b' ').take(50 << 20), &mut bomb).unwrap();
        let refused = decode(&bomb.finish().unwrap(), "gzip", 1 << 20).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PostBodyTooLarge);
        assert_eq!(decode(b"x", "gzip", 100).unwrap_err().code, ErrorCode::PostBodyUncompressError);
        assert_eq!(decode(b"x", "br", 100).unwrap_err().code, ErrorCode::InvalidCompressType);
    }
}

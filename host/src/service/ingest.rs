//! Logs as JSON, for senders without an SDK: `POST /ingest/PROJECT/LOGSTORE`.
//!
//! The body is NDJSON or one JSON array, as curl, Vector and Fluent Bit send it. A line that is no log is stored
//! all the same, as it came, in the field `__raw_log__`: a sender that is refused drops the whole body.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use logship_logstore::NewGroup;
use logship_sls::error::{ApiError, ErrorCode};
use serde_json::json;

use super::call::Call;
use super::put::{self, Route};
use super::reply::{Reply, refuse};
use super::{Service, blocking};
use crate::batch::{BatchBuilder, LogBatch, LogGroup};
use crate::log_group::log_groups;
use crate::ndjson::{Parser, Reject, Settings};
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
    let _room = service.unpacked.take(if encoding.is_empty() { body.len() } else { limit }).await?;
    let read = move || read(&decode(&body, &encoding, limit)?, settings, strict, now, &source);
    let read = blocking(read).await?;
    put::store(service, project, logstore, &route, read.groups).await?;
    Ok(Reply::json(&json!({ "accepted": read.accepted, "malformed": read.malformed })))
}

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
    let parsed = match body.trim_ascii_start() {
        array @ [b'[', ..] => Parser::new(settings).parse(&elements(array)?),
        lines => Parser::new(settings).parse(lines),
    };
    if let Some(reject) = parsed.rejects.first().filter(|_| strict) {
        let message = format!("line {}: {}; nothing was stored", reject.line + 1, reject.reason);
        return Err(ApiError::new(ErrorCode::PostBodyInvalid, message));
    }
    let malformed = parsed.rejects.len();
    let mut batches: Vec<LogBatch> = parsed.batches.into_iter().map(|(_, batch)| batch).collect();
    if malformed > 0 {
        batches.push(keep(&parsed.rejects, now));
    }
    let accepted = batches.iter().map(LogBatch::len).sum();
    let mut groups = vec![];
    for group in batches.iter().flat_map(|batch| log_groups(batch, source)) {
        groups.extend(put::stored(group)?);
    }
    Ok(Ingested { groups, accepted, malformed })
}

/// The elements of an array as lines.
fn elements(array: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut lines = Vec::with_capacity(array.len());
    for element in sonic_rs::to_array_iter(array) {
        let element = element.map_err(|error| {
            ApiError::new(
                ErrorCode::PostBodyInvalid,
                format!("the array is no JSON; nothing was stored: {error}"),
            )
        })?;
        // Within a string of JSON there is no line break, and elsewhere it is as good as a space.
        let plain = |&byte: &u8| if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
        lines.extend(element.as_raw_str().as_bytes().iter().map(plain));
        lines.push(b'\n');
    }
    Ok(lines)
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

/// Undoes the `Content-Encoding`, to no more than `limit` bytes.
fn decode(body: &[u8], encoding: &str, limit: usize) -> Result<Vec<u8>, ApiError> {
    let invalid = |error: std::io::Error| {
        ApiError::new(ErrorCode::PostBodyUncompressError, format!("the body is no {encoding}: {error}"))
    };
    let reader: Box<dyn Read> = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body)),
        "deflate" => Box::new(ZlibDecoder::new(body)),
        "zstd" => Box::new(zstd::Decoder::new(body).map_err(invalid)?),
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
        assert!(ingested("[{\"a\":1},", false).is_err(), "a cut array");
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

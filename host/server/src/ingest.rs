//! Ingests JSON logs from senders without an SDK: `POST /ingest/PROJECT/LOGSTORE`.
//!
//! The body is JSON: lines, one array, or objects in a row, as curl, Vector and Fluent Bit send it. With the query
//! parameter `input` it is text or CSV. A malformed line is stored unchanged in the field `__raw_log__`, because a sender
//! would drop the whole body after an error.

mod decoding;

use std::borrow::Cow;

use logship_logstore::{Logstore, NewGroup};
use logship_sls::error::{ApiError, ErrorCode};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::json;
use sonic_rs::LazyValue;

use crate::call::Call;
use crate::put;
use crate::put::Route;
use crate::put_id::UnfinishedId;
use crate::reply::Reply;
use crate::{Service, blocking};
use logship_batch::batch::{BatchBuilder, LogBatch, LogGroup};
use logship_batch::log_group::log_groups;
use logship_batch::parser::{Expected, Format, Parser, Reject, Settings, is_too_deep, values_to_lines};
use logship_batch::time::Time;
use logship_batch::utf16::Endian;

use self::decoding::{charset, decode, encoding, to_utf8};

/// The fields for a malformed line and the parse error.
const RAW_LOG: &str = "__raw_log__";
const PARSE_ERROR: &str = "__parse_error__";

/// Stores the logs of a JSON body.
pub(crate) async fn ingest(service: &Service, call: &Call, logstore: &Logstore) -> Result<Reply, ApiError> {
    let (route, id) = (Route::of(call)?, UnfinishedId::of(call)?);
    let now = (service.store_clock)();
    let now = ((now / 1_000_000).try_into().unwrap_or(u32::MAX), (now % 1_000_000) as u32 * 1000);
    let settings = Settings {
        time_field: call.query.get("time_field").map(str::to_owned),
        default_time: now,
        shards: 1,
        shard_field: String::new(),
    };
    let options = Options {
        strict: call.query.get("strict").is_some_and(|strict| strict != "false"),
        expected: expected(call.query.get("input").unwrap_or("json"))?,
        text_field: call.query.get("text_field").unwrap_or("message").to_owned(),
    };
    let encoding = encoding(call.header("content-encoding"), &call.body).to_owned();
    let charset = charset(call.header("content-type").unwrap_or_default());
    let (body, source) = (call.body.clone(), call.peer.to_string());
    let limit = service.config.limits.group_bytes;
    let has_size = encoding.is_empty() && charset.is_none() && Endian::detect(&body).is_none();
    let reservation = service.decompressed_budget.reserve(if has_size { body.len() } else { limit }).await?;
    let read = move || {
        // Held until the work ends, even if the client disconnects.
        let _reservation = reservation;
        let body = to_utf8(decode(&body, &encoding, limit)?, charset, limit)?;
        let read = read(&body, settings, &options, now, &source)?;
        Ok((read, id.map(|id| id.finish(&body))))
    };
    let (read, id) = blocking(read).await?;
    put::store(service, &call.key, logstore, &route, read.groups, id).await?;
    Ok(Reply::json(&json!({ "accepted": read.accepted, "malformed": read.malformed })))
}

#[derive(Default)]
struct Ingested {
    groups: Vec<NewGroup>,
    accepted: usize,
    malformed: usize,
}

/// The options of a request.
struct Options {
    /// Rejects a body with a malformed line.
    strict: bool,
    expected: Expected,
    /// The field for lines of text.
    text_field: String,
}

fn expected(input: &str) -> Result<Expected, ApiError> {
    match input {
        "json" => Ok(Expected::Json),
        "csv" => Ok(Expected::Csv),
        "text" => Ok(Expected::Text),
        "auto" => Ok(Expected::Auto),
        other => {
            let message = format!("the query parameter input is {other:?}: use json, csv, text or auto");
            Err(ApiError::new(ErrorCode::ParameterInvalid, message))
        }
    }
}

fn read(
    body: &[u8],
    settings: Settings,
    options: &Options,
    now: Time,
    source: &str,
) -> Result<Ingested, ApiError> {
    let (format, header, records) = records(body, options)?;
    let mut parser = Parser::new(settings);
    let mut read = Ingested::default();
    let mut lines_before = header;
    for block in blocks(&records, &format) {
        let parsed = parser.parse_as(&format, &options.text_field, block);
        if let Some(reject) = parsed.rejects.first().filter(|_| options.strict) {
            let line = lines_before + reject.line + 1;
            return Err(invalid(format!("line {line}: {}; nothing was stored", reject.reason)));
        }
        lines_before += parsed.lines;
        read.malformed += parsed.rejects.len();
        let malformed = (!parsed.rejects.is_empty()).then(|| rejects_to_logs(&parsed.rejects, now));
        for batch in parsed.batches.iter().map(|(_, batch)| batch).chain(&malformed) {
            read.accepted += batch.len();
            for group in log_groups(batch, source) {
                read.groups.extend(put::stored(group)?);
            }
        }
        put::check_count(read.groups.len())?;
    }
    Ok(read)
}

/// Returns the format of a body, the lines of its header, and its records after the header.
fn records<'a>(body: &'a [u8], options: &Options) -> Result<(Format, usize, Cow<'a, [u8]>), ApiError> {
    let detected = Format::detect(options.expected, body, true).map_err(invalid)?;
    let (format, header) = detected.unwrap_or((Format::JsonLines, 0));
    if matches!(format, Format::Csv(_) | Format::Text) {
        let lines = memchr::memchr_iter(b'\n', &body[..header]).count();
        return Ok((format, lines, body[header..].into()));
    }
    // The mark that some programs write at the beginning.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let lines = if text.trim_ascii_start().starts_with(b"[") {
        match elements(text) {
            Err(error) if options.strict => return Err(invalid(format!("{error}; nothing was stored"))),
            Ok(elements) => elements.into(),
            // A cut array, or objects after it: broken elements cost themselves alone.
            Err(_) if format == Format::JsonValues => values_to_lines(text).into(),
            // Text lines can start with `[` too. They are stored as malformed lines.
            Err(_) => text.into(),
        }
    } else if format == Format::JsonValues {
        values_to_lines(text).into()
    } else {
        text.into()
    };
    Ok((Format::JsonLines, 0, lines))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::PostBodyInvalid, message)
}

/// The largest block of lines. A block becomes one log group per source and topic.
const BLOCK_BYTES: usize = 512 << 10;
const BLOCK_LINES: usize = 8192;

/// Splits records into blocks, by bytes and by number: short lines take more space in a log group than in the body.
fn blocks<'a>(records: &'a [u8], format: &Format) -> Vec<&'a [u8]> {
    let mut rows = if let Format::Csv(header) = format { Some(header.scanner()) } else { None };
    let mut next = |from: usize| match &mut rows {
        Some(rows) => rows.next(records, from),
        None => memchr::memchr(b'\n', &records[from..]).map(|at| from + at + 1),
    };
    let (mut blocks, mut begin, mut end, mut count) = (vec![], 0, 0, 0);
    while let Some(record_end) = next(end) {
        (end, count) = (record_end, count + 1);
        if count >= BLOCK_LINES || end - begin >= BLOCK_BYTES {
            blocks.push(&records[begin..end]);
            (begin, count) = (end, 0);
        }
    }
    blocks.extend((begin < records.len()).then(|| &records[begin..]));
    blocks
}

/// Converts the elements of a JSON array to lines.
fn elements(body: &[u8]) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(body).map_err(|error| error.to_string())?;
    // The parser is recursive, so deep nesting would overflow the stack.
    if is_too_deep(text) {
        return Err("values are nested too deeply".into());
    }
    let mut array = sonic_rs::Deserializer::from_str(text);
    let lines =
        array.deserialize_seq(Lines).map_err(|error| format!("the array is not valid JSON: {error}"))?;
    array.end().map_err(|_| "there is data after the array".to_owned())?;
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
            // JSON strings have no line breaks. Elsewhere, a line break equals a space.
            let without_breaks = |&byte: &u8| if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
            lines.extend(element.as_raw_str().as_bytes().iter().map(without_breaks));
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

/// Converts malformed lines to logs.
fn rejects_to_logs(rejects: &[Reject], (seconds, nanos): Time) -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
    for reject in rejects {
        builder.field(RAW_LOG, &reject.text);
        builder.field(PARSE_ERROR, reject.reason.as_bytes());
        builder.end_log(group, seconds, nanos);
    }
    builder.take()
}

#[cfg(test)]
mod tests {
    use logship_sls::compression::Compression;
    use logship_sls::log_group::LogGroupView;

    use super::*;

    fn settings() -> Settings {
        Settings { time_field: None, default_time: (7, 0), shards: 1, shard_field: String::new() }
    }

    fn options(expected: Expected, strict: bool) -> Options {
        Options { strict, expected, text_field: "message".into() }
    }

    fn ingested(body: &str, strict: bool) -> Result<Vec<String>, ApiError> {
        ingested_as(Expected::Json, body, strict)
    }

    fn ingested_as(expected: Expected, body: &str, strict: bool) -> Result<Vec<String>, ApiError> {
        let mut logs = vec![];
        for group in read(body.as_bytes(), settings(), &options(expected, strict), (7, 0), "peer")?.groups {
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
    fn parses_lines_and_arrays_alike() {
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
    fn reads_json_that_is_not_lines() {
        let expected = ["peer 7 a=1", "peer 7 b={ \"c\": 2}"];
        for body in [
            "{\"a\":1}{\"b\":{ \"c\": 2}}",
            "\u{feff}{\n\"a\":1\n}\n{\"b\":{\n\"c\": 2}}",
            "\u{feff}[{\"a\":1},\n{\"b\":{\n\"c\": 2}}]",
        ] {
            assert_eq!(ingested(body, true).unwrap(), expected, "{body}");
        }
        let logs = ingested("{\n\"a\":1\n}\n{\n\"b\":}\n", false).unwrap();
        assert_eq!(logs[0], "peer 7 a=1");
        assert!(logs[1].starts_with("peer 7 __raw_log__={ \"b\":}"), "{}", logs[1]);
    }

    #[test]
    fn reads_utf_16() {
        let body = "{\"é\":\"😀\"}\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let text = String::from_utf8(to_utf8(body, None, 100).unwrap()).unwrap();
        assert_eq!(ingested(&text, true).unwrap(), ["peer 7 é=😀"]);
    }

    #[test]
    fn reads_text_and_csv_on_request() {
        let text = "Nov 30 host x\n\nlast";
        let expected = ["peer 7 message=Nov 30 host x", "peer 7 message=last"];
        assert_eq!(ingested_as(Expected::Text, text, true).unwrap(), expected);
        assert_eq!(ingested_as(Expected::Auto, text, true).unwrap(), expected);
        let csv = "__time__,host,note\n9,h,\"a\nb\"\n,i,\n";
        let expected = ["peer 9 host=h,note=a\nb", "peer 7 host=i"];
        assert_eq!(ingested_as(Expected::Csv, csv, true).unwrap(), expected);
        assert_eq!(ingested_as(Expected::Auto, csv, true).unwrap(), expected);
        let error = ingested_as(Expected::Csv, &format!("{csv}1,2"), true).unwrap_err();
        assert!(error.to_string().contains("line 5: the row has 2 fields"), "{error}");
        assert_eq!(super::expected("xml").unwrap_err().code, ErrorCode::ParameterInvalid);
    }

    #[test]
    fn keeps_malformed_lines() {
        let logs = ingested("{\"a\":1}\noops\n", false).unwrap();
        assert_eq!(logs.len(), 2);
        assert!(logs[1].starts_with("peer 7 __raw_log__=oops,__parse_error__="), "{}", logs[1]);
        let error = ingested("{\"a\":1}\noops\n", true).unwrap_err();
        assert!(error.to_string().starts_with("PostBodyInvalid: line 2: "), "{error}");
        assert!(ingested("[{\"a\":1},", true).is_err(), "a truncated array");
        let logs = ingested("[2024-01-01] started\n{\"a\":1}\n", false).unwrap();
        assert_eq!(logs[0], "peer 7 a=1");
        assert!(logs[1].starts_with("peer 7 __raw_log__=[2024-01-01] started"), "{}", logs[1]);
    }

    #[test]
    fn broken_array_costs_its_broken_elements_alone() {
        let logs = ingested("[{\"a\":1}, 5,\n{\"a\":2},{\"a\":", false).unwrap();
        assert_eq!(logs[..2], ["peer 7 a=1", "peer 7 a=2"]);
        assert!(
            logs[2].starts_with("peer 7 __raw_log__=5,") && logs[3].contains("__raw_log__={\"a\":,"),
            "{logs:?}"
        );
        let logs = ingested("[{\"a\":1}]\n[{\"a\":2}]{\"a\":3}", false).unwrap();
        assert_eq!(logs, ["peer 7 a=1", "peer 7 a=2", "peer 7 a=3"]);
    }

    #[test]
    fn bounds_deep_nesting_and_many_lines() {
        let deep = "[".repeat(1 << 20);
        assert!(ingested(&deep, true).is_err());
        assert_eq!(ingested(&deep, false).unwrap().len(), 1, "a malformed line");
        let many = "x\n".repeat(100_000);
        let read =
            read(many.as_bytes(), settings(), &options(Expected::Json, false), (7, 0), "peer").unwrap();
        assert_eq!((read.accepted, read.malformed), (100_000, 100_000));
        assert!(read.groups.iter().all(|group| group.size < 2 << 20 && group.logs <= BLOCK_LINES as u32));
    }
}

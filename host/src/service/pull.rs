//! Cursors, and pulling logs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use logship_logstore::{Limits, Shard};
use logship_sls::compression::Compression;
use logship_sls::cursor::Cursor;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::log_group::frame_header;
use logship_sls::lz4_splice::BlockWriter;
use serde_json::json;

use super::call::Call;
use super::reply::{Reply, refuse};
use super::room::Taken;
use super::{Service, blocking, metrics};
use crate::client::FIRST;

/// A reply gets no more groups once it has this many bytes. The consumers of the SDKs rest before they ask again
/// unless they got that much.
const REPLY_BYTES: usize = 4 << 20;

/// Log groups of a reply: what clients ask for if they don't say, and the most that they can.
const REPLY_GROUPS: usize = 1000;

/// Seconds that a pull waits for logs at most. An extension: `wait=` of the query.
const LONGEST_WAIT: u64 = 60;

/// The position of a time, of the beginning, or of the end.
pub(crate) async fn cursor(
    service: &Arc<Service>,
    call: &Call,
    shard: &Arc<Shard>,
) -> Result<Reply, ApiError> {
    let position = match call.required("from")? {
        "begin" => shard.begin(),
        "end" => shard.end(),
        time => {
            let invalid = |_| {
                ApiError::new(
                    ErrorCode::ParameterInvalid,
                    format!("from={time} is none of begin, end and a Unix time"),
                )
            };
            // Times before 1970, and after all of ours, are what they say.
            let time: i64 = time.parse().map_err(invalid)?;
            let (service, shard) = (Arc::clone(service), Arc::clone(shard));
            let time = time.try_into().unwrap_or(0);
            blocking(move || service.store.position_at(&shard, time).map_err(refuse)).await?
        }
    };
    Ok(Reply::json(&json!({ "cursor": Cursor(position).encode() })))
}

/// When the group at a position was received.
pub(crate) async fn cursor_time(
    service: &Arc<Service>,
    call: &Call,
    shard: &Arc<Shard>,
) -> Result<Reply, ApiError> {
    let cursor = Cursor::decode(call.required("cursor")?)?;
    let (service, shard) = (Arc::clone(service), Arc::clone(shard));
    let time = blocking(move || service.store.received_at(&shard, cursor.0).map_err(refuse)).await?;
    Ok(Reply::json(&json!({ "cursor_time": time })))
}

/// The log groups from a position on.
pub(crate) async fn pull(
    service: &Arc<Service>,
    call: &Call,
    project: &str,
    logstore: &str,
    shard: &Arc<Shard>,
) -> Result<Reply, ApiError> {
    let from = Cursor::decode(call.required("cursor")?)?.0;
    // Rust spells it otherwise.
    let end = call.query.get("end_cursor").or_else(|| call.query.get("endCursor"));
    let end = end.filter(|end| !end.is_empty()).map(Cursor::decode).transpose()?;
    let groups = call.number::<usize>("count")?.unwrap_or(REPLY_GROUPS);
    if !(1..=REPLY_GROUPS).contains(&groups) {
        let message = format!("count={groups} is none of 1 to {REPLY_GROUPS}");
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    for unsupported in ["query", "processor"] {
        if call.query.get(unsupported).is_some_and(|text| !text.is_empty()) {
            let message = format!("{unsupported}= is not supported: pull without it, and filter what comes");
            return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
        }
    }
    if let Some(wait) = call.number::<u64>("wait")?.filter(|_| end.is_none() && from == shard.end()) {
        let wait = Duration::from_secs(wait.min(LONGEST_WAIT));
        // What came or did not come is seen when it is read.
        tokio::select! {
            _ = tokio::time::timeout(wait, shard.written(from)) => {}
            () = service.ended() => {}
        }
    }
    let limits = Limits { groups, bytes: REPLY_BYTES, end: end.map_or(u64::MAX, |end| end.0) };
    let compression = Compression::from_accept_encoding(call.header("accept-encoding").unwrap_or_default());
    let largest = REPLY_BYTES + service.config.limits.group_bytes;
    // Unless LZ4 is asked for it is there in three forms at one time.
    let room =
        service.replies.take(if compression == Compression::Lz4 { largest } else { 3 * largest }).await?;
    let (service, shard) = (Arc::clone(service), Arc::clone(shard));
    let read = move || Ok((Pulled::read(&service, &shard, from, limits, compression)?, room));
    let (pulled, room) = blocking(read).await?;
    metrics::sent(project, logstore, pulled.logs, pulled.size as u64);
    Ok(pulled.reply(room))
}

/// What a pull gets.
struct Pulled {
    /// A LogGroupList, compressed.
    body: Vec<u8>,
    compression: Compression,
    /// Bytes before compression.
    size: usize,
    groups: usize,
    /// The position of the first group.
    first: Option<u64>,
    logs: u64,
    /// When the last group was received.
    received: u64,
    /// Where to go on.
    next: u64,
    at_end: bool,
}

impl Pulled {
    fn read(
        service: &Service,
        shard: &Shard,
        from: u64,
        limits: Limits,
        compression: Compression,
    ) -> Result<Self, ApiError> {
        // Whatever the reply is compressed by, its LZ4 form costs nothing to make.
        let mut list = BlockWriter::with_capacity(REPLY_BYTES / 4);
        let (mut size, mut groups, mut logs, mut received, mut first) = (0, 0, 0, 0, None);
        let mut broken = None;
        let next = service.store.read(shard, from, limits, |group| {
            let header = frame_header(group.size as usize);
            list.literals(&header);
            if let Err(error) = list.block(group.body) {
                broken = Some((group.position, error));
                return ControlFlow::Break(());
            }
            size += header.len() + group.size as usize;
            groups += 1;
            first.get_or_insert(group.position);
            logs += u64::from(group.logs);
            received = group.received;
            ControlFlow::Continue(())
        });
        let next = next.map_err(refuse)?;
        if let Some((position, error)) = broken {
            // It was whole when it was stored.
            tracing::error!(shard = shard.number, position, %error, "a stored log group is damaged");
            return Err(ApiError::new(
                ErrorCode::InternalServerError,
                format!("the log group at {position} is damaged"),
            ));
        }
        let body = list.finish();
        let body = match compression {
            _ if groups == 0 => vec![],
            Compression::Lz4 => body,
            other => other.compress(&Compression::Lz4.decompress(&body, size, size)?)?,
        };
        Ok(Self { body, compression, size, groups, first, logs, received, next, at_end: next == shard.end() })
    }

    fn reply(self, room: Taken) -> Reply {
        let mut headers = vec![
            ("x-log-count", self.groups.to_string()),
            ("x-log-bodyrawsize", self.size.to_string()),
            ("x-log-cursor", Cursor(self.next).encode()),
            ("x-log-end-of-cursor", u8::from(self.at_end).to_string()),
        ];
        headers.extend(self.first.map(|first| (FIRST, first.to_string())));
        if self.groups > 0 {
            headers.push(("x-log-read-last-cursor", (self.next - 1).to_string()));
            headers.push(("x-log-cursor-time", self.received.to_string()));
            if self.compression != Compression::None {
                headers.push(("x-log-compresstype", self.compression.name().into()));
            }
        }
        Reply { headers, content_type: Some("application/x-protobuf"), body: room.hold(self.body) }
    }
}

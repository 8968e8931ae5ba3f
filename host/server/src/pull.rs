//! Cursors and reads of logs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use logship_listener::Activity;
use logship_logstore::{Limits, Logstore, Shard};
use logship_sls::compression::Compression;
use logship_sls::cursor::Cursor;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::log_group::frame_header;
use logship_sls::lz4_splice::BlockWriter;
use serde_json::json;

use crate::call::Call;
use crate::fair_budget::{Holding, Owner};
use crate::manage::find_shard;
use crate::quotas::{Amount, Direction};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking, metrics};
use logship_sls::header::FIRST_POSITION_HEADER;

/// The size of a reply, in bytes: a reply with this many bytes gets no more groups. After a smaller reply, the SDKs'
/// consumers pause before the next pull.
const REPLY_BYTES: usize = 4 << 20;

/// The default and largest number of log groups of a reply.
const MAX_REPLY_GROUPS: usize = 1000;

/// The longest wait for new logs, in seconds. The query parameter `wait` is an extension of logship.
const MAX_WAIT_SECONDS: u64 = 60;

/// Returns the cursor of a time, of the begin, or of the end of a shard.
pub(crate) async fn cursor(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    shard: &str,
) -> Result<Reply, ApiError> {
    let shard = find_shard(logstore, shard)?;
    let position = match call.required("from")? {
        "begin" => shard.begin(),
        "end" => shard.end(),
        time => {
            let invalid = |_| {
                ApiError::new(
                    ErrorCode::ParameterInvalid,
                    format!("from={time} is invalid: use begin, end or a Unix time"),
                )
            };
            // Times before 1970 mean the begin, and times after the newest log the end.
            let time: i64 = time.parse().map_err(invalid)?;
            let (service, shard) = (Arc::clone(service), Arc::clone(shard));
            let time = time.try_into().unwrap_or(0);
            blocking(move || service.store.position_at(&shard, time).map_err(store_error)).await?
        }
    };
    Ok(Reply::json(&json!({ "cursor": Cursor(position).encode() })))
}

/// Returns the receive time of the group at a cursor.
pub(crate) async fn cursor_time(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    shard: &str,
) -> Result<Reply, ApiError> {
    let shard = find_shard(logstore, shard)?;
    let cursor = Cursor::decode(call.required("cursor")?)?;
    let (service, shard) = (Arc::clone(service), Arc::clone(shard));
    let time = blocking(move || service.store.received_at(&shard, cursor.0).map_err(store_error)).await?;
    Ok(Reply::json(&json!({ "cursor_time": time })))
}

/// Returns the log groups from a cursor on.
pub(crate) async fn pull(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Logstore,
    shard: &str,
) -> Result<Reply, ApiError> {
    let shard = find_shard(logstore, shard)?;
    let from = Cursor::decode(call.required("cursor")?)?.0;
    // The Rust SDK sends `endCursor`.
    let end = call.query.get("end_cursor").or_else(|| call.query.get("endCursor"));
    let end = end.filter(|end| !end.is_empty()).map(Cursor::decode).transpose()?;
    let groups = call.number::<usize>("count")?.unwrap_or(MAX_REPLY_GROUPS);
    if !(1..=MAX_REPLY_GROUPS).contains(&groups) {
        let message = format!("count={groups} is out of range: use 1 to {MAX_REPLY_GROUPS}");
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    for unsupported in ["query", "processor"] {
        if call.query.get(unsupported).is_some_and(|text| !text.is_empty()) {
            let message =
                format!("the parameter {unsupported} is not supported: pull without it and filter the logs");
            return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
        }
    }
    if let Some(wait) =
        call.number::<u64>("wait")?.filter(|_| end.is_none() && shard.groups_between(from, shard.end()) == 0)
    {
        let wait = Duration::from_secs(wait.min(MAX_WAIT_SECONDS));
        // The read below sees whether logs arrived.
        call.connection.set_activity(Activity::Waiting);
        tokio::select! {
            _ = tokio::time::timeout(wait, shard.wait_for(from)) => {}
            () = service.wait_for_shutdown() => {}
        }
        call.connection.set_activity(Activity::Working);
    }
    let limits = Limits { groups, bytes: REPLY_BYTES, end: end.map_or(u64::MAX, |end| end.0) };
    let compression = Compression::from_accept_encoding(call.header("accept-encoding").unwrap_or_default());
    service.quotas.check(&call.key, Direction::Read, (service.store_clock)())?;
    let owner = Owner { key: call.key.id.as_str().into(), project: logstore.project.as_str().into() };
    let holding = service.reply_budget.begin(owner, call.connection.closing());
    let pulled = read(service, shard, from, limits, compression, holding).await?;
    let (logs, bytes) = (pulled.0.logs, pulled.0.size as u64);
    service.quotas.charge(&call.key, Direction::Read, Amount { bytes, logs }, (service.store_clock)());
    metrics::record_sent(&logstore.project, &logstore.name, logs, bytes);
    Ok(pulled.0.reply(pulled.1))
}

/// Reads the groups of a pull, as far as there is memory for them.
async fn read(
    service: &Arc<Service>,
    shard: &Arc<Shard>,
    from: u64,
    limits: Limits,
    compression: Compression,
    holding: Holding,
) -> Result<(Pulled, Holding), ApiError> {
    let mut memory = ReplyMemory::new(holding, compression);
    let mut needed = REPLY_BYTES;
    loop {
        memory.grow(needed).await?;
        let (service, shard) = (Arc::clone(service), Arc::clone(shard));
        let (read, returned) = blocking(move || {
            let read = Pulled::read(&service, &shard, from, limits, compression, &mut memory)?;
            Ok((read, memory))
        })
        .await?;
        match read {
            Read::Done(pulled) => return Ok((pulled, returned.holding)),
            Read::Lacks(bytes) => (memory, needed) = (returned, bytes),
        }
    }
}

/// The memory of a reply, which grows with it.
struct ReplyMemory {
    holding: Holding,
    /// The formats of the reply that are in memory at once.
    formats: usize,
    /// The largest reply that fits in, in bytes before compression.
    room: usize,
}

impl ReplyMemory {
    fn new(holding: Holding, compression: Compression) -> Self {
        // The stored groups are LZ4 blocks. Other replies are decompressed and compressed.
        let formats = if compression == Compression::Lz4 { 1 } else { 3 };
        Self { holding, formats, room: 0 }
    }

    async fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.holding.grow(bytes.saturating_sub(self.room) * self.formats).await?;
        self.room = self.room.max(bytes);
        Ok(())
    }

    fn try_grow(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.room || self.holding.try_grow((bytes - self.room) * self.formats);
        if fits {
            self.room = self.room.max(bytes);
        }
        fits
    }
}

/// The result of a read.
enum Read {
    Done(Pulled),
    /// The first group needs this many bytes of memory.
    Lacks(usize),
}

/// Rejects a read of a shard whose `type` is unknown.
pub(crate) fn reject_type(call: &Call, logstore: &Logstore, shard: &str) -> Result<Reply, ApiError> {
    find_shard(logstore, shard)?;
    Err(call.unknown_type("cursor, cursor_time or log"))
}

/// The logs of a pull.
struct Pulled {
    /// A compressed LogGroupList.
    body: Vec<u8>,
    compression: Compression,
    /// The size before compression, in bytes.
    size: usize,
    groups: usize,
    /// The position of the first group.
    first: Option<u64>,
    /// The position of the last group, if there is one.
    last: u64,
    logs: u64,
    /// The receive time of the last group.
    received: u64,
    /// The position of the next pull.
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
        memory: &mut ReplyMemory,
    ) -> Result<Read, ApiError> {
        // The stored groups are LZ4 blocks, so joining them as LZ4 is free, whatever the reply's compression.
        let mut list = BlockWriter::with_capacity(REPLY_BYTES / 4);
        let (mut size, mut groups, mut logs, mut received, mut first) = (0, 0, 0, 0, None);
        let (mut damaged, mut stopped, mut last) = (None, None, 0);
        let next = service.store.read(shard, from, limits, |group| {
            let header = frame_header(group.size as usize);
            let needed = size + header.len() + group.size as usize;
            if !memory.try_grow(needed) {
                stopped = Some(needed);
                return ControlFlow::Break(());
            }
            list.literals(&header);
            if let Err(error) = list.block(group.body) {
                damaged = Some((group.position, error));
                return ControlFlow::Break(());
            }
            size += header.len() + group.size as usize;
            groups += 1;
            last = group.position;
            first.get_or_insert(group.position);
            logs += u64::from(group.logs);
            received = group.received;
            ControlFlow::Continue(())
        });
        let mut next = next.map_err(store_error)?;
        match stopped {
            Some(needed) if groups == 0 => return Ok(Read::Lacks(needed)),
            Some(_) => next = last + 1,
            None => {}
        }
        if let Some((position, error)) = damaged {
            // The group was valid when it was stored.
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
        // A client that reads to an end cursor waits for exactly this one.
        let last = next.saturating_sub(1);
        let next = if groups > 0 && next != limits.end { shard.resolve(next) } else { next };
        let at_end = shard.groups_between(next, shard.end()) == 0;
        Ok(Read::Done(Self { body, compression, size, groups, first, last, logs, received, next, at_end }))
    }

    fn reply(self, holding: Holding) -> Reply {
        let mut headers = vec![
            ("x-log-count", self.groups.to_string()),
            ("x-log-bodyrawsize", self.size.to_string()),
            ("x-log-cursor", Cursor(self.next).encode()),
            ("x-log-end-of-cursor", u8::from(self.at_end).to_string()),
        ];
        headers.extend(self.first.map(|first| (FIRST_POSITION_HEADER, first.to_string())));
        if self.groups > 0 {
            headers.push(("x-log-read-last-cursor", self.last.to_string()));
            headers.push(("x-log-cursor-time", self.received.to_string()));
            if self.compression != Compression::None {
                headers.push(("x-log-compresstype", self.compression.name().into()));
            }
        }
        let transfer = holding.transfer().clone();
        let body = holding.attach_to(self.body);
        // From now on, a slow client can lose the memory.
        transfer.begin();
        Reply { headers, content_type: Some("application/x-protobuf"), body, transfer: Some(transfer) }
    }
}

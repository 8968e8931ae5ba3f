//! Writes logs.

use std::sync::Arc;

use bytes::Bytes;
use logship_logstore::{Logstore, NewGroup, PutId, Shard, StoreError};
use logship_sls::compression::Compression;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::hash_key::HashKey;
use logship_sls::log_group::{LogGroupView, packages};
use logship_sls::lz4_splice;

use crate::call::Call;
use crate::keys::Key;
use crate::put_id::UnfinishedId;
use crate::quotas::{Amount, Direction};
use crate::reply::{Reply, store_error};
use crate::{Service, blocking, metrics};

/// Bodies up to this size, in bytes, are parsed on the request's thread: that is faster than a thread switch.
const INLINE_BYTES: usize = 32 << 10;

/// The route of logs to a shard.
pub(crate) enum Route {
    /// The next shard, round robin.
    Any,
    /// The shard whose range has the hash key.
    Key(HashKey),
}

impl Route {
    /// Reads the hash key from the query, or from the header of old clients.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let key = call.query.get("key").or_else(|| call.header("x-log-hashkey"));
        Ok(key.map(str::parse).transpose()?.map_or(Self::Any, Self::Key))
    }
}

/// Stores the logs of a request: one log group, or a batch of groups as loongcollector sends it.
pub(crate) async fn put(service: &Service, call: &Call, logstore: &Logstore) -> Result<Reply, ApiError> {
    let route = Route::of(call)?;
    let groups = groups(service, call).await?;
    let id = UnfinishedId::of(call)?.map(|id| id.finish(&call.body));
    store(service, &call.key, logstore, &route, groups, id).await?;
    Ok(Reply::empty())
}

/// Stores log groups, once for each id, and charges them to the key. Does nothing without any group.
pub(crate) async fn store(
    service: &Service,
    key: &Key,
    Logstore { project, name: logstore, .. }: &Logstore,
    route: &Route,
    groups: Vec<NewGroup>,
    id: Option<PutId>,
) -> Result<(), ApiError> {
    if groups.is_empty() {
        return Ok(());
    }
    let amount = groups.iter().fold(Amount::default(), |sum, group| Amount {
        bytes: sum.bytes + u64::from(group.size),
        logs: sum.logs + u64::from(group.logs),
    });
    service.quotas.take(key, Direction::Write, amount, (service.store_clock)())?;
    let stored = store_groups(service, project, logstore, route, groups, id).await;
    match stored {
        Ok(Stored::New) => metrics::record_received(project, logstore, amount.logs, amount.bytes),
        Ok(Stored::Repeated) => metrics::record_repeated_put(project, logstore),
        Err(_) => {}
    }
    if !matches!(stored, Ok(Stored::New)) {
        service.quotas.refund(key, amount, (service.store_clock)());
    }
    stored.map(drop)
}

/// What became of log groups.
enum Stored {
    New,
    /// An earlier put with the same id has stored them.
    Repeated,
}

async fn store_groups(
    service: &Service,
    project: &str,
    logstore: &str,
    route: &Route,
    groups: Vec<NewGroup>,
    id: Option<PutId>,
) -> Result<Stored, ApiError> {
    // Retries once if the shard was split or merged meanwhile.
    for last in [false, true] {
        let catalog = service.store.catalog();
        let found = catalog.logstore(project, logstore).map_err(store_error)?;
        let shard = shard_for(found, route)?;
        let stored = match &id {
            None => service.store.put(&shard, groups.clone()).await.map(drop),
            Some(id) => {
                let stored = service.store.put_once(found, &shard, groups.clone(), id.clone()).await;
                if stored.as_ref().is_ok_and(|stored| stored.is_repeated) {
                    return Ok(Stored::Repeated);
                }
                stored.map(drop)
            }
        };
        match stored {
            Err(StoreError::ReadOnlyShard(_)) if !last => {}
            Err(error) => return Err(store_error(error)),
            Ok(()) => break,
        }
    }
    Ok(Stored::New)
}

fn shard_for(logstore: &Logstore, route: &Route) -> Result<Arc<Shard>, ApiError> {
    let shard = match route {
        Route::Key(key) => logstore.shard_of(*key),
        Route::Any => logstore.next_shard(),
    };
    let no_shard = || ApiError::new(ErrorCode::LogStoreWithoutShard, "the logstore has no writable shard");
    shard.cloned().ok_or_else(no_shard)
}

async fn groups(service: &Service, call: &Call) -> Result<Vec<NewGroup>, ApiError> {
    match call.header("content-type") {
        Some(kind) if kind.starts_with("application/x-protobuf") => {}
        None => {
            let message = "Content-Type is missing: it must be application/x-protobuf";
            return Err(ApiError::new(ErrorCode::MissingContentType, message));
        }
        Some(other) => {
            let message = format!("Content-Type must be application/x-protobuf, not {other}");
            return Err(ApiError::new(ErrorCode::InvalidContentType, message));
        }
    }
    let limit = service.config.limits.group_bytes;
    let (body, compression, size) = (call.body.clone(), compression(call)?, raw_size(call)?);
    let is_batch = call.header("x-log-mode") == Some("batch_group");
    // The decompressed size. Each package of a batch declares its own, so reserve the limit.
    let decompressed = if is_batch { limit } else { size.unwrap_or(call.body.len()).min(limit) };
    let reservation = service.decompressed_budget.reserve(decompressed).await?;
    let read = move || {
        // Held until the work ends, even if the client disconnects.
        let _reservation = reservation;
        if is_batch {
            return read_packages(&body, limit);
        }
        let missing = || {
            ApiError::new(
                ErrorCode::MissingBodyRawSize,
                "x-log-bodyrawsize is missing: a compressed body needs it",
            )
        };
        // Parse an uncompressed body before checking its size: "not a log group" is the better message.
        let plain = (compression == Compression::None).then_some(body.len());
        let group = group(&body, compression, plain.or(size).ok_or_else(missing)?, limit)?;
        if plain.is_some() && size.is_some() && plain != size {
            let message = format!("the body has {} bytes, but x-log-bodyrawsize differs", body.len());
            return Err(ApiError::new(ErrorCode::InvalidBodyRawSize, message));
        }
        Ok(group.into_iter().collect())
    };
    if call.body.len() <= INLINE_BYTES && size.is_none_or(|size| size <= 4 * INLINE_BYTES) {
        read()
    } else {
        blocking(read).await
    }
}

fn compression(call: &Call) -> Result<Compression, ApiError> {
    Ok(Compression::from_header(call.header("x-log-compresstype").unwrap_or_default())?)
}

fn raw_size(call: &Call) -> Result<Option<usize>, ApiError> {
    let Some(text) = call.header("x-log-bodyrawsize") else { return Ok(None) };
    let invalid =
        |_| ApiError::new(ErrorCode::InvalidBodyRawSize, "x-log-bodyrawsize is not a number of bytes");
    text.parse().map(Some).map_err(invalid)
}

/// Parses the groups of a list of packages, of at most `limit` bytes in total.
fn read_packages(body: &Bytes, limit: usize) -> Result<Vec<NewGroup>, ApiError> {
    let mut remaining = limit;
    let mut groups = vec![];
    for package in packages(body) {
        let package = package?;
        let size = package.raw_size.map_or(package.data.len(), |size| size as usize);
        groups.extend(group(&body.slice_ref(package.data), package.compression, size, remaining)?);
        remaining -= size;
        check_count(groups.len())?;
    }
    Ok(groups)
}

/// The most log groups of a request. Each is a row of the store, and all are in one commit.
const MAX_GROUPS: usize = 4096;

/// Fails if a body has too many groups.
pub(crate) fn check_count(groups: usize) -> Result<(), ApiError> {
    if groups <= MAX_GROUPS {
        return Ok(());
    }
    let message = format!("the body has more than {MAX_GROUPS} log groups: send less at a time");
    Err(ApiError::new(ErrorCode::PostBodyTooLarge, message))
}

/// Checks a log group and converts it to the stored format. Returns none if the group has no logs.
fn group(
    body: &Bytes,
    compression: Compression,
    size: usize,
    limit: usize,
) -> Result<Option<NewGroup>, ApiError> {
    let raw = compression.decompress(body, size, limit)?;
    let view = LogGroupView::parse(&raw)?;
    let Some(newest) = view.newest_time() else { return Ok(None) };
    // Keep an LZ4 body as it is, if it is a block that pulls can splice.
    let stored = match compression {
        Compression::Lz4 if lz4_splice::check(body).is_ok() => body.clone(),
        _ => Compression::Lz4.compress(&raw)?.into(),
    };
    let size = u32::try_from(raw.len())
        .map_err(|_| ApiError::new(ErrorCode::PostBodyTooLarge, "a log group has at most 4 GiB"))?;
    Ok(Some(NewGroup { body: stored, size, logs: view.log_count(), newest }))
}

/// Converts a log group of this service to the stored format.
pub(crate) fn stored(raw: Vec<u8>) -> Result<Option<NewGroup>, ApiError> {
    let size = raw.len();
    group(&raw.into(), Compression::None, size, size)
}

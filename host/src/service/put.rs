//! Putting logs.

use std::sync::Arc;

use bytes::Bytes;
use logship_logstore::{Logstore, NewGroup, Shard, StoreError};
use logship_sls::compression::Compression;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::hash_key::HashKey;
use logship_sls::log_group::{LogGroupView, packages};
use logship_sls::lz4_splice;

use super::call::Call;
use super::reply::{Reply, refuse};
use super::{Service, blocking, metrics};

/// Bodies up to this size are taken apart where they were received: it takes less time than to hand them over.
const SMALL: usize = 32 << 10;

/// Which shard takes the logs.
pub(crate) enum Route {
    /// The next in turn.
    Any,
    /// The one that has the key.
    Key(HashKey),
}

impl Route {
    /// By the query, or as clients of old did it, by a header.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let key = call.query.get("key").or_else(|| call.header("x-log-hashkey"));
        Ok(key.map(str::parse).transpose()?.map_or(Self::Any, Self::Key))
    }
}

/// Stores the logs of a request: one log group, or several that loongcollector sends together.
pub(crate) async fn put(
    service: &Service,
    call: &Call,
    project: &str,
    logstore: &str,
) -> Result<Reply, ApiError> {
    // A missing logstore is told before anything is made of the body.
    service.store.catalog().logstore(project, logstore).map_err(refuse)?;
    let route = Route::of(call)?;
    let groups = groups(service, call).await?;
    store(service, project, logstore, &route, groups).await?;
    Ok(Reply::empty())
}

/// Stores log groups, unless there are none.
pub(crate) async fn store(
    service: &Service,
    project: &str,
    logstore: &str,
    route: &Route,
    groups: Vec<NewGroup>,
) -> Result<(), ApiError> {
    if groups.is_empty() {
        return Ok(());
    }
    let (logs, bytes) = groups
        .iter()
        .fold((0, 0), |(logs, bytes), group| (logs + u64::from(group.logs), bytes + u64::from(group.size)));
    // Once again when the shard was split or merged meanwhile.
    for last in [false, true] {
        let catalog = service.store.catalog();
        let found = catalog.logstore(project, logstore).map_err(refuse)?;
        let shard = shard_for(found, route)?;
        match service.store.put(&shard, groups.clone()).await {
            Err(StoreError::ReadOnlyShard(_)) if !last => {}
            Err(error) => return Err(refuse(error)),
            Ok(_) => break,
        }
    }
    metrics::received(project, logstore, logs, bytes);
    Ok(())
}

fn shard_for(logstore: &Logstore, route: &Route) -> Result<Arc<Shard>, ApiError> {
    let shard = match route {
        Route::Key(key) => logstore.shard_of(*key),
        Route::Any => logstore.next_shard(),
    };
    let none = || ApiError::new(ErrorCode::LogStoreWithoutShard, "no shard of the logstore takes logs");
    shard.cloned().ok_or_else(none)
}

async fn groups(service: &Service, call: &Call) -> Result<Vec<NewGroup>, ApiError> {
    match call.header("content-type") {
        Some(kind) if kind.starts_with("application/x-protobuf") => {}
        None => {
            let message = "Content-Type is missing: it has to be application/x-protobuf";
            return Err(ApiError::new(ErrorCode::MissingContentType, message));
        }
        Some(other) => {
            let message = format!("Content-Type has to be application/x-protobuf, not {other}");
            return Err(ApiError::new(ErrorCode::InvalidContentType, message));
        }
    }
    let limit = service.config.limits.group_bytes;
    let (body, compression, size) = (call.body.clone(), compression(call)?, raw_size(call)?);
    let together = call.header("x-log-mode") == Some("batch_group");
    // What it unpacks to; of packages, which say it themselves, all there may be.
    let unpacked = if together { limit } else { size.unwrap_or(call.body.len()).min(limit) };
    let room = service.unpacked.take(unpacked).await?;
    let read = move || {
        // Also when the client goes away meanwhile.
        let _room = room;
        if together {
            return read_packages(&body, limit);
        }
        let missing = || {
            ApiError::new(
                ErrorCode::MissingBodyRawSize,
                "x-log-bodyrawsize is missing, and the body is compressed",
            )
        };
        // What is not compressed is looked at first: a body that is no log group is that, whatever its size.
        let plain = (compression == Compression::None).then_some(body.len());
        let group = group(&body, compression, plain.or(size).ok_or_else(missing)?, limit)?;
        if plain.is_some() && size.is_some() && plain != size {
            let message =
                format!("the body has {} bytes, and x-log-bodyrawsize says another number", body.len());
            return Err(ApiError::new(ErrorCode::InvalidBodyRawSize, message));
        }
        Ok(group.into_iter().collect())
    };
    if call.body.len() <= SMALL && size.is_none_or(|size| size <= 4 * SMALL) {
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
    let invalid = |_| ApiError::new(ErrorCode::InvalidBodyRawSize, "x-log-bodyrawsize is no number of bytes");
    text.parse().map(Some).map_err(invalid)
}

/// The groups of a list of packages. Together they have no more than `limit` bytes.
fn read_packages(body: &Bytes, limit: usize) -> Result<Vec<NewGroup>, ApiError> {
    let mut left = limit;
    let mut groups = vec![];
    for package in packages(body) {
        let package = package?;
        let size = package.raw_size.map_or(package.data.len(), |size| size as usize);
        groups.extend(group(&body.slice_ref(package.data), package.compression, size, left)?);
        left -= size;
        check_count(groups.len())?;
    }
    Ok(groups)
}

/// Log groups of one request: each is a row of the store, and all are in one commit.
const MOST_GROUPS: usize = 4096;

/// Refuses a body that has too many groups, while it is read.
pub(crate) fn check_count(groups: usize) -> Result<(), ApiError> {
    if groups <= MOST_GROUPS {
        return Ok(());
    }
    let message = format!("the body has more than {MOST_GROUPS} log groups: send less at a time");
    Err(ApiError::new(ErrorCode::PostBodyTooLarge, message))
}

/// Checks a log group, and gives it the form that is stored. None if it has no logs.
fn group(
    body: &Bytes,
    compression: Compression,
    size: usize,
    limit: usize,
) -> Result<Option<NewGroup>, ApiError> {
    let raw = compression.decompress(body, size, limit)?;
    let view = LogGroupView::parse(&raw)?;
    let Some(newest) = view.newest_time() else { return Ok(None) };
    // As it came, if it came as it is stored; the check is for what pulls rely on.
    let stored = match compression {
        Compression::Lz4 if lz4_splice::check(body).is_ok() => body.clone(),
        _ => Compression::Lz4.compress(&raw)?.into(),
    };
    let size =
        u32::try_from(raw.len()).map_err(|_| ApiError::new(ErrorCode::PostBodyTooLarge, "4 GiB at most"))?;
    Ok(Some(NewGroup { body: stored, size, logs: view.log_count(), newest }))
}

/// A log group that was made here, in the form that is stored.
pub(crate) fn stored(raw: Vec<u8>) -> Result<Option<NewGroup>, ApiError> {
    let size = raw.len();
    group(&raw.into(), Compression::None, size, size)
}

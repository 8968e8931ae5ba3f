//! Consumer groups.

use std::sync::Arc;
use std::time::Instant;

use logship_logstore::{Checkpoint, Logstore, StoreError};
use logship_sls::cursor::Cursor;
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::consumer_stats::ConsumerId;
use crate::keys::Access;
use crate::manage::body;
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};
use logship_sls::header::SENT_HEADER;

/// The longest heartbeat timeout of a group, in seconds.
const MAX_TIMEOUT: u32 = 86_400;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupBody {
    consumer_group: Option<String>,
    timeout: Option<u32>,
    order: Option<bool>,
}

impl GroupBody {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let read: Self = body(call, ErrorCode::JsonInfoInvalid)?;
        match read.timeout {
            Some(timeout) if !(1..=MAX_TIMEOUT).contains(&timeout) => {
                let message = format!("timeout must be 1 to {MAX_TIMEOUT} seconds, not {timeout}");
                Err(ApiError::new(ErrorCode::JsonInfoInvalid, message))
            }
            _ => Ok(read),
        }
    }
}

pub(crate) fn list(logstore: &Logstore) -> Reply {
    let group = |group: &logship_logstore::ConsumerGroup| json!({ "name": group.name, "timeout": group.timeout, "order": group.ordered });
    Reply::json(&logstore.groups.values().map(group).collect())
}

pub(crate) async fn create(service: &Service, call: &Call, logstore: &Logstore) -> Result<Reply, ApiError> {
    let body = GroupBody::read(call)?;
    let invalid = |message: &str| ApiError::new(ErrorCode::JsonInfoInvalid, message);
    let name = body.consumer_group.filter(|name| is_name(name));
    let name = name
        .ok_or_else(|| invalid("consumerGroup is invalid: use 1 to 128 letters, digits, and any of ._-"))?;
    let timeout = body.timeout.ok_or_else(|| {
        invalid("timeout is missing: the seconds after which a consumer without heartbeats is removed")
    })?;
    let order = body.order.unwrap_or(false);
    service.store.create_group(logstore, &name, timeout, order, &call.key.id).await.map_err(store_error)?;
    Ok(Reply::empty())
}

pub(crate) async fn update(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
    group: &str,
) -> Result<Reply, ApiError> {
    check_use(call, logstore, group)?;
    let body = GroupBody::read(call)?;
    if body.timeout.is_none() && body.order.is_none() {
        return Err(ApiError::new(ErrorCode::JsonInfoInvalid, "the body must have timeout or order"));
    }
    service.store.update_group(logstore, group, body.timeout, body.order).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Fails unless the key may change a group or move its checkpoints: an admin key, the group's creator, or a key that was
/// given the group.
fn check_use(call: &Call, logstore: &Logstore, group: &str) -> Result<(), ApiError> {
    let (project, key) = (&logstore.project, &call.key);
    if key.policy.is_some() {
        // The policy has allowed the operation for this group.
        return Ok(());
    }
    let found = logstore.group(group).map_err(store_error)?;
    // Older versions did not keep the creator.
    let is_creator = found.creator.as_ref().is_none_or(|creator| *creator == key.id);
    if is_creator || key.allows(project, Access::Admin) || key.has_group(project, group) {
        return Ok(());
    }
    let message = format!(
        "key {id} did not create consumer group {group} and was not given it: an operator gives it with `logship key give {id} {project}/{group}`",
        id = key.id
    );
    Err(ApiError::new(ErrorCode::Unauthorized, message))
}

pub(crate) async fn delete(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
    group: &str,
) -> Result<Reply, ApiError> {
    check_use(call, logstore, group)?;
    service.store.delete_group(logstore, group).await.map_err(store_error)?;
    Ok(Reply::empty())
}

/// Returns a JSON list of the consumer's shards. Clients accept neither an object nor an empty body.
pub(crate) async fn heartbeat(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
    group: &str,
) -> Result<Reply, ApiError> {
    check_use(call, logstore, group)?;
    let consumer = call.required("consumer")?;
    let reported: Vec<u32> =
        if call.body.is_empty() { vec![] } else { body(call, ErrorCode::JsonInfoInvalid)? };
    let shards = service.store.heartbeat(logstore, group, consumer, &reported).await.map_err(store_error)?;
    record_stats(service, call, logstore, group, consumer);
    Ok(Reply::json(&shards.into()))
}

#[derive(Deserialize)]
struct CheckpointBody {
    shard: u32,
    checkpoint: String,
}

pub(crate) async fn save_checkpoint(
    service: &Service,
    call: &Call,
    logstore: &Logstore,
    group: &str,
) -> Result<Reply, ApiError> {
    check_use(call, logstore, group)?;
    let body: CheckpointBody = body(call, ErrorCode::JsonInfoInvalid)?;
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidShardCheckPoint, message);
    let position = Cursor::decode(&body.checkpoint).map_err(|error| invalid(error.to_string()))?;
    let consumer = call.query.get("consumer").unwrap_or_default();
    let force = call.query.get("forceSuccess").is_some_and(|force| force.eq_ignore_ascii_case("true"));
    if consumer.is_empty() && !force {
        let message = "the query needs consumer, or forceSuccess=true";
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    let saved = service.store.save_checkpoint(logstore, group, body.shard, position.0, consumer, force).await;
    saved.map_err(|error| match error {
        StoreError::NoCursor { .. } | StoreError::OtherGeneration { .. } => invalid(error.to_string()),
        other => store_error(other),
    })?;
    record_stats(service, call, logstore, group, consumer);
    Ok(Reply::empty())
}

/// Rejects a change of a group whose `type` is unknown.
pub(crate) fn reject_type(call: &Call) -> Result<Reply, ApiError> {
    Err(call.unknown_type("heartbeat or checkpoint"))
}

/// Records the statistics that a member reports, which are only for display.
fn record_stats(service: &Service, call: &Call, logstore: &Logstore, group: &str, consumer: &str) {
    if let Some(sent) = call.header(SENT_HEADER).and_then(|sent| serde_json::from_str(sent).ok()) {
        service.consumer_stats.record(consumer_id(logstore, group, consumer), sent, Instant::now());
    }
}

/// Returns an entry for each shard, even without a checkpoint: clients treat an empty list as a failure.
pub(crate) async fn checkpoints(
    service: &Arc<Service>,
    call: &Call,
    logstore: &Arc<Logstore>,
    group: &str,
) -> Result<Reply, ApiError> {
    let shard = call.number("shard")?;
    let (service, logstore, group) = (Arc::clone(service), Arc::clone(logstore), group.to_owned());
    let found =
        blocking(move || service.store.checkpoints(&logstore, &group, shard).map_err(store_error)).await?;
    Ok(Reply::json(&found.iter().map(show_checkpoint).collect()))
}

fn show_checkpoint(checkpoint: &Checkpoint) -> Value {
    json!({
        "shard": checkpoint.shard,
        "checkpoint": checkpoint.position.map(|position| Cursor(position).encode()).unwrap_or_default(),
        "updateTime": checkpoint.updated,
        "consumer": checkpoint.consumer,
    })
}

fn consumer_id(logstore: &Logstore, group: &str, consumer: &str) -> ConsumerId {
    let Logstore { project, name, .. } = logstore;
    let [project, logstore, group, consumer] = [project, name, group, consumer].map(Into::into);
    ConsumerId { project, logstore, group, consumer }
}

/// Shows the group's owner, checkpoint and lag of each shard. An extension of logship.
pub(crate) async fn status(
    service: &Arc<Service>,
    logstore: &Arc<Logstore>,
    group: &str,
) -> Result<Reply, ApiError> {
    let found = logstore.group(group).map_err(store_error)?;
    let (timeout, ordered, consumers) = (found.timeout, found.ordered, service.store.consumers(found));
    let creator = found.creator.clone();
    let show = |consumer: &String| service.consumer_stats.show(&consumer_id(logstore, group, consumer));
    let members: Vec<Value> = consumers.iter().map(show).collect();
    let name = group.to_owned();
    let (service, logstore) = (Arc::clone(service), Arc::clone(logstore));
    let shards = blocking(move || service.store.group_status(&logstore, &name).map_err(store_error)).await?;
    let shards = shards.iter().map(|status| {
        let mut shown = show_checkpoint(&status.checkpoint);
        shown["owner"] = status.owner.clone().into();
        shown["groupsBehind"] = status.unread_groups.into();
        shown["lagSeconds"] = status.lag_seconds.into();
        shown
    });
    let shards: Value = shards.collect();
    Ok(Reply::json(
        &json!({ "timeout": timeout, "order": ordered, "consumers": consumers, "members": members, "shards": shards, "creator": creator }),
    ))
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

//! A member of a consumer group, which reads the shards that the service assigns to it over the network.
//!
//! Only the service assigns shards. A heartbeat reports the member's current shards, and its response has the assigned
//! ones. The member reports a revoked shard until its last in-flight batch is delivered and the checkpoint is saved.
//! After the group's timeout without a successful heartbeat, the service removes the member. The member then drops all
//! shards on its own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use logship_sls::cursor::Cursor;
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::dead_letter::Origin;
use crate::engine::stream::stopped;
use crate::events::delivery::Delivery;
use crate::events::end_cursors::{EndCursors, ShardCheckpoint, shards};
use crate::events::group_shards::{GroupCheckpoints, PullReader, Shards};
use logship_client::{Client, ClientError};
use logship_sink::backoff::Backoff;
use logship_sls::header::SENT_HEADER;

/// A membership in a consumer group.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The logstore.
    pub logstore: String,
    /// The consumer group. Created if it does not exist.
    pub group: String,
    /// The unique name of this member.
    pub consumer: String,
    /// Heartbeat interval. The service removes a member after two missed heartbeats.
    pub heartbeat: Duration,
    /// Pause before the next pull after a pull with few logs.
    pub fetch: Duration,
    /// Start of shards without a checkpoint: `begin`, `end`, or a Unix time.
    pub from: String,
    /// True to end after the group has delivered all logs that existed at the start.
    pub until_end: bool,
}

/// The position of the oldest logs.
pub(super) const OLDEST: &str = "begin";

/// Longest wait for in-flight batches when a shard is revoked or the program ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of a consumer group.
#[derive(Debug)]
pub struct Member {
    pub(super) client: Client,
    pub(super) membership: Arc<Membership>,
    delivery: Delivery,
    project: String,
}

/// A failed heartbeat.
#[derive(Debug, thiserror::Error)]
enum HeartbeatError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no response before the next heartbeat was due")]
    Silent,
    #[error("the response to a heartbeat is not a list of shards: {0}")]
    Reply(serde_json::Error),
}

impl HeartbeatError {
    fn is_missing_group(&self) -> bool {
        matches!(self, Self::Client(ClientError::Rejected(error)) if error.code == ErrorCode::ConsumerGroupNotExist)
    }
}

/// The time at which a heartbeat was sent, and the assigned shards.
type HeartbeatReply = (Instant, Result<Vec<u32>, HeartbeatError>);

impl Member {
    pub(crate) fn new(client: Client, project: &str, membership: Membership, delivery: Delivery) -> Self {
        Self { client, membership: Arc::new(membership), delivery, project: project.into() }
    }

    pub(super) fn group_path(&self) -> String {
        format!("/logstores/{}/consumergroups", self.membership.logstore)
    }

    /// Creates the group, unless it exists, and saves its start as checkpoints.
    ///
    /// # Errors
    /// When the service refuses: unknown logstore, missing permission, too many groups.
    pub async fn join(&self) -> Result<(), ClientError> {
        let timeout = (self.membership.heartbeat * 2).as_secs_f64().ceil() as u64;
        let group = &self.membership.group;
        let body = json!({ "consumerGroup": group, "timeout": timeout, "order": false });
        match self.client.send_json(Method::POST, &self.group_path(), &[], &body).await {
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::ConsumerGroupAlreadyExist => {
                self.raise_timeout(timeout).await?;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        self.save_start().await
    }

    /// Raises the group's timeout if needed. Never lowers it, since other members may have longer heartbeats.
    async fn raise_timeout(&self, timeout: u64) -> Result<(), ClientError> {
        #[derive(Deserialize)]
        struct Group {
            name: String,
            timeout: u64,
        }
        let groups: Vec<Group> = self.client.get(&self.group_path(), &[]).await?;
        let group = &self.membership.group;
        if groups.iter().any(|known| known.name == *group && known.timeout >= timeout) {
            return Ok(());
        }
        let path = format!("{}/{group}", self.group_path());
        self.client.send_json(Method::PUT, &path, &[], &json!({ "timeout": timeout })).await.map(drop)
    }

    /// Saves the start of a new group as checkpoints, before anything is read. Otherwise `end` would mean a later
    /// position after each restart until the first batch is delivered.
    async fn save_start(&self) -> Result<(), ClientError> {
        let Membership { logstore, group, from, .. } = &*self.membership;
        if from == OLDEST {
            return Ok(());
        }
        let path = format!("{}/{group}", self.group_path());
        let saved: Vec<ShardCheckpoint> = self.client.get(&path, &[]).await?;
        if saved.iter().any(|saved| saved.checkpoint.as_deref().is_some_and(|saved| !saved.is_empty())) {
            return Ok(());
        }
        for shard in shards(&self.client, logstore).await? {
            let begin = self.client.cursor(logstore, shard, from).await?;
            let body = json!({ "shard": shard, "checkpoint": begin.encode() });
            let query = [("type", "checkpoint"), ("forceSuccess", "true")];
            self.client.send_json(Method::POST, &path, &query, &body).await?;
        }
        Ok(())
    }

    /// Reads the assigned shards until `stop`, or until the end cursors if `until_end` is set.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let end_cursors = tokio::select! {
            () = stopped(&mut stop) => return,
            end_cursors = self.end_cursors() => end_cursors.map(Arc::new),
        };
        let member = Arc::new(self);
        let mut shards = Shards::default();
        let mut last_heartbeat = Instant::now();
        let mut next = last_heartbeat;
        // The running heartbeat. It must not block the other events.
        let mut heartbeat: Option<Pin<Box<dyn Future<Output = HeartbeatReply> + Send>>> = None;
        // The shutdown deadline, after `stop`.
        let mut deadline: Option<Instant> = None;
        while deadline.is_none() || !shards.assigned.is_empty() {
            tokio::select! {
                () = stopped(&mut stop), if deadline.is_none() => {
                    shards.stop(|_| true);
                    deadline = Some(Instant::now() + SHUTDOWN_TIMEOUT);
                }
                () = sleep_until(deadline.unwrap_or(next)), if deadline.is_some() => {
                    tracing::warn!("stopped before all in-flight batches were delivered; the next member of the group sends them again");
                    return;
                }
                Some(ended) = shards.deliveries.join_next() => {
                    shards.finish(ended);
                    if member.is_complete(end_cursors.as_deref(), &shards).await {
                        return;
                    }
                }
                // Also while in-flight batches are delivered after `stop`: no other member may get the shards until
                // then.
                () = sleep_until(next), if heartbeat.is_none() => {
                    let (member, sent_at, reported) = (Arc::clone(&member), Instant::now(), shards.numbers());
                    next = sent_at + member.membership.heartbeat;
                    heartbeat = Some(Box::pin(async move { (sent_at, member.heartbeat(&reported).await) }));
                }
                (sent_at, response) = async { heartbeat.as_mut().expect("polled only if there is a heartbeat").await }, if heartbeat.is_some() => {
                    heartbeat = None;
                    match response {
                        Ok(assigned) => {
                            last_heartbeat = sent_at;
                            shards.stop(|shard| !assigned.contains(&shard));
                            if deadline.is_none() {
                                shards.start(&member, &assigned, end_cursors.as_ref());
                                if member.is_complete(end_cursors.as_deref(), &shards).await {
                                    return;
                                }
                            }
                        }
                        Err(error) => {
                            next = Instant::now() + member.heartbeat_failed(&error, deadline.is_none()).await;
                        }
                    }
                }
                // The service removes the member now, and assigns its shards to others.
                () = sleep_until(last_heartbeat + member.membership.heartbeat * 2), if !shards.assigned.is_empty() => {
                    tracing::warn!(group = member.membership.group, "heartbeats failed for longer than the group's timeout: dropping all shards");
                    shards.drop_all().await;
                }
            }
        }
    }

    /// Reports a failed heartbeat, and recreates a deleted group if `rejoin` is set. Returns the time until the next one.
    async fn heartbeat_failed(&self, error: &HeartbeatError, rejoin: bool) -> Duration {
        let Membership { group, heartbeat, .. } = &*self.membership;
        tracing::warn!(group, %error, "heartbeat failed");
        if error.is_missing_group() && rejoin {
            self.rejoin().await;
        }
        (*heartbeat / 4).min(Duration::from_secs(5))
    }

    /// Recreates a deleted group.
    async fn rejoin(&self) {
        match timeout(self.membership.heartbeat, self.join()).await {
            Ok(Ok(())) => {
                tracing::warn!(group = self.membership.group, "the group was deleted, and has been recreated")
            }
            Ok(Err(error)) => {
                tracing::warn!(group = self.membership.group, %error, "can't recreate the deleted group")
            }
            Err(_) => {}
        }
    }

    /// The end cursors, if `until_end` is set.
    async fn end_cursors(&self) -> Option<EndCursors> {
        let request = || EndCursors::now(&self.client, &self.membership.logstore);
        if self.membership.until_end { Some(self.retry(request).await) } else { None }
    }

    /// True if the group has delivered everything up to the end cursors.
    async fn is_complete(&self, end_cursors: Option<&EndCursors>, shards: &Shards) -> bool {
        let Some(end_cursors) = end_cursors else { return false };
        if !shards.assigned.values().all(|assigned| assigned.is_read) {
            return false;
        }
        let Membership { logstore, group, .. } = &*self.membership;
        let is_read = |shard| shards.assigned.contains_key(&shard);
        let reached = end_cursors.are_reached(&self.client, logstore, group, is_read);
        match timeout(self.membership.heartbeat / 2, reached).await {
            Ok(Ok(reached)) => reached,
            // Checked again after the next heartbeat.
            Ok(Err(error)) => {
                tracing::warn!(group, %error, "can't read the group's checkpoints");
                false
            }
            Err(_) => false,
        }
    }

    async fn heartbeat(&self, reported: &[u32]) -> Result<Vec<u32>, HeartbeatError> {
        let path = format!("{}/{}", self.group_path(), self.membership.group);
        let query = [("type", "heartbeat"), ("consumer", self.membership.consumer.as_str())];
        let body = json!(reported);
        let request =
            self.client.send_json_with(Method::POST, &path, &query, vec![self.stats_header()], &body);
        let assigned =
            timeout(self.membership.heartbeat, request).await.map_err(|_| HeartbeatError::Silent)??;
        serde_json::from_value(assigned).map_err(HeartbeatError::Reply)
    }

    /// The header with the member's totals. Alibaba Cloud Log Service ignores it.
    pub(super) fn stats_header(&self) -> (&'static str, String) {
        (SENT_HEADER, json!(self.delivery.total()).to_string())
    }

    /// Reads a shard until it is revoked, or to its end cursor. Returns true for the latter.
    pub(super) async fn read(
        self: Arc<Self>,
        shard: u32,
        end_cursors: Option<Arc<EndCursors>>,
        mut stop: watch::Receiver<bool>,
    ) -> bool {
        let begin = tokio::select! {
            () = stopped(&mut stop) => return false,
            begin = self.start_cursor(shard) => begin,
        };
        let end = end_cursors.map(|end_cursors| end_cursors.end(shard).unwrap_or(begin));
        tracing::info!(shard, logstore = self.membership.logstore, cursor = begin.0, "reading");
        let origin = Origin {
            rule: self.membership.group.clone(),
            receiver: self.delivery.receiver.name().to_owned(),
            project: self.project.clone(),
            logstore: self.membership.logstore.clone(),
            shard,
            work: None,
        };
        let reader = PullReader { member: Arc::clone(&self), shard, cursor: begin, end, is_paused: false };
        let checkpoints = GroupCheckpoints { member: Arc::clone(&self), shard };
        let mut revoked = stop.clone();
        let is_stopped = stop.clone();
        let timed_out = async {
            stopped(&mut revoked).await;
            sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            delivered = self.delivery.run(&origin, reader, checkpoints, stop) => delivered.is_ok() && !*is_stopped.borrow(),
            () = timed_out => false,
        }
    }

    /// The cursor at which to start reading a shard.
    async fn start_cursor(&self, shard: u32) -> Cursor {
        let path = format!("{}/{}", self.group_path(), self.membership.group);
        let number = shard.to_string();
        let query = [("shard", number.as_str())];
        let saved = async || {
            let saved: Vec<ShardCheckpoint> = self.client.get(&path, &query).await?;
            // An unexpected response must not count as a missing checkpoint.
            let saved = saved.into_iter().find(|saved| saved.shard == shard);
            let saved = saved
                .ok_or_else(|| self.client.invalid_reply(200, "no checkpoint of the requested shard"))?;
            match saved.checkpoint.as_deref().unwrap_or_default() {
                "" => Ok(None),
                saved => Cursor::decode(saved)
                    .map(Some)
                    .map_err(|error| self.client.invalid_reply(200, &error.to_string())),
            }
        };
        match self.retry(saved).await {
            Some(cursor) => cursor,
            // The shard is newer than the group, so it is read from its oldest log.
            None => self.retry(|| self.client.cursor(&self.membership.logstore, shard, OLDEST)).await,
        }
    }

    /// Retries a request until it succeeds.
    pub(super) async fn retry<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        request: impl Fn() -> F,
    ) -> T {
        let mut backoff = Backoff::default();
        loop {
            match request().await {
                Ok(response) => return response,
                Err(error) => self.back_off(&mut backoff, &error).await,
            }
        }
    }

    pub(super) async fn back_off(&self, backoff: &mut Backoff, error: &ClientError) {
        let wait = backoff.next_delay();
        if backoff.attempts() == 1 || backoff.attempts().is_multiple_of(10) {
            tracing::warn!(logstore = self.membership.logstore, %error, ?wait, "a request to the service failed; retrying");
        }
        sleep(wait).await;
    }
}

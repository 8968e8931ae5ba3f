//! A member of a consumer group: reads the shards that the service gives it, over the network.
//!
//! The service is the only one that says whose a shard is. A member tells it at each heartbeat what it still works on,
//! and hears what it shall; it ends what is taken away, and tells that only when the last of it is delivered and
//! written down. One that is not heard for the group's timeout gives up all by itself, as the service takes it for gone.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_sls::cursor::Cursor;
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::dead_letter::Origin;
use super::feed::{Gone, LOAD, Ledger, Load, Outlet, Reader, Room, Sent, on_thread, told};
use super::goal::Goal;
use super::load::chunks;
use crate::client::{Client, ClientError};
use crate::service::members::SENT;

/// How a member takes part.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The logstore.
    pub logstore: String,
    /// The consumer group; made if there is none.
    pub group: String,
    /// The name of this member, which no other has.
    pub consumer: String,
    /// How often it tells that it is there. After two times in silence the service takes it for gone.
    pub heartbeat: Duration,
    /// How long to wait before it is asked again when there was nothing to read.
    pub fetch: Duration,
    /// Where shards begin that the group has no checkpoint of: `begin`, `end`, or a Unix time.
    pub from: String,
    /// Whether it ends when the group has delivered all that was there when it began.
    pub until_end: bool,
}

/// How long what is on its way has to be delivered when a shard is taken away, or the program ends.
const FAREWELL: Duration = Duration::from_secs(10);

/// A member of a consumer group.
#[derive(Debug)]
pub struct Member {
    client: Client,
    membership: Arc<Membership>,
    outlet: Outlet,
    project: String,
}

/// Why it is not known whose the shards are.
#[derive(Debug, thiserror::Error)]
enum HeartbeatError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no answer until the next heartbeat was due")]
    Silent,
    #[error("the answer to a heartbeat is no list of shards: {0}")]
    Reply(serde_json::Error),
}

/// The shards that a member works on.
#[derive(Default)]
struct Shards {
    held: HashMap<u32, Held>,
    feeds: JoinSet<(u32, bool)>,
}

/// A shard that the service has given.
struct Held {
    stop: watch::Sender<bool>,
    /// Whether it was read to its end, if it has one.
    is_read: bool,
}

impl Member {
    pub(crate) fn new(client: Client, project: &str, membership: Membership, outlet: Outlet) -> Self {
        Self { client, membership: Arc::new(membership), outlet, project: project.into() }
    }

    fn group_path(&self) -> String {
        format!("/logstores/{}/consumergroups", self.membership.logstore)
    }

    /// Makes the group, unless there is one.
    ///
    /// # Errors
    /// When the service refuses it: there is no such logstore, the key does not serve, there are too many groups.
    pub async fn join(&self) -> Result<(), ClientError> {
        let timeout = (self.membership.heartbeat * 2).as_secs_f64().ceil() as u64;
        let group = &self.membership.group;
        let body = json!({ "consumerGroup": group, "timeout": timeout, "order": false });
        match self.client.send_json(Method::POST, &self.group_path(), &[], &body).await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::ConsumerGroupAlreadyExist => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        let path = format!("{}/{group}", self.group_path());
        let body = json!({ "timeout": timeout, "order": false });
        self.client.send_json(Method::PUT, &path, &[], &body).await.map(drop)
    }

    /// Reads what the service gives it, until `stop`, or until all is delivered if that is what is wanted.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let goal = tokio::select! {
            () = told(&mut stop) => return,
            goal = self.goal() => goal.map(Arc::new),
        };
        let member = Arc::new(self);
        let mut shards = Shards::default();
        let mut heard = Instant::now();
        let mut next = heard;
        // When it is over, once it was told to stop.
        let mut over: Option<Instant> = None;
        while over.is_none() || !shards.held.is_empty() {
            tokio::select! {
                () = told(&mut stop), if over.is_none() => {
                    shards.stop(|_| true);
                    over = Some(Instant::now() + FAREWELL);
                }
                () = sleep_until(over.unwrap_or(next)), if over.is_some() => {
                    tracing::warn!("not all that was on its way is delivered: it is sent again by whoever comes next");
                    return;
                }
                Some(ended) = shards.feeds.join_next() => {
                    shards.ended(ended);
                    if member.has_reached(goal.as_deref(), &shards).await {
                        return;
                    }
                }
                // Also while what is on its way is delivered after the end: until then nobody else may have the shards.
                () = sleep_until(next) => {
                    let (asked, reported) = (Instant::now(), shards.held.keys().copied().collect::<Vec<u32>>());
                    next = asked + member.membership.heartbeat;
                    match member.heartbeat(&reported).await {
                        Ok(given) => {
                            heard = asked;
                            shards.stop(|shard| !given.contains(&shard));
                            if over.is_none() {
                                shards.begin(&member, &given, goal.as_ref());
                                if member.has_reached(goal.as_deref(), &shards).await {
                                    return;
                                }
                            }
                        }
                        Err(error) => {
                            tracing::warn!(group = member.membership.group, %error, "the service does not hear this consumer");
                            next = Instant::now() + (member.membership.heartbeat / 4).min(Duration::from_secs(5));
                        }
                    }
                    if heard.elapsed() > member.membership.heartbeat * 2 && !shards.held.is_empty() {
                        tracing::warn!(group = member.membership.group, "not heard for too long: all shards are given up");
                        shards.feeds.shutdown().await;
                        shards.held.clear();
                    }
                }
            }
        }
    }

    /// What it reads before it ends, if it shall.
    async fn goal(&self) -> Option<Goal> {
        let ask = || Goal::now(&self.client, &self.membership.logstore);
        if self.membership.until_end { Some(self.patiently(ask).await) } else { None }
    }

    /// Whether all is delivered that it was to see delivered.
    async fn has_reached(&self, goal: Option<&Goal>, shards: &Shards) -> bool {
        let Some(goal) = goal else { return false };
        if !shards.held.values().all(|held| held.is_read) {
            return false;
        }
        let Membership { logstore, group, from, .. } = &*self.membership;
        let is_read = |shard| shards.held.contains_key(&shard);
        let reached = goal.is_reached(&self.client, logstore, group, from, is_read);
        match timeout(self.membership.heartbeat / 2, reached).await {
            Ok(Ok(reached)) => reached,
            // It is asked again after the next heartbeat.
            Ok(Err(error)) => {
                tracing::warn!(group, %error, "it is not known how far the group is");
                false
            }
            Err(_) => false,
        }
    }

    async fn heartbeat(&self, reported: &[u32]) -> Result<Vec<u32>, HeartbeatError> {
        let path = format!("{}/{}", self.group_path(), self.membership.group);
        let query = [("type", "heartbeat"), ("consumer", self.membership.consumer.as_str())];
        let body = json!(reported);
        let ask = self.client.send_json_with(Method::POST, &path, &query, vec![self.sent()], &body);
        let given = timeout(self.membership.heartbeat, ask).await.map_err(|_| HeartbeatError::Silent)??;
        serde_json::from_value(given).map_err(HeartbeatError::Reply)
    }

    /// The header that says what it has sent. Log Service itself does not look at it.
    fn sent(&self) -> (&'static str, String) {
        (SENT, json!(self.outlet.total()).to_string())
    }

    /// Reads a shard until it is taken away, or read to its end: then true.
    async fn read(
        self: Arc<Self>,
        shard: u32,
        goal: Option<Arc<Goal>>,
        mut stop: watch::Receiver<bool>,
    ) -> bool {
        let begin = tokio::select! {
            () = told(&mut stop) => return false,
            begin = self.begin(shard) => begin,
        };
        let end = goal.map(|goal| goal.end(shard).unwrap_or(begin));
        tracing::info!(shard, logstore = self.membership.logstore, cursor = begin.0, "reading");
        let origin = Origin {
            rule: self.membership.group.clone(),
            receiver: self.outlet.receiver.name().to_owned(),
            project: self.project.clone(),
            logstore: self.membership.logstore.clone(),
            shard,
        };
        let reader = Pulling { member: Arc::clone(&self), shard, cursor: begin, end, pause: false };
        let ledger = Checkpoints { member: Arc::clone(&self), shard };
        let mut taken_away = stop.clone();
        let is_stopped = stop.clone();
        let late = async {
            told(&mut taken_away).await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            fed = self.outlet.feed(&origin, reader, ledger, stop) => fed.is_ok() && !*is_stopped.borrow(),
            () = late => false,
        }
    }

    /// Where the shard is to be read from.
    async fn begin(&self, shard: u32) -> Cursor {
        let path = format!("{}/{}", self.group_path(), self.membership.group);
        let number = shard.to_string();
        let query = [("shard", number.as_str())];
        let saved: Value = self.patiently(|| self.client.get(&path, &query)).await;
        let saved = saved[0]["checkpoint"].as_str().unwrap_or_default();
        match Cursor::decode(saved) {
            Ok(cursor) if !saved.is_empty() => cursor,
            _ => {
                let Membership { logstore, from, .. } = &*self.membership;
                self.patiently(|| self.client.cursor(logstore, shard, from)).await
            }
        }
    }

    /// Asks until there is an answer.
    async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(&self, ask: impl Fn() -> F) -> T {
        let mut backoff = Backoff::default();
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => self.wait(&mut backoff, &error).await,
            }
        }
    }

    async fn wait(&self, backoff: &mut Backoff, error: &ClientError) {
        let wait = backoff.next();
        if backoff.tries() == 1 || backoff.tries().is_multiple_of(10) {
            tracing::warn!(logstore = self.membership.logstore, %error, ?wait, "the service is asked again");
        }
        sleep(wait).await;
    }
}

impl Shards {
    /// Ends to read those; what is on its way is delivered. Those that were read are given back.
    fn stop(&mut self, which: impl Fn(u32) -> bool) {
        self.held.retain(|&shard, held| {
            let stops = which(shard);
            if stops && !held.is_read && !held.stop.send_replace(true) {
                tracing::info!(shard, "the shard is given back");
            }
            !(stops && held.is_read)
        });
    }

    /// Begins to read what is new of those that are given.
    fn begin(&mut self, member: &Arc<Member>, given: &[u32], goal: Option<&Arc<Goal>>) {
        for &shard in given {
            if self.held.contains_key(&shard) {
                continue;
            }
            let stop = watch::Sender::new(false);
            let (member, stopping) = (Arc::clone(member), stop.subscribe());
            let goal = goal.cloned();
            self.held.insert(shard, Held { stop, is_read: false });
            self.feeds.spawn(async move {
                let read = AssertUnwindSafe(member.read(shard, goal, stopping)).catch_unwind().await;
                if read.is_err() {
                    // It is given again at the next heartbeat, and read from its checkpoint.
                    tracing::error!(shard, "a defect of logship: please report it");
                }
                (shard, read.unwrap_or(false))
            });
        }
    }

    /// A shard was given back, or read to its end: then it is still held, so that nobody reads it again.
    fn ended(&mut self, ended: Result<(u32, bool), JoinError>) {
        let Ok((shard, is_read)) = ended else { return };
        match self.held.get_mut(&shard) {
            Some(held) if is_read => held.is_read = true,
            _ => drop(self.held.remove(&shard)),
        }
    }
}

/// Pulls log groups from a shard.
struct Pulling {
    member: Arc<Member>,
    shard: u32,
    cursor: Cursor,
    /// Where to stop, if anywhere.
    end: Option<Cursor>,
    /// Whether there was little last time.
    pause: bool,
}

impl Reader for Pulling {
    type Mark = Cursor;

    async fn next(&mut self, room: &Arc<Semaphore>) -> Result<Option<Load<Cursor>>, Gone> {
        let mut backoff = Backoff::default();
        loop {
            if self.end.is_some_and(|end| self.cursor.0 >= end.0) {
                return Ok(None);
            }
            if std::mem::take(&mut self.pause) {
                sleep(self.member.membership.fetch).await;
            }
            let mut room = Room::take(room).await;
            let logstore = &self.member.membership.logstore;
            match self.member.client.pull(logstore, self.shard, self.cursor, 0).await {
                Ok(pulled) => {
                    backoff = Backoff::default();
                    // Many small requests are dear, for the receiver too.
                    self.pause = pulled.list.len() < LOAD / 4;
                    let (from, next) = (self.cursor.0, pulled.next);
                    if pulled.groups == 0 {
                        if next == self.cursor {
                            self.pause = true;
                        }
                        self.cursor = next;
                        continue;
                    }
                    room.shrink(pulled.list.len());
                    match on_thread(move || chunks(&pulled.list, from)).await {
                        Ok(chunks) => {
                            self.cursor = next;
                            return Ok(Some(Load { chunks, mark: next, room }));
                        }
                        Err(error) => {
                            let wait = backoff.next();
                            tracing::error!(shard = self.shard, cursor = from, %error, ?wait, "what was pulled can't be read; it is pulled again");
                            sleep(wait).await;
                        }
                    }
                }
                Err(ClientError::Refused(error)) if error.code == ErrorCode::ShardNotExist => {
                    return Err(Gone);
                }
                Err(ClientError::Refused(error)) if error.code == ErrorCode::InvalidCursor => {
                    self.skip_to_the_oldest(&error.to_string()).await;
                }
                Err(error) => {
                    drop(room);
                    self.member.wait(&mut backoff, &error).await;
                }
            }
        }
    }
}

impl Pulling {
    /// Logs that were deleted before they were read are told of.
    async fn skip_to_the_oldest(&mut self, error: &str) {
        let logstore = &self.member.membership.logstore;
        let oldest = self.member.patiently(|| self.member.client.cursor(logstore, self.shard, "begin")).await;
        tracing::error!(
            logstore,
            shard = self.shard,
            cursor = self.cursor.0,
            oldest = oldest.0,
            error,
            "logs were deleted by the logstore's time to live before they were read; reading goes on with the oldest"
        );
        self.cursor = oldest;
        self.pause = true;
    }
}

/// Writes down how far a shard is with the group.
struct Checkpoints {
    member: Arc<Member>,
    shard: u32,
}

impl Ledger<Cursor> for Checkpoints {
    async fn done(&mut self, mark: Cursor, _sent: Sent) -> Result<(), Gone> {
        let member = &self.member;
        let path = format!("{}/{}", member.group_path(), member.membership.group);
        let query = [
            ("type", "checkpoint"),
            ("consumer", member.membership.consumer.as_str()),
            ("forceSuccess", "false"),
        ];
        let body = json!({ "shard": self.shard, "checkpoint": mark.encode() });
        let mut backoff = Backoff::default();
        loop {
            let headers = vec![member.sent()];
            match member.client.send_json_with(Method::POST, &path, &query, headers, &body).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => member.wait(&mut backoff, &error).await,
                Err(error) => {
                    tracing::warn!(shard = self.shard, %error, "the shard is not this consumer's any more");
                    return Err(Gone);
                }
            }
        }
    }
}

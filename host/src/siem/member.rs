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
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::dead_letter::Origin;
use super::feed::{Gone, LOAD, Ledger, Load, Outlet, Reader, Room, Sent, on_thread, told};
use super::load::chunks;
use crate::client::{Client, ClientError};

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
    /// Whether it ends when all that is there now was read.
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

/// A shard that is read.
struct Held {
    stop: watch::Sender<bool>,
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

    /// Reads what the service gives it, until `stop`, or until all is read if that is what is wanted.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let member = Arc::new(self);
        let mut held: HashMap<u32, Held> = HashMap::new();
        let mut feeds: JoinSet<u32> = JoinSet::new();
        let mut heard = Instant::now();
        let mut next = Instant::now();
        let mut given: Option<Vec<u32>> = None;
        loop {
            tokio::select! {
                () = told(&mut stop) => break,
                Some(ended) = feeds.join_next() => {
                    if let Ok(shard) = ended {
                        held.remove(&shard);
                    }
                    if member.membership.until_end && held.is_empty() && given.is_some() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(next) => {
                    next = Instant::now() + member.membership.heartbeat;
                    let (asked, reported) = (Instant::now(), held.keys().copied().collect::<Vec<u32>>());
                    match member.heartbeat(&reported).await {
                        Ok(shards) => {
                            heard = asked;
                            member.change(&mut held, &mut feeds, &shards);
                            given = Some(shards);
                        }
                        Err(error) => {
                            tracing::warn!(group = member.membership.group, %error, "the service does not hear this consumer");
                            next = Instant::now() + (member.membership.heartbeat / 4).min(Duration::from_secs(5));
                        }
                    }
                    if heard.elapsed() > member.membership.heartbeat * 2 && !held.is_empty() {
                        tracing::warn!(group = member.membership.group, "not heard for too long: all shards are given up");
                        feeds.shutdown().await;
                        held.clear();
                    }
                }
            }
        }
        for held in held.values() {
            held.stop.send_replace(true);
        }
        let ended = async { while feeds.join_next().await.is_some() {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!(
                "not all that was on its way is delivered: it is sent again by whoever comes next"
            );
        }
    }

    async fn heartbeat(&self, reported: &[u32]) -> Result<Vec<u32>, HeartbeatError> {
        let path = format!("{}/{}", self.group_path(), self.membership.group);
        let query = [("type", "heartbeat"), ("consumer", self.membership.consumer.as_str())];
        let body = json!(reported);
        let ask = self.client.send_json(Method::POST, &path, &query, &body);
        let given = timeout(self.membership.heartbeat, ask).await.map_err(|_| HeartbeatError::Silent)??;
        serde_json::from_value(given).map_err(HeartbeatError::Reply)
    }

    /// Begins to read what is new, and ends to read what is not given any more.
    fn change(self: &Arc<Self>, held: &mut HashMap<u32, Held>, feeds: &mut JoinSet<u32>, given: &[u32]) {
        for (shard, held) in held.iter().filter(|(shard, _)| !given.contains(shard)) {
            if !held.stop.send_replace(true) {
                tracing::info!(shard, "the shard goes to another consumer");
            }
        }
        for &shard in given {
            if held.contains_key(&shard) {
                continue;
            }
            let stop = watch::Sender::new(false);
            let (member, stopping) = (Arc::clone(self), stop.subscribe());
            held.insert(shard, Held { stop });
            feeds.spawn(async move {
                let read = AssertUnwindSafe(member.read(shard, stopping)).catch_unwind().await;
                if read.is_err() {
                    // It is given again at the next heartbeat, and read from its checkpoint.
                    tracing::error!(shard, "a defect of logship: please report it");
                }
                shard
            });
        }
    }

    /// Reads a shard until it is taken away.
    async fn read(self: Arc<Self>, shard: u32, mut stop: watch::Receiver<bool>) {
        let begin = tokio::select! {
            () = told(&mut stop) => return,
            begin = self.begin(shard) => begin,
        };
        let end = match self.membership.until_end {
            true => {
                Some(self.patiently(|| self.client.cursor(&self.membership.logstore, shard, "end")).await)
            }
            false => None,
        };
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
        let late = async {
            told(&mut taken_away).await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            _ = self.outlet.feed(&origin, reader, ledger, stop) => {}
            () = late => {}
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
        if backoff.tries() == 1 || backoff.tries() % 10 == 0 {
            tracing::warn!(logstore = self.membership.logstore, %error, ?wait, "the service is asked again");
        }
        sleep(wait).await;
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
            match member.client.send_json(Method::POST, &path, &query, &body).await {
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

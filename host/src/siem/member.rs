//! A member of a consumer group: reads the shards that the service gives it, over the network.
//!
//! The service is the only one that says whose a shard is. A member tells it at each heartbeat what it still works on,
//! and hears what it shall; it ends what is taken away, and tells that only when the last of it is delivered and
//! written down. One that is not heard for the group's timeout gives up all by itself, as the service takes it for gone.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use logship_sls::cursor::Cursor;
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::dead_letter::Origin;
use super::feed::{Gone, LOAD, Ledger, Load, Outlet, Reader, Room, Sent, on_thread, told};
use super::goal::{Goal, Saved, shards};
use super::load::chunks;
use crate::client::{Client, ClientError, MOST_GROUPS};
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

/// The oldest logs that are there.
pub(super) const BEGIN: &str = "begin";

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

impl HeartbeatError {
    fn is_no_group(&self) -> bool {
        matches!(self, Self::Client(ClientError::Refused(error)) if error.code == ErrorCode::ConsumerGroupNotExist)
    }
}

/// When a heartbeat was sent, and the shards that it was answered with.
type Heard = (Instant, Result<Vec<u32>, HeartbeatError>);

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

    /// Makes the group, unless there is one, and writes down where it begins.
    ///
    /// # Errors
    /// When the service refuses it: there is no such logstore, the key does not serve, there are too many groups.
    pub async fn join(&self) -> Result<(), ClientError> {
        let timeout = (self.membership.heartbeat * 2).as_secs_f64().ceil() as u64;
        let group = &self.membership.group;
        let body = json!({ "consumerGroup": group, "timeout": timeout, "order": false });
        match self.client.send_json(Method::POST, &self.group_path(), &[], &body).await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::ConsumerGroupAlreadyExist => {
                self.raise_timeout(timeout).await?;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        self.write_begin().await
    }

    /// Others of the group may be heard less often: its timeout is made no shorter, and nothing else of it is changed.
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

    /// The end that a group begins at is that of the day it began: it is written down before anything is read. Otherwise
    /// it would be another one after each restart until the first load is delivered.
    async fn write_begin(&self) -> Result<(), ClientError> {
        let Membership { logstore, group, from, .. } = &*self.membership;
        if from == BEGIN {
            return Ok(());
        }
        let path = format!("{}/{group}", self.group_path());
        let saved: Vec<Saved> = self.client.get(&path, &[]).await?;
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
        // A heartbeat on its way. It must not keep anything else from being seen.
        let mut beat: Option<Pin<Box<dyn Future<Output = Heard> + Send>>> = None;
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
                () = sleep_until(next), if beat.is_none() => {
                    let (member, asked) = (Arc::clone(&member), Instant::now());
                    let reported: Vec<u32> = shards.held.keys().copied().collect();
                    next = asked + member.membership.heartbeat;
                    beat = Some(Box::pin(async move { (asked, member.heartbeat(&reported).await) }));
                }
                (asked, answer) = async { beat.as_mut().expect("asked for where there is one").await }, if beat.is_some() => {
                    beat = None;
                    match answer {
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
                            if error.is_no_group() && over.is_none() {
                                member.join_again().await;
                            }
                        }
                    }
                }
                // The service takes it for gone then, and gives its shards to others.
                () = sleep_until(heard + member.membership.heartbeat * 2), if !shards.held.is_empty() => {
                    tracing::warn!(group = member.membership.group, "not heard for too long: all shards are given up");
                    shards.feeds.shutdown().await;
                    shards.held.clear();
                }
            }
        }
    }

    /// Makes a group anew that somebody deleted.
    async fn join_again(&self) {
        match timeout(self.membership.heartbeat, self.join()).await {
            Ok(Ok(())) => {
                tracing::warn!(group = self.membership.group, "the group was deleted, and is made anew")
            }
            Ok(Err(error)) => {
                tracing::warn!(group = self.membership.group, %error, "the group can't be made anew")
            }
            Err(_) => {}
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
        let Membership { logstore, group, .. } = &*self.membership;
        let is_read = |shard| shards.held.contains_key(&shard);
        let reached = goal.is_reached(&self.client, logstore, group, is_read);
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
        let saved = async || {
            let saved: Vec<Saved> = self.client.get(&path, &query).await?;
            // Another answer is no word that there is no checkpoint.
            let saved = saved.into_iter().find(|saved| saved.shard == shard);
            let saved = saved
                .ok_or_else(|| self.client.reply(200, "no checkpoint of the shard that was asked for"))?;
            match saved.checkpoint.as_deref().unwrap_or_default() {
                "" => Ok(None),
                saved => Cursor::decode(saved)
                    .map(Some)
                    .map_err(|error| self.client.reply(200, &error.to_string())),
            }
        };
        match self.patiently(saved).await {
            Some(cursor) => cursor,
            // It came after the group began: all of it is asked for.
            None => self.patiently(|| self.client.cursor(&self.membership.logstore, shard, BEGIN)).await,
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
                    // Many small requests are dear, for the receiver too.
                    self.pause = pulled.list.len() < LOAD / 4 && pulled.groups < MOST_GROUPS;
                    self.tell_of_deleted(pulled.first);
                    let (from, next) = (self.cursor.0, pulled.next);
                    if pulled.groups == 0 {
                        backoff = Backoff::default();
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
                            return Ok(Some(Load { chunks, mark: next, room, formatters: None }));
                        }
                        Err(error) => {
                            let wait = backoff.next();
                            tracing::error!(shard = self.shard, cursor = from, %error, ?wait, "what was pulled can't be read; it is pulled again");
                            drop(room);
                            sleep(wait).await;
                        }
                    }
                }
                Err(ClientError::Refused(error)) if error.code == ErrorCode::ShardNotExist => {
                    // What was read of it is still delivered.
                    tracing::warn!(
                        logstore,
                        shard = self.shard,
                        cursor = self.cursor.0,
                        "the shard is no more: what was not read of it is lost"
                    );
                    return Ok(None);
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
    /// Logs may have been deleted while a receiver was down for long, or nobody read.
    fn tell_of_deleted(&self, first: Option<u64>) {
        let Some(first) = first.filter(|first| *first > self.cursor.0) else { return };
        tracing::error!(
            logstore = self.member.membership.logstore,
            shard = self.shard,
            cursor = self.cursor.0,
            oldest = first,
            "{DELETED}"
        );
    }

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
            "{DELETED}"
        );
        self.cursor = oldest;
        self.pause = true;
    }
}

const DELETED: &str =
    "logs were deleted by the logstore's time to live before they were read; reading goes on with the oldest";

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
                Err(ClientError::Refused(error)) if is_taken_away(&error.code) => {
                    tracing::warn!(shard = self.shard, %error, "the shard is not this consumer's any more");
                    return Err(Gone);
                }
                // What comes behind it is delivered as well.
                Err(ClientError::Refused(error)) if error.code == ErrorCode::ShardNotExist => return Ok(()),
                // A quota, a key that is being changed: given up now, all that is on its way would be sent again.
                Err(error) => member.wait(&mut backoff, &error).await,
            }
        }
    }
}

/// Whether a refused checkpoint means that the shard is another's.
fn is_taken_away(code: &ErrorCode) -> bool {
    use ErrorCode::{ConsumerGroupNotExist, ConsumerNotExist, ConsumerNotMatch};
    matches!(code, ConsumerNotMatch | ConsumerNotExist | ConsumerGroupNotExist)
}

//! Shards: the responses about them, and their content after a restart.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use logship_client::{Client, ClientError};
use logship_sls::cursor::Cursor;
use logship_sls::hash_key::HashRange;
use logship_sls::log_group;
use reqwest::Method;
use serde_json::{Value, json};

use super::*;

/// The known state of a shard.
pub(crate) struct Shard {
    pub(crate) number: u32,
    pub(crate) keys: HashRange,
    pub(crate) begin: u64,
    /// The groups from `begin` on, at consecutive positions.
    pub(crate) groups: Vec<Group>,
    /// The position that the service returned for a time.
    pub(crate) times: BTreeMap<u64, u64>,
}

pub(crate) async fn shards(client: &Client) -> Vec<Shard> {
    let mut shards = vec![];
    for (number, keys) in (0..).zip(HashRange::evenly(SHARDS)) {
        let begin = client.cursor(LOGSTORE, number, "begin").await.unwrap().0;
        shards.push(Shard { number, keys, begin, groups: vec![], times: BTreeMap::new() });
    }
    shards
}

/// Returns the groups of all shards that are not known yet.
pub(crate) async fn new_groups(shards: &mut [Shard], client: &Client) -> Vec<Group> {
    let mut new = vec![];
    for shard in shards {
        new.extend(shard.new_groups(client).await);
    }
    new
}

impl Shard {
    pub(crate) fn end(&self) -> u64 {
        self.begin + self.groups.len() as u64
    }

    /// Returns all groups from a position on.
    pub(crate) async fn from(&self, client: &Client, position: u64) -> Vec<Group> {
        let mut groups = vec![];
        loop {
            let more = pull(client, self.number, position + groups.len() as u64, 0).await.unwrap();
            if more.is_empty() {
                return groups;
            }
            groups.extend(more);
        }
    }

    pub(crate) async fn new_groups(&mut self, client: &Client) -> Vec<Group> {
        let new = self.from(client, self.end()).await;
        let misplaced = new.iter().find(|group| group.hash_key().is_some_and(|key| !self.keys.contains(key)));
        assert_eq!(misplaced, None, "shard {} has keys outside its range", self.number);
        self.groups.extend(&new);
        new
    }

    /// Checks after a restart that the shard matches all responses before it. Returns the new groups.
    pub(crate) async fn verify(&mut self, client: &Client, seen: &Seen, random: &mut Rng) -> Vec<Group> {
        let new = self.new_groups(client).await;
        assert!(new.starts_with(&seen.groups), "shard {} has other groups than were pulled", self.number);
        assert!(self.end() >= seen.end, "shard {} ends before {}", self.number, seen.end);
        let checkpoint = checkpoint(client, self.number).await;
        let possible = [seen.saved, seen.saving];
        assert!(
            possible.contains(&checkpoint),
            "shard {}: {checkpoint:?} is not in {possible:?}",
            self.number
        );
        self.times.extend(seen.time);
        self.verify_anywhere(client, random).await;
        new
    }

    /// Checks some older positions and times.
    pub(crate) async fn verify_anywhere(&self, client: &Client, random: &mut Rng) {
        for _ in 0..2 {
            let index = random.usize(..=self.groups.len());
            let found = pull(client, self.number, self.begin + index as u64, 0).await.unwrap();
            assert!(self.groups[index..].starts_with(&found), "shard {} from {index} on", self.number);
        }
        if let Some((time, position)) = random.choice(&self.times) {
            let cursor = client.cursor(LOGSTORE, self.number, &time.to_string()).await.unwrap();
            assert_eq!(cursor.0, *position, "shard {} at {time}", self.number);
        }
    }
}

/// Returns the groups of one response from a position on.
pub(crate) async fn pull(
    client: &Client,
    shard: u32,
    from: u64,
    wait: u32,
) -> Result<Vec<Group>, ClientError> {
    let pulled = client.pull(LOGSTORE, shard, Cursor(from), wait).await?;
    let groups: Vec<_> = log_group::groups(&pulled.list).map(|group| Group::decode(group.unwrap())).collect();
    assert_eq!(pulled.next.0, from + groups.len() as u64, "positions are consecutive");
    Ok(groups)
}

/// Returns the checkpoint of the steady group, if it has one.
pub(crate) async fn checkpoint(client: &Client, shard: u32) -> Option<u64> {
    let shard = shard.to_string();
    let found: Value = client.get(&group_path(STEADY), &[("shard", &shard)]).await.unwrap();
    let cursor = found[0]["checkpoint"].as_str().expect("a checkpoint");
    (!cursor.is_empty()).then(|| Cursor::decode(cursor).unwrap().0)
}

pub(crate) async fn save_checkpoint(client: &Client, shard: u32, position: u64) -> Result<(), ClientError> {
    let body = json!({ "shard": shard, "checkpoint": Cursor(position).encode() });
    let query = [("type", "checkpoint"), ("consumer", STEADY), ("forceSuccess", "false")];
    client.send_json(Method::POST, &group_path(STEADY), &query, &body).await.map(drop)
}

/// The responses about a shard in one round.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) begin: u64,
    /// The pulled groups, from `begin` on.
    pub(crate) groups: Vec<Group>,
    pub(crate) end: u64,
    /// A time and its position.
    pub(crate) time: Option<(u64, u64)>,
    /// The last acknowledged checkpoint.
    pub(crate) saved: Option<u64>,
    /// The last sent checkpoint.
    pub(crate) saving: Option<u64>,
}

impl Seen {
    pub(crate) fn next(&self) -> u64 {
        self.begin + self.groups.len() as u64
    }

    /// Reads the shard and saves checkpoints, until the service is gone.
    pub(crate) async fn follow(&mut self, client: &Client, shard: u32) -> Result<(), ClientError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.time = Some((now, client.cursor(LOGSTORE, shard, &now.to_string()).await?.0));
        loop {
            let end = client.cursor(LOGSTORE, shard, "end").await?.0;
            assert!(end >= self.end.max(self.next()));
            self.end = end;
            self.groups.extend(pull(client, shard, self.next(), 1).await?);
            self.saving = Some(self.next());
            save_checkpoint(client, shard, self.next()).await?;
            self.saved = self.saving;
        }
    }
}

/// Runs the steady group's consumer on one shard.
pub(crate) async fn consume(client: Client, shard: u32, begin: u64) -> (u32, Seen) {
    let saved = checkpoint(&client, shard).await;
    let mut seen = Seen { begin, groups: vec![], end: begin, time: None, saved, saving: saved };
    assert_gone(&seen.follow(&client, shard).await.unwrap_err());
    (shard, seen)
}

//! Logstores, their settings, and lookups of what belongs to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use logship_sls::hash_key::HashKey;
use serde_json::Value;

use super::{ConsumerGroup, Shard, ShippingRule};
use crate::error::StoreError;

/// A time to live of this many days keeps logs forever.
pub const FOREVER: u32 = 3650;

/// A logstore: logs of one kind, with a time to live.
#[derive(Debug)]
pub struct Logstore {
    pub(crate) id: i64,
    /// The name of its project.
    pub project: String,
    /// The name.
    pub name: String,
    /// The time to live of its logs, in days.
    pub ttl: u32,
    /// Other settings of the client, returned unchanged and not interpreted.
    pub settings: Value,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
    /// The reason of its legal hold, if it has one.
    pub hold: Option<String>,
    /// The shards, by number.
    pub shards: Vec<Arc<Shard>>,
    /// The consumer groups, by name.
    pub groups: BTreeMap<String, ConsumerGroup>,
    /// The shipping rules, by name.
    pub rules: BTreeMap<String, ShippingRule>,
    /// The round-robin counter of [`next_shard`](Self::next_shard).
    pub(crate) round_robin: AtomicUsize,
}

/// The settings of a logstore.
#[derive(Debug, Clone)]
pub struct LogstoreSettings {
    /// The time to live of logs, in days; [`FOREVER`] keeps them forever.
    pub ttl: u32,
    /// Other settings of the client, returned unchanged.
    pub settings: Value,
}

impl Logstore {
    /// Returns the shard of this number.
    pub fn shard(&self, number: u32) -> Result<&Arc<Shard>, StoreError> {
        self.shards
            .binary_search_by_key(&number, |shard| shard.number)
            .map(|index| &self.shards[index])
            .map_err(|_| StoreError::NoShard(number))
    }

    /// Returns the writable shards.
    pub fn writable(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().filter(|shard| shard.writable)
    }

    /// Returns the shard for the next logs without a key: round robin among the writable shards.
    pub fn next_shard(&self) -> Option<&Arc<Shard>> {
        let count = self.writable().count().max(1);
        self.writable().nth(self.round_robin.fetch_add(1, Ordering::Relaxed) % count)
    }

    /// Returns the writable shard whose range contains the key.
    pub fn shard_of(&self, key: HashKey) -> Option<&Arc<Shard>> {
        self.writable().find(|shard| shard.keys.contains(key))
    }

    /// Returns the consumer group of this name.
    pub fn group(&self, name: &str) -> Result<&ConsumerGroup, StoreError> {
        self.groups.get(name).ok_or_else(|| StoreError::NoGroup(name.into()))
    }

    /// Returns the rule of this name.
    pub fn rule(&self, name: &str) -> Result<&ShippingRule, StoreError> {
        self.rules.get(name).ok_or_else(|| StoreError::NoRule(name.into()))
    }
}

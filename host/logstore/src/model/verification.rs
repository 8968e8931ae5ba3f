//! Results of the verification of a store.

use serde::{Deserialize, Serialize};

use crate::damage::Damage;
use crate::digest::Digest;

/// The result of the verification of a store.
#[derive(Debug, Default)]
pub struct Verification {
    /// The shards, in the order of their projects and logstores.
    pub shards: Vec<VerifiedShard>,
    /// The number of tasks whose heads were compared with the chain.
    pub tasks: u64,
    /// Tasks and positions of readers that contradict the log groups, in words.
    pub contradictions: Vec<String>,
}

/// The result of the verification of a shard.
#[derive(Debug)]
pub struct VerifiedShard {
    /// The end of the shard, to be kept elsewhere.
    pub head: ShardHead,
    /// The position of the oldest stored log group.
    pub begin: u64,
    /// The number of log groups that match their checksums.
    pub groups: u64,
    /// The number of log groups without a checksum, because they were stored before checksums.
    pub unverified: u64,
    /// The damage, in the order of the positions: at most [`MAX_DAMAGE`](Self::MAX_DAMAGE).
    pub damage: Vec<Damage>,
    /// The number of all findings of damage.
    pub damage_count: u64,
}

/// The head of a shard's chain at a time: it fixes all log groups in front of the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardHead {
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The shard number.
    pub shard: u32,
    /// The first cursor that the shard ever had. A shard that was created anew has another one.
    pub origin: u64,
    /// The position of the next log group.
    pub cursor: u64,
    /// The head before it, in hexadecimal.
    pub head: Digest,
}

/// The result of the comparison of a kept head with the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// The store has the same log groups.
    Same,
    /// The time to live deleted the log groups, so that the head can't be compared.
    Expired,
    /// The store has no such shard: its logstore was deleted.
    NoShard,
    /// The shard was created anew.
    Replaced,
    /// The shard ends in front of the cursor: log groups are gone, for example because an old backup was restored.
    Gone {
        /// The end of the shard.
        end: u64,
    },
    /// The log groups are others.
    Different {
        /// The head at the cursor, if there is one.
        found: Option<Digest>,
    },
}

impl VerifiedShard {
    /// The most findings that are listed of a shard.
    pub const MAX_DAMAGE: usize = 1000;
}

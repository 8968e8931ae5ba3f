//! Damage of stored log groups.

use std::fmt;

use crate::digest::Digest;

/// Damaged or missing log groups of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The shard number.
    pub shard: u32,
    /// The position of the first damaged log group.
    pub position: u64,
    /// The kind of damage.
    pub flaw: Flaw,
}

/// A kind of damage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The stored bytes differ from those of the put.
    Checksum {
        /// The stored checksum.
        stored: Digest,
        /// The checksum of the stored bytes.
        computed: Digest,
    },
    /// The checksum is missing or is no digest.
    NoChecksum,
    /// The head of the chain is not the one of the groups before.
    Head,
    /// Log groups are missing, up to this position.
    Missing {
        /// The position of the next existing log group.
        to: u64,
    },
    /// The log groups follow the recorded end of the chain.
    Added {
        /// The position after the last log group.
        to: u64,
    },
    /// The head before the oldest log group, or after the newest one, is not the recorded one.
    Ends,
    /// The database can't read the log groups up to this position.
    Unreadable {
        /// The position after the last unreadable log group.
        to: u64,
        /// The reason.
        reason: String,
    },
}

impl Damage {
    /// Returns the position behind the damaged log groups.
    pub fn end(&self) -> u64 {
        match self.flaw {
            Flaw::Missing { to } | Flaw::Added { to } | Flaw::Unreadable { to, .. } => to,
            _ => self.position + 1,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, position, flaw } = self;
        match flaw {
            Flaw::Checksum { stored, computed } => write!(
                formatter,
                "the log group at cursor {position} of shard {shard} is damaged: its checksum is {computed}, not {stored}"
            ),
            Flaw::NoChecksum => write!(
                formatter,
                "the log group at cursor {position} of shard {shard} is damaged: its checksum is missing"
            ),
            Flaw::Head => write!(
                formatter,
                "the log group at cursor {position} of shard {shard} breaks the chain: log groups were changed, removed or reordered here"
            ),
            Flaw::Missing { to } => write!(
                formatter,
                "the log groups from cursor {position} to {to} of shard {shard} are missing"
            ),
            Flaw::Added { to } => write!(
                formatter,
                "the log groups from cursor {position} to {to} of shard {shard} are not in the chain: something else than logship added them"
            ),
            Flaw::Ends => write!(
                formatter,
                "the recorded head of the chain at cursor {position} of shard {shard} is not the head of its log groups"
            ),
            Flaw::Unreadable { to, reason } if *to <= position + 1 => write!(
                formatter,
                "the log group at cursor {position} of shard {shard} can't be read: {reason}"
            ),
            Flaw::Unreadable { to, reason } => write!(
                formatter,
                "the log groups from cursor {position} to {to} of shard {shard} can't be read: {reason}"
            ),
        }
    }
}

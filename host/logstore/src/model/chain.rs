//! The hash chain of a shard.
//!
//! Each log group has a **checksum**: the digest of its position, its columns and its body. The **head** after a group is
//! the digest of the head before it and its checksum. So a head fixes all groups before it, and their order. The first
//! head is derived from the shard.

use super::{NewGroup, POSITION_BITS, Segments, Shard};
use crate::digest::Digest;

/// The chain of a shard: its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The position of the oldest stored log group in the chain.
    pub(crate) start: u64,
    /// The head before that group.
    pub(crate) base: Digest,
    /// The position of the next log group.
    pub(crate) end: u64,
    /// The head before the next log group.
    pub(crate) head: Digest,
}

/// The heads of a range of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// The head before the first log group of the range.
    pub before: Digest,
    /// The head after the last log group of the range.
    pub after: Digest,
}

/// A log group to store, with the digest of its body.
#[derive(Debug)]
pub(crate) struct HashedGroup {
    pub(crate) group: NewGroup,
    digest: Digest,
}

/// The columns of a log group that its checksum covers, besides its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupColumns {
    pub(crate) position: u64,
    pub(crate) received: u64,
    pub(crate) newest: u32,
    pub(crate) logs: u32,
    pub(crate) size: u32,
}

impl Chain {
    /// Returns a chain without groups, whose next group is at `position`.
    pub(crate) fn begin(shard: i64, origin: u64, position: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("logship log group chain v1");
        for number in [shard as u64, origin, position] {
            hasher.update(&number.to_le_bytes());
        }
        let head = Digest::from(hasher.finalize());
        Self { start: position, base: head, end: position, head }
    }

    /// Returns the number of log groups up to its end; 0 if logship can't have written the end.
    pub(crate) fn groups(&self, segments: &Segments) -> u64 {
        let groups = segments.groups_before(self.end);
        if groups < 1 << POSITION_BITS { groups } else { 0 }
    }

    /// Appends the checksum of the group at `position`.
    pub(crate) fn push(&mut self, position: u64, checksum: &Digest) {
        self.head = next_head(&self.head, checksum);
        self.end = position + 1;
    }
}

/// Returns the head after a group.
pub(crate) fn next_head(before: &Digest, checksum: &Digest) -> Digest {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(before.bytes());
    bytes[32..].copy_from_slice(checksum.bytes());
    Digest::of(&bytes)
}

impl HashedGroup {
    /// Computes the digest of the body.
    pub(crate) fn new(group: NewGroup) -> Self {
        Self { digest: Digest::of(&group.body), group }
    }

    /// Returns the checksum of the group at its position in the shard.
    pub(crate) fn checksum(&self, shard: &Shard, position: u64, received: u64) -> Digest {
        let NewGroup { newest, logs, size, .. } = self.group;
        let columns = GroupColumns { position, received, newest, logs, size };
        columns.checksum(shard, &self.digest)
    }
}

impl GroupColumns {
    /// Returns the checksum of a group of the shard with these columns.
    pub(crate) fn checksum(&self, shard: &Shard, body: &Digest) -> Digest {
        // 64 bytes are one block of BLAKE3. Each bit of the time counts, and today's times have 32.
        let received = (self.received ^ self.received >> 32) as u32;
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&shard.row(self.position).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..20].copy_from_slice(&received.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.newest.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.logs.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.size.to_le_bytes());
        bytes[32..].copy_from_slice(body.bytes());
        Digest::of(&bytes)
    }
}

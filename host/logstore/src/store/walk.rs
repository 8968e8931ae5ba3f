//! Walks the chain of a shard.

use rusqlite::{Connection, Row, params};

use super::chain;
use super::integrity::{GROUP_COLUMNS, checked_group, is_damage, is_deleted, unreadable};
use crate::damage::{Damage, Flaw};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::model::{Chain, Shard, ShardHead, VerifiedShard, next_head};

/// The log groups and bytes that are read in one transaction. A long one would let the write-ahead log grow.
const STEP_GROUPS: u64 = 1024;
const STEP_BYTES: u64 = 32 << 20;

/// A walk along the chain of a shard, in the order of the positions.
pub(super) struct Walk<'a> {
    shard: &'a Shard,
    verified: VerifiedShard,
    /// The position of the next log group.
    next: u64,
    /// The heads that may be the one before the next log group. After damage, both the stored head and the computed one
    /// may go on. Empty: any head.
    heads: Vec<Digest>,
    /// True after a log group with a checksum in front of the recorded start of the chain.
    is_start_known: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(shard: &'a Shard, head: ShardHead) -> Self {
        let begin = shard.begin();
        let verified =
            VerifiedShard { head, begin, groups: 0, unverified: 0, damage: vec![], damage_count: 0 };
        Self { shard, verified, next: begin, heads: vec![], is_start_known: false }
    }

    /// Walks to the end. Calls `progress` with the bytes of each step.
    pub(super) fn run(
        mut self,
        connection: &Connection,
        progress: &mut dyn FnMut(u64),
    ) -> Result<VerifiedShard, StoreError> {
        while !self.step(connection, progress)? {}
        Ok(self.verified)
    }

    /// Walks some log groups in one transaction. Returns true at the end.
    fn step(&mut self, connection: &Connection, progress: &mut dyn FnMut(u64)) -> Result<bool, StoreError> {
        let transaction = connection.unchecked_transaction()?;
        let chain = self.recorded_chain(&transaction)?;
        let mut statement = transaction.prepare_cached(&format!(
            "SELECT {GROUP_COLUMNS}, head FROM log_group WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3"
        ))?;
        let (first, end) = (self.shard.row(self.next), self.shard.rows().1);
        let mut rows = statement.query(params![first, end, STEP_GROUPS])?;
        let (mut groups, mut bytes) = (0, 0);
        while groups < STEP_GROUPS && bytes < STEP_BYTES {
            match rows.next() {
                Ok(Some(row)) => bytes += self.group(&transaction, row, &chain)?,
                Ok(None) => {
                    progress(bytes);
                    self.end(&transaction, &chain)?;
                    return Ok(true);
                }
                Err(error) if is_damage(&error) => {
                    drop(rows);
                    return self.skip_unreadable(&transaction, &error, &chain);
                }
                Err(error) => return Err(error.into()),
            }
            groups += 1;
        }
        progress(bytes);
        Ok(false)
    }

    /// Reads the recorded ends of the chain.
    fn recorded_chain(&mut self, connection: &Connection) -> Result<Chain, StoreError> {
        let chain = match chain::read(connection, self.shard.id) {
            Ok(chain) => chain,
            Err(error) if is_damage(&error) => {
                self.add(self.next, unreadable(self.next, &error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(chain.unwrap_or_else(|| Chain::begin(self.shard.id, self.shard.origin(), self.shard.end())))
    }

    /// Checks a log group and its head. Returns its size.
    fn group(&mut self, connection: &Connection, row: &Row<'_>, chain: &Chain) -> Result<u64, StoreError> {
        let position = self.shard.position(row.get(0)?);
        if position > self.shard.resolve(self.next) {
            if !is_deleted(connection, self.shard, position)? {
                self.add(self.next, Flaw::Missing { to: position });
            }
            self.heads.clear();
        }
        if position == self.shard.resolve(chain.start) {
            self.heads = vec![chain.base];
        }
        self.next = position + 1;
        let head: Option<Digest> = row.get(7).unwrap_or_default();
        let stored: Option<Digest> = row.get(6).unwrap_or_default();
        match checked_group(row, self.shard, chain.start) {
            Ok((group, checksum)) => {
                self.verified.groups += u64::from(checksum.is_some());
                self.verified.unverified += u64::from(checksum.is_none());
                if let Some(checksum) = checksum {
                    self.link(position, &[checksum], head, chain);
                }
                Ok(group.body.len() as u64)
            }
            Err(damage) => {
                let computed = match damage.flaw {
                    Flaw::Checksum { computed, .. } => Some(computed),
                    _ => None,
                };
                self.add(position, damage.flaw);
                let checksums: Vec<_> = stored.into_iter().chain(computed).collect();
                self.heads = self.next_heads(&checksums, head);
                Ok(0)
            }
        }
    }

    /// Checks the head after a log group with one of these checksums.
    fn link(&mut self, position: u64, checksums: &[Digest], head: Option<Digest>, chain: &Chain) {
        let is_before_chain = position < chain.start;
        let is_link = self.heads.is_empty()
            || self
                .heads
                .iter()
                .any(|before| checksums.iter().any(|sum| Some(next_head(before, sum)) == head));
        let next = self.next_heads(checksums, head);
        if is_before_chain && !self.is_start_known {
            // The group has a checksum, so the recorded start of the chain is wrong.
            self.is_start_known = true;
            self.add(position, Flaw::Ends);
            self.heads = head.into_iter().collect();
        } else if !is_link {
            self.add(position, if position == chain.start { Flaw::Ends } else { Flaw::Head });
            self.heads = next;
        } else {
            self.heads = head.into_iter().collect();
        }
    }

    /// Returns the heads that may go on after damage.
    fn next_heads(&self, checksums: &[Digest], head: Option<Digest>) -> Vec<Digest> {
        let computed =
            self.heads.iter().flat_map(|before| checksums.iter().map(|sum| next_head(before, sum)));
        computed.chain(head).collect()
    }

    /// Compares the end of the log groups with the recorded end of the chain.
    fn end(&mut self, connection: &Connection, chain: &Chain) -> Result<(), StoreError> {
        let next = self.next;
        let between = |from, to| self.shard.groups_between(from, to);
        if between(next, chain.end) > 0 && !is_deleted(connection, self.shard, chain.end)? {
            self.add(next, Flaw::Missing { to: chain.end });
        } else if between(chain.end, next) > 0 {
            self.add(chain.end, Flaw::Added { to: next });
        } else if between(chain.start, next) == 0 && chain.base != chain.head
            || between(chain.start, next) > 0 && !self.heads.is_empty() && !self.heads.contains(&chain.head)
        {
            self.add(chain.end, Flaw::Ends);
        }
        let head = &mut self.verified.head;
        (head.cursor, head.head) = (chain.end, chain.head);
        Ok(())
    }

    /// Skips log groups that the database can't read. Returns true at the end of the shard.
    fn skip_unreadable(
        &mut self,
        connection: &Connection,
        error: &rusqlite::Error,
        chain: &Chain,
    ) -> Result<bool, StoreError> {
        let first = self.next;
        let mut statement = connection.prepare_cached("SELECT id FROM log_group WHERE id = ?1")?;
        let end = chain.end.max(self.shard.end());
        self.next = self.shard.resolve(self.next + 1);
        while self.next < end && statement.exists([self.shard.row(self.next)]).is_err() {
            self.next = self.shard.resolve(self.next + 1);
        }
        self.heads.clear();
        let reason = error.to_string();
        self.add(first, Flaw::Unreadable { to: self.next, reason });
        if self.next >= end {
            let head = &mut self.verified.head;
            (head.cursor, head.head) = (chain.end, chain.head);
        }
        Ok(self.next >= end)
    }

    fn add(&mut self, position: u64, flaw: Flaw) {
        let verified = &mut self.verified;
        verified.damage_count += 1;
        if verified.damage.len() < VerifiedShard::MAX_DAMAGE {
            verified.damage.push(Damage { shard: self.shard.number, position, flaw });
        }
    }
}

//! Assigns the shards of a logstore to the members of a consumer group.
//!
//! A member reports in each heartbeat the shards that it may still be processing; the reply contains its assigned
//! shards. A member reports a revoked shard until it has finished with it. So a shard moves to another member only when
//! its holder no longer reports it **and the previous reply did not assign it**: the report may have been sent before
//! that reply arrived. A member whose heartbeats time out holds no shards.

use std::collections::{BTreeMap, BTreeSet};

/// A set of shard numbers.
pub(crate) type Shards = BTreeSet<u32>;

/// The members of a group, by name.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<String, Member>);

#[derive(Debug, Default)]
struct Member {
    /// The time of the last heartbeat, in microseconds.
    last_heartbeat: u64,
    /// The shards that it reported.
    reported: Shards,
    /// The shards assigned to it.
    assigned: Shards,
    /// The committed state in the database, if known.
    saved: Option<Held>,
}

/// The shards that a member may be processing. The value is true if the shard is assigned to it, false if it is
/// revoked.
pub(crate) type Held = BTreeMap<u32, bool>;

impl Member {
    fn holds(&self, shard: u32) -> bool {
        self.reported.contains(&shard) || self.assigned.contains(&shard)
    }
}

impl Members {
    /// Restores a member's shard after a restart. The member has one timeout, from now on, to send a heartbeat.
    pub(crate) fn restore(&mut self, consumer: String, shard: u32, assigned: bool, now: u64) {
        let member = self.0.entry(consumer).or_default();
        member.last_heartbeat = now;
        member.reported.insert(shard);
        if assigned {
            member.assigned.insert(shard);
        }
    }

    /// Handles a heartbeat. Returns the shards assigned to `consumer`, out of the assignable `shards`.
    ///
    /// Once balanced, the numbers of shards of two members differ by at most one. Members keep their shards if
    /// possible, and the result is deterministic.
    pub(crate) fn heartbeat(
        &mut self,
        consumer: &str,
        reported: Shards,
        shards: &Shards,
        now: u64,
    ) -> Shards {
        if !self.contains(consumer) {
            // A new member, or one that timed out: it keeps the reported shards that no other member holds.
            let unclaimed =
                reported.iter().copied().filter(|&shard| self.other_holder(shard, consumer).is_none());
            let assigned = unclaimed.collect();
            self.0.insert(consumer.to_owned(), Member { assigned, ..Member::default() });
        }
        if let Some(member) = self.0.get_mut(consumer) {
            member.last_heartbeat = now;
            member.reported = reported;
        }
        let quota = self.quota(consumer, shards.len());
        let mut assigned = self.0.get(consumer).map(|member| member.assigned.clone()).unwrap_or_default();
        // Filters only this member's shards: other members may have new shards that `shards` does not contain yet.
        assigned.retain(|shard| shards.contains(shard));
        while assigned.len() > quota {
            assigned.pop_last();
        }
        let free = shards
            .iter()
            .filter(|&&shard| !assigned.contains(&shard) && self.other_holder(shard, consumer).is_none());
        let shortfall = quota.saturating_sub(assigned.len());
        let taken: Vec<u32> = free.copied().take(shortfall).collect();
        assigned.extend(taken);
        if let Some(member) = self.0.get_mut(consumer) {
            member.assigned.clone_from(&assigned);
        }
        assigned
    }

    /// Removes members whose last heartbeat was before `time`. Returns their names.
    pub(crate) fn expire(&mut self, time: u64) -> Vec<String> {
        let expired = self.0.extract_if(.., |_, member| member.last_heartbeat < time);
        expired.map(|(name, _)| name).collect()
    }

    /// Returns true if the consumer is a member.
    pub(crate) fn contains(&self, consumer: &str) -> bool {
        self.0.contains_key(consumer)
    }

    /// Returns the shards that the consumer may be processing.
    pub(crate) fn held(&self, consumer: &str) -> Held {
        let Some(member) = self.0.get(consumer) else { return Held::new() };
        let all = &member.reported | &member.assigned;
        all.into_iter().map(|shard| (shard, member.assigned.contains(&shard))).collect()
    }

    /// Returns true if the database contains the consumer's current state.
    pub(crate) fn is_saved(&self, consumer: &str) -> bool {
        self.0.get(consumer).is_some_and(|member| member.saved.as_ref() == Some(&self.held(consumer)))
    }

    /// Records that the database contains this state of the consumer.
    pub(crate) fn set_saved(&mut self, consumer: &str, held: Held) {
        if let Some(member) = self.0.get_mut(consumer) {
            member.saved = Some(held);
        }
    }

    /// Returns the member to which the shard is assigned.
    pub(crate) fn owner(&self, shard: u32) -> Option<&str> {
        let mut members = self.0.iter();
        members.find(|(_, member)| member.assigned.contains(&shard)).map(|(name, _)| name.as_str())
    }

    /// Returns the names of all members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns another member than `consumer` that may be processing the shard.
    fn other_holder(&self, shard: u32, consumer: &str) -> Option<&str> {
        let mut others = self.0.iter().filter(|(name, _)| *name != consumer);
        others.find(|(_, member)| member.holds(shard)).map(|(name, _)| name.as_str())
    }

    /// Returns the number of shards that the member should have. Members with the most shards get the remainder.
    fn quota(&self, consumer: &str, shards: usize) -> usize {
        let mut members: Vec<_> = self.0.iter().map(|(name, member)| (member.assigned.len(), name)).collect();
        members.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let rank = members.iter().position(|(_, name)| *name == consumer).unwrap_or(members.len());
        shards / members.len() + usize::from(rank < shards % members.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(count: u32) -> Shards {
        (0..count).collect()
    }

    /// A client that behaves like the SDKs: it reports a shard until it has finished with it.
    #[derive(Debug, Default, Clone)]
    struct Client {
        processing: Shards,
        assigned: Shards,
    }

    impl Client {
        fn report(&self) -> Shards {
            &self.processing | &self.assigned
        }

        fn receive(&mut self, assigned: Shards) {
            self.processing.extend(&assigned);
            self.assigned = assigned;
        }

        /// Finishes the revoked shards.
        fn finish(&mut self) {
            self.processing.retain(|shard| self.assigned.contains(shard));
        }
    }

    /// Returns the members after a restart, restored from their saved state.
    fn restart(members: &Members, now: u64) -> Members {
        let mut restored = Members::default();
        for name in members.names() {
            for (shard, assigned) in members.held(name) {
                restored.restore(name.to_owned(), shard, assigned, now);
            }
        }
        restored
    }

    #[test]
    fn late_revoked_shard_has_one_owner_after_restart() {
        let mut members = Members::default();
        members.heartbeat("a", all(0), &all(1), 0);
        members.expire(10);
        assert_eq!(members.heartbeat("b", all(0), &all(1), 11), all(1));
        // Member a timed out, but still processes the shard.
        assert_eq!(members.heartbeat("a", all(1), &all(1), 12), all(0));
        let mut members = restart(&members, 13);
        assert_eq!(members.heartbeat("a", all(1), &all(1), 14), all(0));
        assert_eq!(members.heartbeat("b", all(1), &all(1), 15), all(1));
    }

    #[test]
    fn shard_of_last_reply_is_not_free_even_if_unreported() {
        let mut members = Members::default();
        assert_eq!(members.heartbeat("a", all(0), &all(2), 0), all(2));
        // Member a may have sent its empty report before it got that reply, so b must wait.
        assert_eq!(members.heartbeat("b", all(0), &all(2), 1), all(0));
        assert_eq!(members.heartbeat("a", all(2), &all(2), 2), all(1));
        assert_eq!(members.heartbeat("b", all(0), &all(2), 3), all(0), "a may still be processing shard 1");
        assert_eq!(members.heartbeat("a", all(1), &all(2), 4), all(1));
        assert_eq!(members.heartbeat("b", all(0), &all(2), 5), Shards::from([1]));
    }

    #[test]
    fn expired_member_keeps_unclaimed_shards() {
        let mut members = Members::default();
        members.heartbeat("a", all(0), &all(4), 0);
        assert_eq!(members.expire(10), ["a"]);
        members.heartbeat("b", all(0), &Shards::from([0]), 11);
        assert_eq!(members.heartbeat("a", all(4), &all(4), 12), Shards::from([1, 2]));
    }

    #[test]
    fn restart_restores_holders() {
        let mut members = Members::default();
        members.restore("a".into(), 0, true, 100);
        members.restore("a".into(), 1, true, 100);
        assert_eq!(members.heartbeat("b", all(0), &all(2), 101), all(0));
        assert_eq!(members.expire(101), ["a"]);
        assert_eq!(members.heartbeat("b", all(0), &all(2), 102), all(2));
    }

    #[test]
    fn surplus_consumers_stand_by() {
        let mut members = Members::default();
        for name in ["a", "b", "c"] {
            members.heartbeat(name, all(0), &all(1), 0);
        }
        assert_eq!(members.heartbeat("a", all(1), &all(1), 1), all(1));
        assert_eq!(members.heartbeat("c", all(0), &all(1), 1), all(0));
    }

    proptest! {
        /// Members join, time out, lose replies and finish late. No two members ever process the same shard, and in the
        /// end all shards are distributed evenly.
        #[test]
        fn no_shard_ever_has_two_owners(
            count in 1_u32..12,
            steps in prop::collection::vec((0_usize..5, 0_u8..9), 1..200),
        ) {
            const TIMEOUT: u64 = 30;
            let shards = all(count);
            let mut members = Members::default();
            let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
            for (now, (client_id, action)) in (100_u64..).zip(steps) {
                // Like the SDK, a client stops by itself when its heartbeats time out.
                for expired in members.expire(now.saturating_sub(TIMEOUT)) {
                    clients.remove(&expired.parse().unwrap());
                }
                let client = clients.entry(client_id).or_default();
                match action {
                    0 => client.finish(),
                    8 => members = restart(&members, now),
                    // The reply is lost.
                    1 => drop(members.heartbeat(&client_id.to_string(), client.report(), &shards, now)),
                    _ => {
                        let assigned = members.heartbeat(&client_id.to_string(), client.report(), &shards, now);
                        client.receive(assigned);
                        if action > 3 {
                            client.finish();
                        }
                    }
                }
                for shard in &shards {
                    let processing = clients.values().filter(|client| client.processing.contains(shard)).count();
                    prop_assert!(processing <= 1, "shard {shard} has {processing} owners");
                }
            }
            for now in 1000..1010 {
                for (client_id, client) in &mut clients {
                    client.receive(members.heartbeat(&client_id.to_string(), client.report(), &shards, now));
                    client.finish();
                }
            }
            let owned: Shards = clients.values().flat_map(|client| client.processing.clone()).collect();
            prop_assert_eq!(owned, shards);
            let counts: Vec<usize> = clients.values().map(|client| client.processing.len()).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}

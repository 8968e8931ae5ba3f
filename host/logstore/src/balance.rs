//! Which member of a consumer group gets which shard.
//!
//! A member says in each heartbeat what it may still be working on, and is told what it shall own. What it is
//! told to give up it goes on reporting until it has finished with it. So a shard goes to another member only
//! when its holder neither reports it **nor was given it in the reply before**: the report at hand may have been
//! on its way when that reply was made. A member that is silent for too long holds nothing any more.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers of shards.
pub(crate) type Shards = BTreeSet<u32>;

/// The members of a group, by name.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<String, Member>);

#[derive(Debug, Default)]
struct Member {
    /// The last heartbeat, in microseconds.
    seen: u64,
    /// What it said it may be working on.
    reported: Shards,
    /// What it was told to own.
    given: Shards,
    /// What the database says that it holds, and was given, once that is certain.
    saved: Option<Held>,
}

/// The shards that a member may be working on, each with whether it was told to own it.
pub(crate) type Held = BTreeMap<u32, bool>;

impl Member {
    fn holds(&self, shard: u32) -> bool {
        self.reported.contains(&shard) || self.given.contains(&shard)
    }
}

impl Members {
    /// A member as it was before a restart. It has the group's timeout, from now on, to show itself.
    pub(crate) fn restore(&mut self, consumer: String, shard: u32, given: bool, now: u64) {
        let member = self.0.entry(consumer).or_default();
        member.seen = now;
        member.reported.insert(shard);
        if given {
            member.given.insert(shard);
        }
    }

    /// Takes a heartbeat: what `consumer` shall own of `shards`, all those that can be owned just now.
    ///
    /// The numbers that members have differ by one at most in the end, what a member has it keeps if it can, and
    /// the same history gives the same answer.
    pub(crate) fn heartbeat(
        &mut self,
        consumer: &str,
        reported: Shards,
        shards: &Shards,
        now: u64,
    ) -> Shards {
        if !self.contains(consumer) {
            // Silent for too long, or known to another server: what it still has and nobody else got, it keeps.
            let kept = reported.iter().copied().filter(|&shard| self.holder(shard, consumer).is_none());
            let given = kept.collect();
            self.0.insert(consumer.to_owned(), Member { given, ..Member::default() });
        }
        if let Some(me) = self.0.get_mut(consumer) {
            me.seen = now;
            me.reported = reported;
        }
        let quota = self.quota(consumer, shards.len());
        let mut given = self.0.get(consumer).map(|me| me.given.clone()).unwrap_or_default();
        // Only its own: others may have been given shards that came up since `shards` was looked up.
        given.retain(|shard| shards.contains(shard));
        while given.len() > quota {
            given.pop_last();
        }
        let free =
            shards.iter().filter(|&&shard| !given.contains(&shard) && self.holder(shard, consumer).is_none());
        let missing = quota.saturating_sub(given.len());
        let taken: Vec<u32> = free.copied().take(missing).collect();
        given.extend(taken);
        if let Some(me) = self.0.get_mut(consumer) {
            me.given.clone_from(&given);
        }
        given
    }

    /// Removes those whose last heartbeat was before `time`. Returns their names.
    pub(crate) fn expire(&mut self, time: u64) -> Vec<String> {
        let gone = self.0.extract_if(.., |_, member| member.seen < time);
        gone.map(|(name, _)| name).collect()
    }

    /// Whether the consumer is a member.
    pub(crate) fn contains(&self, consumer: &str) -> bool {
        self.0.contains_key(consumer)
    }

    /// What the consumer may be working on.
    pub(crate) fn held(&self, consumer: &str) -> Held {
        let Some(member) = self.0.get(consumer) else { return Held::new() };
        let all = &member.reported | &member.given;
        all.into_iter().map(|shard| (shard, member.given.contains(&shard))).collect()
    }

    /// Whether the database says what the consumer holds.
    pub(crate) fn is_saved(&self, consumer: &str) -> bool {
        self.0.get(consumer).is_some_and(|member| member.saved.as_ref() == Some(&self.held(consumer)))
    }

    /// The database says now that the consumer holds these, unless something else was begun since.
    pub(crate) fn saved(&mut self, consumer: &str, held: Held) {
        if let Some(member) = self.0.get_mut(consumer) {
            member.saved = Some(held);
        }
    }

    /// Who was told to own the shard.
    pub(crate) fn owner(&self, shard: u32) -> Option<&str> {
        let mut members = self.0.iter();
        members.find(|(_, member)| member.given.contains(&shard)).map(|(name, _)| name.as_str())
    }

    /// The names of all members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Who, other than `consumer`, may be working on the shard.
    fn holder(&self, shard: u32, consumer: &str) -> Option<&str> {
        let mut others = self.0.iter().filter(|(name, _)| *name != consumer);
        others.find(|(_, member)| member.holds(shard)).map(|(name, _)| name.as_str())
    }

    /// How many shards the member shall have. Where they don't come out even, who has most has one more.
    fn quota(&self, consumer: &str, shards: usize) -> usize {
        let mut members: Vec<_> = self.0.iter().map(|(name, member)| (member.given.len(), name)).collect();
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

    /// A client as the SDKs are: it reports what it has until it is done with it.
    #[derive(Debug, Default, Clone)]
    struct Client {
        working: Shards,
        assigned: Shards,
    }

    impl Client {
        fn report(&self) -> Shards {
            &self.working | &self.assigned
        }

        fn told(&mut self, given: Shards) {
            self.working.extend(&given);
            self.assigned = given;
        }

        /// Ends what was revoked.
        fn finish(&mut self) {
            self.working.retain(|shard| self.assigned.contains(shard));
        }
    }

    /// As they are after a restart, from what was saved of them.
    fn restarted(members: &Members, now: u64) -> Members {
        let mut after = Members::default();
        for name in members.names() {
            for (shard, given) in members.held(name) {
                after.restore(name.to_owned(), shard, given, now);
            }
        }
        after
    }

    #[test]
    fn a_shard_that_one_gave_up_late_has_one_owner_after_a_restart() {
        let mut members = Members::default();
        members.heartbeat("a", all(0), &all(1), 0);
        members.expire(10);
        assert_eq!(members.heartbeat("b", all(0), &all(1), 11), all(1));
        // It was silent for too long, and still works on it.
        assert_eq!(members.heartbeat("a", all(1), &all(1), 12), all(0));
        let mut members = restarted(&members, 13);
        assert_eq!(members.heartbeat("a", all(1), &all(1), 14), all(0));
        assert_eq!(members.heartbeat("b", all(1), &all(1), 15), all(1));
    }

    #[test]
    fn a_shard_in_the_last_reply_is_not_free_though_the_report_lacks_it() {
        let mut members = Members::default();
        assert_eq!(members.heartbeat("a", all(0), &all(2), 0), all(2));
        // a's report of nothing was made before it got that reply; b must wait.
        assert_eq!(members.heartbeat("b", all(0), &all(2), 1), all(0));
        assert_eq!(members.heartbeat("a", all(2), &all(2), 2), all(1));
        assert_eq!(members.heartbeat("b", all(0), &all(2), 3), all(0), "a may still work on shard 1");
        assert_eq!(members.heartbeat("a", all(1), &all(2), 4), all(1));
        assert_eq!(members.heartbeat("b", all(0), &all(2), 5), Shards::from([1]));
    }

    #[test]
    fn who_was_silent_keeps_what_nobody_else_got() {
        let mut members = Members::default();
        members.heartbeat("a", all(0), &all(4), 0);
        assert_eq!(members.expire(10), ["a"]);
        members.heartbeat("b", all(0), &Shards::from([0]), 11);
        assert_eq!(members.heartbeat("a", all(4), &all(4), 12), Shards::from([1, 2]));
    }

    #[test]
    fn after_a_restart_the_holders_are_known() {
        let mut members = Members::default();
        members.restore("a".into(), 0, true, 100);
        members.restore("a".into(), 1, true, 100);
        assert_eq!(members.heartbeat("b", all(0), &all(2), 101), all(0));
        assert_eq!(members.expire(101), ["a"]);
        assert_eq!(members.heartbeat("b", all(0), &all(2), 102), all(2));
    }

    #[test]
    fn more_consumers_than_shards_stand_by() {
        let mut members = Members::default();
        for name in ["a", "b", "c"] {
            members.heartbeat(name, all(0), &all(1), 0);
        }
        assert_eq!(members.heartbeat("a", all(1), &all(1), 1), all(1));
        assert_eq!(members.heartbeat("c", all(0), &all(1), 1), all(0));
    }

    proptest! {
        /// Members come, go silent, lose replies and take their time: no two work on a shard, and in the end all
        /// shards are owned evenly.
        #[test]
        fn nothing_is_ever_owned_twice(
            count in 1_u32..12,
            steps in prop::collection::vec((0_usize..5, 0_u8..9), 1..200),
        ) {
            const TIMEOUT: u64 = 30;
            let shards = all(count);
            let mut members = Members::default();
            let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
            for (now, (who, what)) in (100_u64..).zip(steps) {
                // A client that was silent for too long stops by itself: the SDK's own rule.
                for gone in members.expire(now.saturating_sub(TIMEOUT)) {
                    clients.remove(&gone.parse().unwrap());
                }
                let client = clients.entry(who).or_default();
                match what {
                    0 => client.finish(),
                    8 => members = restarted(&members, now),
                    // The reply is lost.
                    1 => drop(members.heartbeat(&who.to_string(), client.report(), &shards, now)),
                    _ => {
                        let given = members.heartbeat(&who.to_string(), client.report(), &shards, now);
                        client.told(given);
                        if what > 3 {
                            client.finish();
                        }
                    }
                }
                for shard in &shards {
                    let working = clients.values().filter(|client| client.working.contains(shard)).count();
                    prop_assert!(working <= 1, "shard {shard} has {working} at work");
                }
            }
            for now in 1000..1010 {
                for (who, client) in &mut clients {
                    client.told(members.heartbeat(&who.to_string(), client.report(), &shards, now));
                    client.finish();
                }
            }
            let owned: Shards = clients.values().flat_map(|client| client.working.clone()).collect();
            prop_assert_eq!(owned, shards);
            let counts: Vec<usize> = clients.values().map(|client| client.working.len()).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}

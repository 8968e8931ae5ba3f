//! Who holds how much memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::pace::Pace;

/// The key and the project of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) key: Arc<str>,
    pub(crate) project: Arc<str>,
}

/// The part of the memory that only small requests use: a large one that waits never holds them up.
const SMALL_FRACTION: usize = 8;

/// The largest small request, in bytes.
const SMALL_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Holder {
    owner: Owner,
    held: usize,
    /// True if the memory is of the part for small requests.
    is_small: bool,
    /// The speed of the client, while it sends or receives.
    pace: Option<Pace>,
    /// True while it waits for memory: then its client can't send.
    is_paused: bool,
    evicted: Arc<Notify>,
}

/// The memory of all requests of a budget.
#[derive(Debug)]
pub(super) struct Shares {
    total: usize,
    used: usize,
    /// The part for small requests, which is not in `total`.
    small_total: usize,
    small_used: usize,
    keys: HashMap<Arc<str>, usize>,
    projects: HashMap<Arc<str>, usize>,
    holders: HashMap<u64, Holder>,
    next: u64,
    /// The request that may exceed the shares.
    privileged: Option<u64>,
    evictions: u64,
}

impl Shares {
    pub(super) fn new(total: usize) -> Self {
        let (keys, projects, holders) = Default::default();
        let small_total = total / SMALL_FRACTION;
        Self {
            total: total - small_total,
            used: 0,
            small_total,
            small_used: 0,
            keys,
            projects,
            holders,
            next: 0,
            privileged: None,
            evictions: 0,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used + self.small_used
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    pub(super) fn add(&mut self, owner: Owner, evicted: Arc<Notify>) -> u64 {
        self.next += 1;
        let holder = Holder { owner, held: 0, is_small: true, pace: None, is_paused: false, evicted };
        self.holders.insert(self.next, holder);
        self.next
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.free(number, usize::MAX);
        self.holders.remove(&number);
        self.privileged = self.privileged.filter(|&privileged| privileged != number);
    }

    /// Takes memory if it is free. An evicted request gets none.
    pub(super) fn grow(&mut self, number: u64, bytes: usize) -> bool {
        let Some(holder) = self.holders.get_mut(&number) else { return false };
        let is_small = holder.is_small && holder.held + bytes <= SMALL_BYTES;
        if is_small && self.small_used + bytes <= self.small_total {
            holder.held += bytes;
            self.small_used += bytes;
            return true;
        }
        let has_room = self.crowd(number, bytes).is_none();
        if !has_room && *self.privileged.get_or_insert(number) != number {
            return false;
        }
        self.take(number, bytes);
        true
    }

    /// Takes memory that is shared by keys and projects. A small request moves there with all that it holds.
    fn take(&mut self, number: u64, bytes: usize) {
        let Some(holder) = self.holders.get_mut(&number) else { return };
        let mut taken = bytes;
        if holder.is_small {
            self.small_used -= holder.held;
            taken += holder.held;
            holder.is_small = false;
        }
        holder.held += bytes;
        self.used += taken;
        *self.keys.entry(Arc::clone(&holder.owner.key)).or_default() += taken;
        *self.projects.entry(Arc::clone(&holder.owner.project)).or_default() += taken;
    }

    /// Frees memory of a request, at most what it holds.
    fn free(&mut self, number: u64, bytes: usize) {
        let Some(holder) = self.holders.get_mut(&number) else { return };
        let bytes = bytes.min(holder.held);
        holder.held -= bytes;
        if holder.is_small {
            self.small_used -= bytes;
            return;
        }
        self.used -= bytes;
        for (sums, name) in [(&mut self.keys, &holder.owner.key), (&mut self.projects, &holder.owner.project)]
        {
            if let Some(sum) = sums.get_mut(name) {
                *sum -= bytes;
                if *sum == 0 {
                    sums.remove(name);
                }
            }
        }
    }

    /// Returns which requests hold too much for `bytes` more of a request, or none if there is room.
    fn crowd(&self, number: u64, bytes: usize) -> Option<Crowd> {
        let Holder { owner, held, is_small, .. } = self.holders.get(&number)?;
        let bytes = if *is_small { held + bytes } else { bytes };
        let held = |sums: &HashMap<Arc<str>, usize>, name: &str| sums.get(name).copied().unwrap_or(0);
        if held(&self.keys, &owner.key) + bytes > self.total / 2 {
            return Some(Crowd::Key(Arc::clone(&owner.key)));
        }
        if held(&self.projects, &owner.project) + bytes > self.total / 4 * 3 {
            return Some(Crowd::Project(Arc::clone(&owner.project)));
        }
        (self.used + bytes > self.total).then_some(Crowd::All)
    }

    /// Evicts slow requests of the crowd until there is room, and takes the memory. Returns false if there is none.
    pub(super) fn evict_for(&mut self, number: u64, bytes: usize, now: Instant) -> bool {
        while self.holders.contains_key(&number) {
            let Some(crowd) = self.crowd(number, bytes) else { return self.grow(number, bytes) };
            let slow = self.holders.iter().filter(|(other, holder)| {
                **other != number
                    && (crowd.includes(&holder.owner) || self.privileged == Some(**other))
                    && !holder.is_paused
                    && holder.pace.is_some_and(|pace| pace.is_slow(now))
            });
            let Some(largest) = slow.max_by_key(|(_, holder)| holder.held).map(|(number, _)| *number) else {
                return false;
            };
            if let Some(holder) = self.holders.get(&largest) {
                holder.evicted.notify_one();
            }
            self.remove(largest);
            self.evictions += 1;
            if self.grow(number, bytes) {
                return true;
            }
        }
        false
    }

    /// Notes that a request waits for memory, or that it no longer does.
    pub(super) fn pause(&mut self, number: u64, is_paused: bool) {
        let now = Instant::now();
        if let Some(holder) = self.holders.get_mut(&number) {
            holder.is_paused = is_paused;
            holder.pace = holder.pace.map(|_| Pace::begin(now));
        }
    }

    pub(super) fn begin_transfer(&mut self, number: u64, now: Instant) {
        if let Some(holder) = self.holders.get_mut(&number) {
            holder.pace = Some(Pace::begin(now));
        }
    }

    pub(super) fn progress(&mut self, number: u64, bytes: usize, now: Instant) {
        if let Some(pace) = self.holders.get_mut(&number).and_then(|holder| holder.pace.as_mut()) {
            pace.progress(bytes, now);
        }
    }

    pub(super) fn end_transfer(&mut self, number: u64, bytes: usize) {
        if let Some(holder) = self.holders.get_mut(&number) {
            holder.pace = None;
            let freed = holder.held.saturating_sub(bytes);
            self.free(number, freed);
        }
    }
}

/// Requests that hold too much together.
enum Crowd {
    Key(Arc<str>),
    Project(Arc<str>),
    All,
}

impl Crowd {
    fn includes(&self, owner: &Owner) -> bool {
        match self {
            Self::Key(key) => owner.key == *key,
            Self::Project(project) => owner.project == *project,
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Budget {
        shares: Shares,
        begun: Instant,
    }

    impl Budget {
        /// A budget of 100 bytes, and one request that may exceed it.
        fn new() -> Self {
            let shares = Shares { total: 100, ..Shares::new(0) };
            let mut all = Self { shares, begun: Instant::now() };
            let privileged = all.add("other", "other");
            assert!(all.shares.grow(privileged, 51), "the first one may exceed the share");
            all.shares.end_transfer(privileged, 0);
            all
        }

        fn add(&mut self, key: &str, project: &str) -> u64 {
            let owner = Owner { key: key.into(), project: project.into() };
            let number = self.shares.add(owner, Arc::default());
            self.shares.begin_transfer(number, self.begun);
            number
        }

        /// A time when all that send nothing are slow.
        fn later(&self) -> Instant {
            self.begun + Duration::from_secs(2)
        }
    }

    #[test]
    fn keys_and_projects_have_shares() {
        let mut all = Budget::new();
        let [a, b, c] = [all.add("a", "p"), all.add("b", "p"), all.add("c", "q")];
        assert!(all.shares.grow(a, 50) && !all.shares.grow(a, 1), "half for a key");
        assert!(all.shares.grow(b, 25) && !all.shares.grow(b, 1), "three quarters for a project");
        assert!(all.shares.grow(c, 25) && !all.shares.grow(c, 1), "all for all");
        all.shares.remove(a);
        assert!(all.shares.grow(c, 1));
        assert_eq!(all.shares.used(), 51);
        for number in [b, c] {
            all.shares.remove(number);
        }
        assert!(all.shares.used() == 0 && all.shares.keys.is_empty() && all.shares.projects.is_empty());
    }

    #[test]
    fn small_requests_have_a_part_of_their_own() {
        let mut shares = Shares::new(SMALL_FRACTION * 2 * SMALL_BYTES);
        let owner = Owner { key: "a".into(), project: "p".into() };
        let add = |shares: &mut Shares| shares.add(owner.clone(), Arc::default());
        let [large, waiting, small] = [add(&mut shares), add(&mut shares), add(&mut shares)];
        assert!(shares.grow(large, 100 * SMALL_BYTES), "the first one may exceed the share");
        assert!(shares.grow(waiting, SMALL_BYTES));
        assert!(!shares.grow(waiting, 1), "it is no longer small");
        assert!(shares.grow(small, SMALL_BYTES), "its part is free");
        assert_eq!(shares.used(), 102 * SMALL_BYTES);
        shares.remove(large);
        assert!(shares.grow(waiting, 1));
        assert_eq!((shares.used(), shares.small_used), (2 * SMALL_BYTES + 1, SMALL_BYTES));
        for number in [waiting, small] {
            shares.remove(number);
        }
        assert_eq!((shares.used(), shares.keys.len()), (0, 0));
    }

    #[test]
    fn evicts_slow_requests_of_the_crowd_only() {
        let mut all = Budget::new();
        let [first, second, other] = [all.add("a", "p"), all.add("a", "p"), all.add("b", "q")];
        assert!(all.shares.grow(first, 30) && all.shares.grow(second, 20) && all.shares.grow(other, 50));
        let next = all.add("a", "p");
        assert!(!all.shares.evict_for(next, 10, all.begun), "none is slow yet");
        all.shares.progress(first, 1 << 20, all.begun + Duration::from_millis(500));
        assert!(all.shares.evict_for(next, 10, all.begun + Duration::from_millis(1200)));
        assert!(!all.shares.grow(second, 1), "the slow one has lost its memory");
        assert!(all.shares.holders.contains_key(&first) && all.shares.holders.contains_key(&other));
        assert_eq!((all.shares.used(), all.shares.evictions()), (90, 1));
    }

    #[test]
    fn paused_and_processed_requests_are_not_slow() {
        let mut all = Budget::new();
        let [paused, processed] = [all.add("a", "p"), all.add("a", "p")];
        assert!(all.shares.grow(paused, 25) && all.shares.grow(processed, 25));
        all.shares.pause(paused, true);
        all.shares.end_transfer(processed, 25);
        let next = all.add("a", "p");
        assert!(!all.shares.evict_for(next, 10, all.later()));
    }

    #[test]
    fn privileged_request_is_evicted_too_if_it_is_slow() {
        let mut all = Budget { shares: Shares::new(0), begun: Instant::now() };
        let [slow, next] = [all.add("a", "p"), all.add("b", "q")];
        assert!(all.shares.grow(slow, 1) && !all.shares.grow(next, 1));
        assert!(all.shares.evict_for(next, 1, all.later()));
        assert_eq!(all.shares.privileged, Some(next));
    }
}

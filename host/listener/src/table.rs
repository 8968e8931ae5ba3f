//! Which connection is closed for a new one.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The number of connections.
    pub total: usize,
    /// The number of connections of one address without a valid request yet.
    pub per_address: usize,
    /// The number of connections of one key.
    pub per_key: usize,
}

/// The activity of a connection with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Waits for the next request, or for the client to receive a reply.
    Idle,
    /// Waits for a body, or for new logs. A client can retry it.
    Waiting,
    /// Processes a request.
    Working,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    key: Option<Arc<str>>,
    activity: Activity,
    /// The time of the last change of the activity, as a count of changes.
    changed: u64,
    closed: Arc<Notify>,
}

/// The open connections. Numbers of connections increase with time.
#[derive(Debug)]
pub(crate) struct Table {
    limits: ConnectionLimits,
    entries: HashMap<u64, Entry>,
    /// The connections without a valid request, by address.
    unknown: HashMap<IpAddr, BTreeSet<u64>>,
    /// The connections of each key.
    keys: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Counts new connections and changes.
    clock: u64,
    replaced: u64,
}

impl Table {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let (unknown, keys) = (HashMap::new(), HashMap::new());
        Self { limits, entries: HashMap::new(), unknown, keys, clock: 0, replaced: 0 }
    }

    /// Adds a connection. Returns its number, or none if all others process requests.
    pub(crate) fn admit(&mut self, address: IpAddr, closed: Arc<Notify>) -> Option<u64> {
        let of_address = self.unknown.get(&address).filter(|all| all.len() >= self.limits.per_address);
        if let Some(oldest) = of_address.and_then(BTreeSet::first).copied() {
            self.replace(oldest);
        }
        if self.entries.len() >= self.limits.total && !self.make_room() {
            return None;
        }
        self.clock += 1;
        let number = self.clock;
        let entry = Entry { address, key: None, activity: Activity::Idle, changed: number, closed };
        self.entries.insert(number, entry);
        self.unknown.entry(address).or_default().insert(number);
        Some(number)
    }

    /// Closes a connection for another one. Returns false if all process requests.
    pub(crate) fn make_room(&mut self) -> bool {
        let crowded = self.unknown.values().max_by_key(|all| all.len());
        let oldest = crowded.and_then(BTreeSet::first).copied();
        let Some(number) = oldest.or_else(|| self.dispensable()) else { return false };
        self.replace(number);
        true
    }

    /// Returns the connection of the key with the most connections that is idle for the longest time.
    fn dispensable(&self) -> Option<u64> {
        let mut keys: Vec<&BTreeSet<u64>> = self.keys.values().collect();
        keys.sort_unstable_by_key(|all| std::cmp::Reverse(all.len()));
        keys.into_iter().find_map(|all| {
            let candidates = all.iter().filter_map(|number| Some((number, self.entries.get(number)?)));
            let candidates = candidates.filter(|(_, entry)| entry.activity < Activity::Working);
            candidates.min_by_key(|(_, entry)| (entry.activity, entry.changed)).map(|(number, _)| *number)
        })
    }

    fn replace(&mut self, number: u64) {
        if let Some(closed) = self.remove(number) {
            closed.notify_one();
            self.replaced += 1;
        }
    }

    /// Assigns a connection to a key. Fails with the number of the key's connections if they are too many.
    pub(crate) fn identify(&mut self, number: u64, key: &str, is_unlimited: bool) -> Result<(), usize> {
        let Some(entry) = self.entries.get_mut(&number) else { return Ok(()) };
        if entry.key.as_deref() == Some(key) {
            return Ok(());
        }
        let open = self.keys.get(key).map_or(0, BTreeSet::len);
        if open >= self.limits.per_key && !is_unlimited {
            return Err(open);
        }
        let name: Arc<str> =
            self.keys.get_key_value(key).map_or_else(|| key.into(), |(name, _)| Arc::clone(name));
        let before = entry.key.replace(Arc::clone(&name));
        let address = entry.address;
        self.keys.entry(name).or_default().insert(number);
        self.forget(number, address, before.as_deref());
        Ok(())
    }

    pub(crate) fn set_activity(&mut self, number: u64, activity: Activity) {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&number) {
            (entry.activity, entry.changed) = (activity, self.clock);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Removes a connection.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Arc<Notify>> {
        let entry = self.entries.remove(&number)?;
        self.forget(number, entry.address, entry.key.as_deref());
        Some(entry.closed)
    }

    /// Removes a connection from those of its key, or of its address if it has no key.
    fn forget(&mut self, number: u64, address: IpAddr, key: Option<&str>) {
        let Some(key) = key else {
            if let Some(all) = self.unknown.get_mut(&address) {
                all.remove(&number);
                if all.is_empty() {
                    self.unknown.remove(&address);
                }
            }
            return;
        };
        if let Some(all) = self.keys.get_mut(key) {
            all.remove(&number);
            if all.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { total: 6, per_address: 3, per_key: 4 };

    struct Connections {
        table: Table,
    }

    impl Connections {
        fn admit(&mut self, address: u8) -> Option<u64> {
            self.table.admit([10, 0, 0, address].into(), Arc::default())
        }

        fn known(&mut self, address: u8, key: &str, activity: Activity) -> u64 {
            let number = self.admit(address).unwrap();
            self.table.identify(number, key, false).unwrap();
            self.table.set_activity(number, activity);
            number
        }

        fn open(&self) -> Vec<u64> {
            let mut open: Vec<u64> = self.table.entries.keys().copied().collect();
            open.sort_unstable();
            open
        }
    }

    fn connections() -> Connections {
        Connections { table: Table::new(LIMITS) }
    }

    #[test]
    fn oldest_unknown_connection_of_the_address_goes_first() {
        let mut all = connections();
        let first = all.admit(1).unwrap();
        let other = all.admit(2).unwrap();
        let rest = [all.admit(1).unwrap(), all.admit(1).unwrap()];
        let newest = all.admit(1).unwrap();
        assert!(!all.open().contains(&first), "the oldest of the address is replaced");
        assert_eq!(all.open(), [other, rest[0], rest[1], newest]);
        assert_eq!(all.table.replaced(), 1);
    }

    #[test]
    fn unknown_connections_never_displace_known_ones() {
        let mut all = connections();
        let known = [all.known(1, "a", Activity::Idle), all.known(1, "a", Activity::Idle)];
        for _ in 0..100 {
            all.admit(1).unwrap();
            all.admit(2).unwrap();
        }
        assert_eq!(all.open().len(), LIMITS.total);
        assert!(known.iter().all(|number| all.open().contains(number)));
    }

    #[test]
    fn key_with_most_connections_gives_one_up() {
        let mut all = connections();
        let admin = all.known(1, "admin", Activity::Idle);
        let working = all.known(1, "many", Activity::Working);
        let waiting = all.known(1, "many", Activity::Waiting);
        let idle = [all.known(1, "many", Activity::Idle), all.known(1, "many", Activity::Idle)];
        all.known(1, "other", Activity::Working);
        for replaced in [idle[0], idle[1], waiting] {
            let number = all.admit(3).unwrap();
            assert!(!all.open().contains(&replaced));
            // A working connection takes the place.
            all.table.identify(number, "other", true).unwrap();
            all.table.set_activity(number, Activity::Working);
        }
        assert!(all.open().contains(&working) && all.open().contains(&admin));
        all.admit(3).unwrap();
        assert!(!all.open().contains(&admin));
    }

    #[test]
    fn rejects_new_connection_if_all_work() {
        let mut all = connections();
        for key in ["a", "a", "a", "b", "b", "b"] {
            all.known(1, key, Activity::Working);
        }
        assert_eq!(all.admit(2), None);
        assert!(!all.table.make_room());
    }

    #[test]
    fn one_key_can_not_take_all_places() {
        let mut all = connections();
        for _ in 0..LIMITS.per_key {
            all.known(1, "a", Activity::Working);
        }
        let next = all.admit(1).unwrap();
        assert_eq!(all.table.identify(next, "a", false), Err(LIMITS.per_key));
        all.table.identify(next, "b", false).unwrap();
        all.table.identify(next, "a", true).unwrap();
        assert_eq!(all.table.keys.len(), 1, "the connection has one key only");
    }

    #[test]
    fn closed_connections_leave_nothing() {
        let mut all = connections();
        let (unknown, known) = (all.admit(1).unwrap(), all.known(1, "a", Activity::Idle));
        for number in [unknown, known, known] {
            all.table.remove(number);
        }
        let Table { entries, unknown, keys, .. } = &all.table;
        assert!(entries.is_empty() && unknown.is_empty() && keys.is_empty());
    }
}

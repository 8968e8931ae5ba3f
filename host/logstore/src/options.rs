//! The options of a store.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::moment::Moment;

/// Returns the current time in microseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The options of a store.
#[derive(Clone)]
pub struct Options {
    /// The maximum number of consumer groups of a logstore.
    pub groups: usize,
    /// The maximum number of writable shards of a logstore.
    pub shards: u32,
    /// The maximum number of put ids that the store keeps for an access key.
    pub put_ids: u64,
    /// The time for which a deleted logstore or project can be restored, in seconds.
    pub undo_seconds: u64,
    /// The largest step forward of the clock that needs no confirmation, in microseconds.
    pub clock_step: u64,
    /// False for a store that is opened by a program that does not know the settings of its service: nothing expires.
    pub expires: bool,
    /// True if retention deletes logs that a rule has not shipped yet.
    pub delete_unshipped: bool,
    /// The target types of rules that ship. Other rules are only stored, and keep no logs.
    pub shipped_targets: Vec<&'static str>,
    /// The wall clock, since the Unix epoch.
    pub clock: Clock,
    /// A monotonic clock, for timeouts of consumers: changes of the wall clock do not affect it.
    pub uptime: Clock,
    /// The clock of the machine's boot, which counts the time of suspends too.
    pub since_boot: Clock,
    /// The id of the boot; empty if it is not known.
    pub boot: String,
}

impl Options {
    /// Returns the current moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment { time: (self.clock)(), boot: self.boot.clone(), since_boot: (self.since_boot)() }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Options").field("groups", &self.groups).field("shards", &self.shards).finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_micros() as u64
        };
        let start = Instant::now();
        let uptime = move || start.elapsed().as_micros() as u64;
        Self {
            groups: 10,
            shards: 256,
            put_ids: 1_000_000,
            undo_seconds: 86_400,
            clock_step: 86_400_000_000,
            expires: true,
            delete_unshipped: false,
            shipped_targets: vec![],
            clock: Arc::new(clock),
            uptime: Arc::new(uptime),
            since_boot: Arc::new(since_boot),
            boot: boot(),
        }
    }
}

/// Returns the time since the boot of the machine, in microseconds.
fn since_boot() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Returns the id of the boot. It is empty where the system has none.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    let is_word = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word { id.to_owned() } else { String::new() }
}

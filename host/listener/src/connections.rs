//! The open connections.
//!
//! A connection without a valid request yet can belong to anybody, so it never displaces others: at a limit, the oldest
//! such connection is closed. Otherwise the key with the most connections gives one up.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::address;
use crate::requests::{Requests, Timeouts};
use crate::table::Table;
pub use crate::table::{Activity, ConnectionLimits};

/// All open connections of a listener.
#[derive(Debug, Clone)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
    timeouts: Timeouts,
}

/// A key has too many connections.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has {open} connections, the most that one key may have: close some, or reuse them")]
pub struct TooManyConnections {
    /// The number of connections.
    pub open: usize,
}

impl Connections {
    /// Creates the connections of a listener.
    pub fn new(limits: ConnectionLimits, timeouts: Timeouts) -> Self {
        Self { table: Arc::new(Mutex::new(Table::new(limits))), timeouts }
    }

    /// Adds a connection. Returns none if all other connections process requests.
    pub fn admit(&self, peer: IpAddr) -> Option<Connection> {
        let closed = Arc::new(Notify::new());
        let number = lock(&self.table).admit(address::counted(peer), Arc::clone(&closed))?;
        let table = Arc::clone(&self.table);
        Some(Connection { number, peer, table, closed, requests: Requests::new(self.timeouts) })
    }

    /// Closes a connection, because the system has no room for more. Returns false if all process requests.
    pub fn make_room(&self) -> bool {
        lock(&self.table).make_room()
    }

    /// Returns the number of open connections.
    pub fn count(&self) -> usize {
        lock(&self.table).count()
    }

    /// Returns the number of connections that were closed for others.
    pub fn replaced(&self) -> u64 {
        lock(&self.table).replaced()
    }
}

/// An open connection. Dropping it frees its place.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    peer: IpAddr,
    table: Arc<Mutex<Table>>,
    closed: Arc<Notify>,
    requests: Requests,
}

impl Connection {
    /// Returns the peer's address.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Returns the state of the requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Notes that a request has this valid key.
    ///
    /// # Errors
    /// When the key has too many connections, unless `is_unlimited`.
    pub fn identify(&self, key: &str, is_unlimited: bool) -> Result<(), TooManyConnections> {
        lock(&self.table).identify(self.number, key, is_unlimited).map_err(|open| TooManyConnections { open })
    }

    /// Notes the activity of the current request.
    pub fn set_activity(&self, activity: Activity) {
        lock(&self.table).set_activity(self.number, activity);
    }

    /// Returns the notification that closes the connection.
    pub fn closing(&self) -> Arc<Notify> {
        Arc::clone(&self.closed)
    }

    /// Runs `serving` until the connection is closed. Returns none if it was closed.
    pub async fn run<T>(&self, serving: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.closed.notified() => None,
            result = serving => Some(result),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.table).remove(self.number);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

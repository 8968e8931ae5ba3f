//! Connections that can't shut out others: limits by address and key, and deadlines that slow clients can't extend.
//!
//! - [`mod@accept`]: accepts connections.
//! - [`connections`]: the open connections. At a limit, a new connection replaces another one.
//! - `table`: which connection is replaced.
//! - [`requests`]: the state of a connection's requests, and its deadlines.
//! - [`deadline_stream`]: a stream that fails at the deadlines.
//! - [`address`]: addresses by which connections are limited.

pub mod accept;
pub mod address;
pub mod connections;
pub mod deadline_stream;
pub mod requests;
mod table;

pub use accept::accept;
pub use connections::{Activity, Connection, ConnectionLimits, Connections, TooManyConnections};
pub use deadline_stream::DeadlineStream;
pub use requests::{Requests, Timeouts};

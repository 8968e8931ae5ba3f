//! Syslog over UDP, TCP or TLS.
//!
//! # Delivery confirmation
//! Syslog has no responses. Over TCP and TLS, closing the connection serves as one: each batch has a connection of its
//! own, whose sending side is closed after the batch. A receiver that has read everything closes its side, too; one
//! that died or stopped with unread data resets the connection. Messages are confirmed when the receiver closes its
//! side. For receivers that never close (`confirm = "sent"`), all batches share a connection, and messages are
//! confirmed when the receiver's TCP stack has acknowledged their bytes. Over UDP messages are confirmed when they are
//! sent.

mod client;
mod config;
mod error;
mod sink;

pub(crate) use self::config::open;
pub use self::sink::Syslog;

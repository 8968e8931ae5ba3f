//! Where bytes go: sinks of objects and of events.
//!
//! # Layout
//! - [`object`]: the trait of sinks that store objects. [`directory`] and [`bucket`] (S3, OSS) implement it.
//! - [`staged_file`]: an object on local disk before it is published.
//! - [`receiver`]: sinks of [`events`]: [`hec`] and [`syslog`]. [`backoff`]: retry delays.

pub mod backoff;
pub mod bucket;
pub mod directory;
pub mod events;
pub mod hec;
pub mod object;
pub mod receiver;
pub mod staged_file;
pub mod syslog;

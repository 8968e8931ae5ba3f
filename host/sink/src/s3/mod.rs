//! Amazon S3, or a compatible store. [`Bucket`](crate::bucket::Bucket) has all that object stores share.

mod client;
mod config;
mod error;
mod sink;

pub(crate) use self::config::open;
pub use self::sink::S3;

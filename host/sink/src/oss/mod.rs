//! Alibaba Cloud OSS. [`Bucket`](crate::bucket::Bucket) has all that object stores share.

mod client;
mod config;
mod error;
mod signer;
mod sink;

pub(crate) use self::config::open;
pub use self::sink::Oss;

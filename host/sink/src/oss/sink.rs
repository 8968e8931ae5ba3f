//! OSS as a [`Store`] of a [`Bucket`](crate::bucket::Bucket), which is the sink.

use super::error;
use crate::bucket::Store;
use crate::error::SinkError;

/// Alibaba Cloud OSS.
#[derive(Debug)]
pub enum Oss {}

impl Store for Oss {
    const KIND: &'static str = "oss";

    fn error(bucket: &str, key: &str, error: &opendal::Error) -> SinkError {
        error::convert(bucket, key, error)
    }
}

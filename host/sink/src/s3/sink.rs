//! S3 as a [`Store`] of a [`Bucket`](crate::bucket::Bucket), which is the sink.

use super::error;
use crate::bucket::Store;
use crate::error::SinkError;

/// Amazon S3, or a compatible store.
#[derive(Debug)]
pub enum S3 {}

impl Store for S3 {
    const KIND: &'static str = "s3";

    fn error(bucket: &str, key: &str, error: &opendal::Error) -> SinkError {
        error::convert(bucket, key, error)
    }
}

//! Errors of OSS. OpenDAL retries a temporary one twice, and the task retries all.

use crate::bucket;
use crate::error::SinkError;

/// Words of a response when there is no such bucket, or the endpoint is another region's (status 403).
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "InvalidBucketName", "specified endpoint"];

/// Converts an error of a bucket at a key.
pub(super) fn convert(bucket: &str, key: &str, error: &opendal::Error) -> SinkError {
    bucket::convert(bucket, key, error, &NO_BUCKET)
}

//! Errors of S3. OpenDAL retries a temporary one twice, and the task retries all.

use crate::bucket;
use crate::error::SinkError;

/// Words of a response when there is no such bucket, or the endpoint or region is another bucket's. Some of these
/// responses have status 403. Stores that are compatible with S3 say `specified endpoint` only.
const NO_BUCKET: [&str; 5] = [
    "NoSuchBucket",
    "InvalidBucketName",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "specified endpoint",
];

/// Converts an error of a bucket at a key.
pub(super) fn convert(bucket: &str, key: &str, error: &opendal::Error) -> SinkError {
    bucket::convert(bucket, key, error, &NO_BUCKET)
}

//! Checks the settings of an S3 bucket and opens it.

use logship_config::object_store::{Checksum, ObjectStoreConfig};

use super::client;
use super::sink::S3;
use crate::bucket::{self, Bucket};
use crate::error::SinkError;
use crate::object::BucketLocation;

/// Opens a bucket.
///
/// # Errors
/// [`SinkError::Settings`] or [`SinkError::RuleField`] if a setting is invalid.
pub(crate) fn open(
    config: &ObjectStoreConfig,
    location: &BucketLocation<'_>,
) -> Result<Bucket<S3>, SinkError> {
    if location.must_exist && !bucket::is_bucket_name(location.bucket, b"-.") {
        return Err(bucket::invalid_name(location.bucket));
    }
    Bucket::open(config, location, config.checksum.unwrap_or(Checksum::Crc32c), client::client)
}

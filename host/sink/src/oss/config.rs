//! Checks the settings of an OSS bucket and opens it.

use logship_config::object_store::{Checksum, ObjectStoreConfig};

use super::client;
use super::sink::Oss;
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
) -> Result<Bucket<Oss>, SinkError> {
    if location.must_exist {
        if !bucket::is_bucket_name(location.bucket, b"-") {
            return Err(bucket::invalid_name(location.bucket));
        }
        if config.endpoint.is_empty() {
            return Err(SinkError::rule("destination", "endpoint is missing"));
        }
    }
    let checksum = config.checksum.unwrap_or(Checksum::Md5);
    if checksum == Checksum::Crc32c {
        return Err(SinkError::Settings(
            "checksum: OSS has no CRC-32C: use md5, the default, or none".into(),
        ));
    }
    Bucket::open(config, location, checksum, client::client)
}

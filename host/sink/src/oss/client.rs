//! Requests to OSS: address, signature, role and encryption.

use logship_config::object_store::{Addressing, ObjectStoreConfig};
use opendal::Operator;
use opendal::services::Oss;

use crate::bucket::ROLE_SESSION_NAME;

/// Builds the client of a bucket. Assumes `role` if it is not empty.
pub(super) fn operator(config: &ObjectStoreConfig, bucket: &str, role: &str) -> opendal::Result<Operator> {
    let mut builder = Oss::default().bucket(bucket).endpoint(&config.endpoint);
    if config.addressing == Some(Addressing::Path) {
        builder = builder.addressing_style("path");
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.access_key_secret) {
        builder = builder.access_key_id(id).access_key_secret(secret.expose());
    }
    if let Some(token) = &config.security_token {
        builder = builder.security_token(token.expose());
    }
    builder = builder.role_arn(role).role_session_name(ROLE_SESSION_NAME);
    if let Some(id) = &config.external_id {
        builder = builder.external_id(id.expose());
    }
    if let Some(endpoint) = &config.sts_endpoint {
        builder = builder.sts_endpoint(endpoint);
    }
    if let Some(encryption) = &config.encryption {
        builder = builder.server_side_encryption(encryption);
    }
    if let Some(key) = &config.encryption_key {
        builder = builder.server_side_encryption_key_id(key);
    }
    Operator::new(builder)
}

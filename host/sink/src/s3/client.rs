//! Requests to S3: address, signature, role and encryption.

use logship_config::object_store::{Addressing, Checksum, ObjectStoreConfig};
use opendal::services::S3;
use opendal::{HttpTransporter, Operator};

use crate::bucket::{self, Client, ROLE_SESSION_NAME};

/// Builds the client of a bucket. Assumes `role` if it is not empty.
pub(super) fn client(
    config: &ObjectStoreConfig,
    bucket: &str,
    role: &str,
    _: &HttpTransporter,
) -> opendal::Result<Client> {
    let mut builder = S3::default().bucket(bucket).region(config.region.as_deref().unwrap_or("us-east-1"));
    if !config.endpoint.is_empty() {
        builder = builder.endpoint(&bucket::with_scheme(&config.endpoint));
    }
    if config.addressing == Some(Addressing::Virtual) {
        builder = builder.enable_virtual_host_style();
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.access_key_secret) {
        builder = builder.access_key_id(id).secret_access_key(secret.expose()).disable_config_load();
    }
    if let Some(token) = &config.security_token {
        builder = builder.session_token(token.expose());
    }
    if !role.is_empty() {
        builder = builder.role_arn(role).role_session_name(ROLE_SESSION_NAME);
    }
    if let Some(id) = &config.external_id {
        builder = builder.external_id(id.expose());
    }
    match (config.encryption.as_deref(), &config.encryption_key) {
        (Some("KMS"), Some(key)) => {
            builder = builder.server_side_encryption_with_customer_managed_kms_key(key)
        }
        (Some("KMS"), None) => builder = builder.server_side_encryption_with_aws_managed_kms_key(),
        (Some(_), _) => builder = builder.server_side_encryption_with_s3_key(),
        (None, _) => {}
    }
    if matches!(config.checksum, None | Some(Checksum::Crc32c)) {
        builder = builder.checksum_algorithm("crc32c");
    }
    Ok(Client { operator: Operator::new(builder)?, signer: None })
}

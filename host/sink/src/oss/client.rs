//! Requests to OSS: address and encryption. The transport signs them.

use logship_config::object_store::{Addressing, ObjectStoreConfig};
use opendal::services::Oss;
use opendal::{HttpTransporter, Operator};

use super::signer::Signer;
use crate::bucket::{self, Client};

/// Builds the client of a bucket. Assumes `role` if it is not empty. `http` asks the security token service.
pub(super) fn client(
    config: &ObjectStoreConfig,
    bucket: &str,
    role: &str,
    http: &HttpTransporter,
) -> opendal::Result<Client> {
    let endpoint = bucket::with_scheme(&config.endpoint);
    let mut builder = Oss::default().bucket(bucket).endpoint(&endpoint).skip_signature();
    if config.addressing == Some(Addressing::Path) {
        builder = builder.addressing_style("path");
    }
    if let Some(encryption) = &config.encryption {
        builder = builder.server_side_encryption(encryption);
    }
    if let Some(key) = &config.encryption_key {
        builder = builder.server_side_encryption_key_id(key);
    }
    let signer = Signer::new(config, bucket, role, http.clone());
    Ok(Client { operator: Operator::new(builder)?, signer: Some(Box::new(signer)) })
}

//! Signatures of OSS requests. OpenDAL would sign before the digest is added, which OSS wants signed.

use futures_util::future::BoxFuture;
use http::Request;
use logship_config::object_store::ObjectStoreConfig;
use logship_config::secret::Secret;
use opendal::raw::new_request_sign_error;
use opendal::{Buffer, HttpTransporter, Result};
use reqsign_aliyun_oss::{Credential, RequestSigner};

use crate::aliyun_keys::Keys;
use crate::store_transport::Sign;

/// Signs requests to a bucket.
pub(super) struct Signer(reqsign_core::Signer<Credential>);

impl Signer {
    /// Creates a signer that assumes `role` if it is not empty. `http` asks the security token service.
    pub(super) fn new(config: &ObjectStoreConfig, bucket: &str, role: &str, http: HttpTransporter) -> Self {
        let keys = keys(config, role);
        let context = keys.context().with_http_send(http);
        Self(reqsign_core::Signer::new(context, keys.providers(), RequestSigner::new(bucket)))
    }
}

impl Sign for Signer {
    fn sign(&self, request: Request<Buffer>) -> BoxFuture<'_, Result<Request<Buffer>>> {
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            self.0.sign(&mut head, None).await.map_err(|error| new_request_sign_error(error.into()))?;
            Ok(Request::from_parts(head, body))
        })
    }
}

/// The keys that a store's settings allow.
fn keys<'a>(config: &'a ObjectStoreConfig, role: &'a str) -> Keys<'a> {
    let key = config.access_key_id.as_deref().zip(config.access_key_secret.as_ref());
    Keys {
        key: key.map(|(id, secret)| (id, secret.expose())),
        token: config.security_token.as_ref().map(Secret::expose),
        role,
        external_id: config.external_id.as_ref().map(Secret::expose),
        sts_endpoint: config.sts_endpoint.as_deref(),
    }
}

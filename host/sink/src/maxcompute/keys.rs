//! The credentials of requests: a configured key, or a temporary one of a role, until it expires.

use logship_config::maxcompute::MaxComputeConfig;
use logship_config::secret::Secret;
use opendal::HttpTransporter;
use reqsign_aliyun_oss::Credential;
use reqsign_core::{Context, ProvideCredential as _, ProvideCredentialChain, SigningCredential as _};
use tokio::sync::Mutex;

use super::error::{Class, MaxComputeError};
use crate::aliyun_keys::Keys;

/// Provides credentials.
pub(super) struct KeyProvider {
    chain: ProvideCredentialChain<Credential>,
    context: Context,
    current: Mutex<Option<Credential>>,
}

impl KeyProvider {
    /// Creates the provider of a project. `http` asks the security token service.
    pub(super) fn new(config: &MaxComputeConfig, http: HttpTransporter) -> Self {
        let key = (config.access_key_id.as_str(), config.access_key_secret.expose());
        let keys = Keys {
            key: Some(key).filter(|(id, secret)| !id.is_empty() && !secret.is_empty()),
            token: config.security_token.as_ref().map(Secret::expose),
            role: config.role.as_deref().unwrap_or_default(),
            external_id: config.external_id.as_ref().map(Secret::expose),
            sts_endpoint: config.sts_endpoint.as_deref(),
        };
        let context = keys.context().with_http_send(http);
        Self { chain: keys.providers(), context, current: Mutex::default() }
    }

    /// Returns credentials that are valid for two minutes at least.
    pub(super) async fn get(&self) -> Result<Credential, MaxComputeError> {
        const STEP: &str = "get credentials for MaxCompute";
        let mut current = self.current.lock().await;
        if let Some(credential) = current.as_ref().filter(|credential| credential.is_valid()) {
            return Ok(credential.clone());
        }
        let provided = self.chain.provide_credential(&self.context).await;
        match provided.map_err(|error| MaxComputeError::new(STEP, Class::Unauthorized, error))? {
            Some(credential) => Ok(current.insert(credential).clone()),
            None => {
                let problem = "there are none: set access-key-id and access-key-secret, or the environment's ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET";
                Err(MaxComputeError::new(STEP, Class::Unauthorized, problem))
            }
        }
    }
}

//! Signatures of OSS requests. OpenDAL would sign before the digest is added, which OSS wants signed.

use futures_util::future::BoxFuture;
use http::Request;
use logship_config::object_store::ObjectStoreConfig;
use opendal::raw::new_request_sign_error;
use opendal::{Buffer, HttpTransporter, Result};
use reqsign_aliyun_oss::{
    AssumeRoleCredentialProvider, AssumeRoleWithOidcCredentialProvider, Credential,
    EcsRamRoleCredentialProvider, EnvCredentialProvider, RequestSigner, StaticCredentialProvider,
};
use reqsign_core::{Context, Env as _, OsEnv, ProvideCredentialChain, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;

use crate::bucket::ROLE_SESSION_NAME;
use crate::store_transport::Sign;

/// Signs requests to a bucket.
pub(super) struct Signer(reqsign_core::Signer<Credential>);

impl Signer {
    /// Creates a signer that assumes `role` if it is not empty. `http` asks the security token service.
    pub(super) fn new(config: &ObjectStoreConfig, bucket: &str, role: &str, http: HttpTransporter) -> Self {
        let context = context(config, role).with_http_send(http);
        Self(reqsign_core::Signer::new(context, credentials(config, role), RequestSigner::new(bucket)))
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

/// The environment of credential providers, with the settings that they read from variables only.
fn context(config: &ObjectStoreConfig, role: &str) -> Context {
    let mut variables = OsEnv.vars();
    if !role.is_empty() {
        variables.insert("ALIBABA_CLOUD_ROLE_ARN".into(), role.into());
    }
    if let Some(endpoint) = config.sts_endpoint.as_ref().filter(|endpoint| !endpoint.contains("://")) {
        variables.insert("ALIBABA_CLOUD_STS_ENDPOINT".into(), endpoint.clone());
    }
    let environment = StaticEnv { home_dir: OsEnv.home_dir(), envs: variables };
    Context::new().with_file_read(TokioFileRead).with_env(environment)
}

/// The configured key, or the credentials of the environment or the machine, and the role to assume with them.
fn credentials(config: &ObjectStoreConfig, role: &str) -> ProvideCredentialChain<Credential> {
    let mut chain = ProvideCredentialChain::new();
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.access_key_secret) {
        let key = StaticCredentialProvider::new(id, secret.expose());
        chain = chain.push(match &config.security_token {
            Some(token) => key.with_security_token(token.expose()),
            None => key,
        });
    }
    let mut identity = AssumeRoleWithOidcCredentialProvider::new().with_role_session_name(ROLE_SESSION_NAME);
    if let Some(endpoint) = config.sts_endpoint.as_ref().filter(|endpoint| endpoint.contains("://")) {
        identity = identity.with_sts_endpoint(endpoint.clone());
    }
    let chain =
        chain.push(EnvCredentialProvider::new()).push(identity).push(EcsRamRoleCredentialProvider::new());
    if role.is_empty() {
        return chain;
    }
    let mut assumed = AssumeRoleCredentialProvider::new()
        .with_base_provider(chain)
        .with_role_arn(role)
        .with_role_session_name(ROLE_SESSION_NAME);
    if let Some(id) = &config.external_id {
        assumed = assumed.with_external_id(id.expose());
    }
    if let Some(endpoint) = &config.sts_endpoint {
        assumed = assumed.with_sts_endpoint(endpoint.clone());
    }
    ProvideCredentialChain::new().push(assumed)
}

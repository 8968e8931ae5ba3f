//! Access keys of Alibaba Cloud: configured ones, the environment's, and roles assumed with them.

use reqsign_aliyun_oss::{
    AssumeRoleCredentialProvider, AssumeRoleWithOidcCredentialProvider, Credential,
    EcsRamRoleCredentialProvider, EnvCredentialProvider, StaticCredentialProvider,
};
use reqsign_core::{Context, Env as _, OsEnv, ProvideCredentialChain, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;

use crate::bucket::ROLE_SESSION_NAME;

/// The settings that choose a key.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    /// The ID and the secret of the configured key. Without it, the environment's or the machine's credentials are used.
    pub(crate) key: Option<(&'a str, &'a str)>,
    /// The security token of a temporary key.
    pub(crate) token: Option<&'a str>,
    /// The role to assume; empty if none.
    pub(crate) role: &'a str,
    /// The external ID that the role's owner requires.
    pub(crate) external_id: Option<&'a str>,
    /// The endpoint of the security token service.
    pub(crate) sts_endpoint: Option<&'a str>,
}

impl Keys<'_> {
    /// The environment of credential providers, with the settings that they read from variables only.
    pub(crate) fn context(&self) -> Context {
        let mut variables = OsEnv.vars();
        if !self.role.is_empty() {
            variables.insert("ALIBABA_CLOUD_ROLE_ARN".into(), self.role.into());
        }
        if let Some(endpoint) = self.sts_endpoint.filter(|endpoint| !endpoint.contains("://")) {
            variables.insert("ALIBABA_CLOUD_STS_ENDPOINT".into(), endpoint.into());
        }
        let environment = StaticEnv { home_dir: OsEnv.home_dir(), envs: variables };
        Context::new().with_file_read(TokioFileRead).with_env(environment)
    }

    /// The configured key, or the credentials of the environment or the machine, and the role to assume with them.
    pub(crate) fn providers(&self) -> ProvideCredentialChain<Credential> {
        let mut chain = ProvideCredentialChain::new();
        if let Some((id, secret)) = self.key {
            let key = StaticCredentialProvider::new(id, secret);
            chain = chain.push(match self.token {
                Some(token) => key.with_security_token(token),
                None => key,
            });
        }
        let mut identity =
            AssumeRoleWithOidcCredentialProvider::new().with_role_session_name(ROLE_SESSION_NAME);
        if let Some(endpoint) = self.sts_endpoint.filter(|endpoint| endpoint.contains("://")) {
            identity = identity.with_sts_endpoint(endpoint);
        }
        let chain =
            chain.push(EnvCredentialProvider::new()).push(identity).push(EcsRamRoleCredentialProvider::new());
        if self.role.is_empty() {
            return chain;
        }
        let mut assumed = AssumeRoleCredentialProvider::new()
            .with_base_provider(chain)
            .with_role_arn(self.role)
            .with_role_session_name(ROLE_SESSION_NAME);
        if let Some(id) = self.external_id {
            assumed = assumed.with_external_id(id);
        }
        if let Some(endpoint) = self.sts_endpoint {
            assumed = assumed.with_sts_endpoint(endpoint);
        }
        ProvideCredentialChain::new().push(assumed)
    }
}

//! Loads components from a file or an OCI registry.

use std::path::Path;

use clap::Args;
use sha2::{Digest, Sha256};

use super::super::Failure;
use logship_registry::oci::Reference;
use logship_registry::oci::client::{Credentials, RegistryClient};
use logship_server::MAX_COMPONENT_BYTES;

/// Credentials and transport of an OCI registry.
#[derive(Debug, Args)]
#[command(next_help_heading = "OCI registry")]
pub(super) struct RegistryOptions {
    /// User of the registry [default: the one of `docker login` (~/.docker/config.json), or anonymous]
    #[arg(long, value_name = "USER", env = "LOGSHIP_REGISTRY_USERNAME", requires = "registry_password")]
    registry_username: Option<String>,
    /// Password or token of the user. Prefer the environment variable: options show in the process list.
    #[arg(long, value_name = "SECRET", env = "LOGSHIP_REGISTRY_PASSWORD", hide_env_values = true)]
    registry_password: Option<String>,
    /// Uses HTTP without TLS. This is the default for a registry on this machine.
    #[arg(long)]
    plain_http: bool,
}

impl RegistryOptions {
    pub(super) fn client(&self, reference: &str) -> Result<RegistryClient, Failure> {
        let credentials = match (&self.registry_username, &self.registry_password) {
            (Some(user), Some(password)) => Credentials::Basic(user.clone(), password.clone()),
            _ => Credentials::Docker,
        };
        Ok(RegistryClient::new(reference.parse()?, &credentials, self.plain_http)?)
    }
}

/// A component and its source.
pub(super) struct Component {
    pub(super) bytes: Vec<u8>,
    pub(super) source: String,
}

/// Reads a component from a file, or pulls it from a registry.
///
/// The client pulls, not the service: so a service needs no internet access and no registry credentials.
pub(super) async fn fetch(origin: &str, registry: &RegistryOptions) -> Result<Component, Failure> {
    if Reference::looks_like_reference(origin) {
        let pulled = registry.client(origin)?.pull(MAX_COMPONENT_BYTES).await?;
        return Ok(Component { bytes: pulled.component, source: pulled.source });
    }
    let bytes = std::fs::read(Path::new(origin)).map_err(|error| format!("{origin}: {error}"))?;
    Ok(Component { bytes, source: origin.to_owned() })
}

impl Component {
    /// Fails if the component's SHA-256 is not `expected`.
    pub(super) fn check(&self, expected: &str) -> Result<(), Failure> {
        let found = hex::encode(Sha256::digest(&self.bytes));
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(format!("{}: the component's SHA-256 is {found}, expected {expected}", self.source).into())
    }
}

/// Parses a hexadecimal SHA-256, with or without the prefix `sha256:`.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits.to_owned());
    }
    Err("use 64 hexadecimal digits".into())
}

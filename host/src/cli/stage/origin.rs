//! Where a component is taken from: a file, or a registry.

use std::path::Path;

use clap::Args;
use sha2::{Digest, Sha256};

use super::super::Failure;
use crate::oci::Place;
use crate::oci::remote::{Credentials, Remote};
use crate::service::LARGEST_COMPONENT;

/// Who asks an OCI registry, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "OCI registry")]
pub(super) struct RegistryOptions {
    /// The user; by default the one that `docker login` was for (~/.docker/config.json), or nobody.
    #[arg(long, value_name = "USER", env = "LOGSHIP_REGISTRY_USERNAME", requires = "registry_password")]
    registry_username: Option<String>,
    /// The user's password or token. The environment keeps it from the list of processes.
    #[arg(long, value_name = "SECRET", env = "LOGSHIP_REGISTRY_PASSWORD", hide_env_values = true)]
    registry_password: Option<String>,
    /// Speak HTTP without TLS. A registry on this machine is spoken to so anyway.
    #[arg(long)]
    plain_http: bool,
}

impl RegistryOptions {
    pub(super) fn remote(&self, place: &str) -> Result<Remote, Failure> {
        let credentials = match (&self.registry_username, &self.registry_password) {
            (Some(user), Some(password)) => Credentials::Basic(user.clone(), password.clone()),
            _ => Credentials::Docker,
        };
        Ok(Remote::new(place.parse()?, &credentials, self.plain_http)?)
    }
}

/// A component, and where it is from.
pub(super) struct Component {
    pub(super) bytes: Vec<u8>,
    pub(super) source: String,
}

/// Reads a file, or pulls from a registry.
///
/// Here and not in the service: a service needs no way to the internet, no credentials of registries, and takes the
/// component as it does a file.
pub(super) async fn fetch(origin: &str, registry: &RegistryOptions) -> Result<Component, Failure> {
    if Place::is_meant(origin) {
        let pulled = registry.remote(origin)?.pull(LARGEST_COMPONENT).await?;
        return Ok(Component { bytes: pulled.component, source: pulled.source });
    }
    let bytes = std::fs::read(Path::new(origin)).map_err(|error| format!("{origin}: {error}"))?;
    Ok(Component { bytes, source: origin.to_owned() })
}

impl Component {
    /// Refuses it if its SHA-256 is another one.
    pub(super) fn check(&self, expected: &str) -> Result<(), Failure> {
        let found = hex::encode(Sha256::digest(&self.bytes));
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(format!("{}: the SHA-256 of the component is {found}, and not {expected}", self.source).into())
    }
}

/// A SHA-256 in hexadecimal, with `sha256:` before it or not.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits.to_owned());
    }
    Err("64 hexadecimal digits".into())
}

//! Where a command finds the service, and by which key.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;

use super::Failure;
use crate::client::{Client, Endpoint};
use crate::service::EVERYWHERE;
use crate::service::keys::{Access, KeyFile};

/// The service, the key and the project.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(super) struct Connect {
    /// The service: one of logship, or any other that speaks the API of Log Service.
    #[arg(long, value_name = "URL", env = "SLS_ENDPOINT", default_value = "http://127.0.0.1:7450")]
    endpoint: String,
    /// Id of the access key. Without one, a key of the service's data directory on this machine serves.
    #[arg(long, value_name = "ID", env = "SLS_AK_ID", requires = "ak_key")]
    ak_id: Option<String>,
    /// Its secret. The environment keeps it from the list of processes.
    #[arg(long, value_name = "SECRET", env = "SLS_AK_KEY", hide_env_values = true)]
    ak_key: Option<String>,
    /// Token of a temporary key.
    #[arg(long, value_name = "TOKEN", env = "SLS_SECURITY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Sign for this region, by version 4 of signing.
    #[arg(long, value_name = "REGION", env = "SLS_REGION")]
    region: Option<String>,
    /// The data directory to look for a key in.
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA", default_value = "logship-data")]
    data: PathBuf,
    /// The project.
    #[arg(long, env = "SLS_PROJECT", default_value = "default")]
    pub(super) project: String,
}

impl Connect {
    /// A client of the project, with a key for it that opens as much.
    pub(super) fn client(&self, access: Access) -> Result<Client, Failure> {
        self.client_with(&self.project, access)
    }

    /// A client with a key that opens as much in every project: for what is none of a project.
    pub(super) fn client_for_all(&self, access: Access) -> Result<Client, Failure> {
        self.client_with(EVERYWHERE, access)
    }

    fn client_with(&self, project: &str, access: Access) -> Result<Client, Failure> {
        let (key_id, secret, token) = match (&self.ak_id, &self.ak_key) {
            (Some(id), Some(secret)) => (id.clone(), secret.clone(), self.token.clone()),
            _ => self.found_key(project, access)?,
        };
        let endpoint = if self.endpoint.contains("://") {
            self.endpoint.clone()
        } else {
            format!("http://{}", self.endpoint)
        };
        let url = Url::parse(&endpoint).map_err(|error| format!("--endpoint {}: {error}", self.endpoint))?;
        let endpoint = Endpoint { url, key_id, secret, token, region: self.region.clone() };
        Ok(Client::new(endpoint, &self.project)?)
    }

    fn found_key(&self, project: &str, access: Access) -> Result<(String, String, Option<String>), Failure> {
        let file = KeyFile::within(&self.data);
        let keys = file.read().map_err(|error| {
            format!("no access key: give SLS_AK_ID and SLS_AK_KEY, or --data, the service's data directory ({error})")
        })?;
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut fitting = keys.into_iter().filter(|key| key.allows(project, access) && !key.is_over(now));
        let key = fitting.next().ok_or_else(|| {
            format!(
                "no key in {} opens {}: make one with `logship key create`",
                file.path().display(),
                if project == EVERYWHERE { "every project".into() } else { format!("project {project}") }
            )
        })?;
        Ok((key.id, key.secret, key.token))
    }
}

/// Runs a command that speaks to the service, until it ends or is told to.
pub(super) fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

//! Options to connect to a service.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;

use super::Failure;
use logship_client::{Client, Endpoint};
use logship_server::ALL_PROJECTS;
use logship_server::keys::{Access, KeyFile};

/// The endpoint, the access key and the project.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(super) struct Connect {
    /// The service's URL: logship, or any service with the API of Log Service.
    #[arg(long, value_name = "URL", env = "SLS_ENDPOINT", default_value = "http://127.0.0.1:7450")]
    endpoint: String,
    /// Id of the access key [default: a key from --data]
    #[arg(long, value_name = "ID", env = "SLS_AK_ID", requires = "ak_key")]
    ak_id: Option<String>,
    /// Secret of the access key. Prefer the environment variable: options show in the process list.
    #[arg(long, value_name = "SECRET", env = "SLS_AK_KEY", hide_env_values = true)]
    ak_key: Option<String>,
    /// Security token of a temporary key.
    #[arg(long, value_name = "TOKEN", env = "SLS_SECURITY_TOKEN", hide_env_values = true, alias = "token")]
    security_token: Option<String>,
    /// Signs for this region with signature version 4.
    #[arg(long, value_name = "REGION", env = "SLS_REGION")]
    region: Option<String>,
    /// The service's data directory on this machine, to read an access key from.
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DATA", default_value = "logship-data")]
    pub(super) data: PathBuf,
    /// The project of the logstores.
    #[arg(long, env = "SLS_PROJECT", default_value = "default")]
    pub(super) project: String,
}

impl Connect {
    /// Returns a client of the project, with a key that grants `access` to it.
    pub(super) fn client(&self, access: Access) -> Result<Client, Failure> {
        self.client_with(&self.project, &self.project, access)
    }

    /// Returns a client for operations outside of projects, with a key that grants `access` to the project.
    pub(super) fn client_without_project(&self, access: Access) -> Result<Client, Failure> {
        self.client_with("", &self.project, access)
    }

    /// Returns a client of another project, with a key that grants `access` to it.
    pub(super) fn client_of(&self, project: &str, access: Access) -> Result<Client, Failure> {
        self.client_with(project, project, access)
    }

    /// Returns a client with a key that grants `access` to all projects, for operations outside of projects.
    pub(super) fn client_for_all_projects(&self, access: Access) -> Result<Client, Failure> {
        self.client_with(&self.project, ALL_PROJECTS, access)
    }

    /// Returns the data directory, unless the service is on another machine.
    pub(super) fn local_data(&self) -> Option<&std::path::Path> {
        let host = self.endpoint.split("://").last().unwrap_or_default();
        let is_local = ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local));
        is_local.then_some(&*self.data)
    }

    fn client_with(&self, project: &str, granted: &str, access: Access) -> Result<Client, Failure> {
        let (key_id, secret, token) = match (&self.ak_id, &self.ak_key) {
            (Some(id), Some(secret)) => (id.clone(), secret.clone(), self.security_token.clone()),
            _ => self.local_key(granted, access)?,
        };
        let endpoint = if self.endpoint.contains("://") {
            self.endpoint.clone()
        } else {
            format!("http://{}", self.endpoint)
        };
        let url = Url::parse(&endpoint).map_err(|error| format!("--endpoint {}: {error}", self.endpoint))?;
        let endpoint = Endpoint { url, key_id, secret, token, region: self.region.clone() };
        Ok(Client::new(endpoint, project)?)
    }

    fn local_key(&self, project: &str, access: Access) -> Result<(String, String, Option<String>), Failure> {
        let file = KeyFile::within(&self.data);
        let keys = file.read().map_err(|error| {
            format!("no access key: set SLS_AK_ID and SLS_AK_KEY, or give the service's data directory with --data ({error})")
        })?;
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut matching = keys.into_iter().filter(|key| key.allows(project, access) && !key.is_expired(now));
        let key = matching.next().ok_or_else(|| {
            format!(
                "no key in {} grants access to {}: create one with `logship key create`",
                file.path().display(),
                if project == ALL_PROJECTS { "all projects".into() } else { format!("project {project}") }
            )
        })?;
        let token = key.token.map(|token| token.expose().to_owned());
        Ok((key.id, key.secret.expose().to_owned(), token))
    }
}

/// Runs an asynchronous command to its end.
pub(super) fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

//! The data sources that rules and jobs name: those of the service's settings, and those of projects in the store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use logship_client::{Client, Endpoint};
use logship_config::data_source::{Connection, DataSource};
use logship_config::log_hub::LogHubConfig;
use logship_config::rule::RuleError;
use logship_config::scope::Scope;
use logship_logstore::{Store, StoredSource};

/// Finds data sources by their names.
pub trait Sources: Debug + Send + Sync {
    /// Finds a data source that rules and jobs of a project may use.
    fn find(&self, project: &str, name: &str) -> Option<DataSource>;

    /// Returns all data sources that rules and jobs of a project may use.
    fn list(&self, _project: &str) -> Vec<DataSource> {
        vec![]
    }

    /// Finds a data source, or says why there is none.
    ///
    /// # Errors
    /// [`NoSource`], with what to do.
    fn get(&self, project: &str, name: &str) -> Result<DataSource, NoSource> {
        self.find(project, name).ok_or_else(|| NoSource { project: project.into(), name: name.into() })
    }
}

/// The error for a name that is no data source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "project {project} has no data source {name:?} that it may use: `logship source list` shows all, and `logship source create` makes one"
)]
pub struct NoSource {
    /// The project.
    pub project: String,
    /// The name.
    pub name: String,
}

/// The data sources of a service. Those of the settings override a project's own of the same name.
#[derive(Debug)]
pub struct ServiceSources {
    settings: BTreeMap<String, DataSource>,
    /// The projects that may use a data source of the settings, by its name.
    scopes: BTreeMap<String, Scope>,
    /// True if the service may connect to the addresses that a project's data source names.
    allow_own: bool,
    store: Arc<Store>,
}

impl ServiceSources {
    /// Creates the lookup.
    pub fn new(
        settings: BTreeMap<String, DataSource>,
        scopes: BTreeMap<String, Scope>,
        allow_own: bool,
        store: Arc<Store>,
    ) -> Self {
        Self { settings, scopes, allow_own, store }
    }

    /// Returns the data sources of the settings that a project may use.
    pub fn of_settings(&self, project: &str) -> impl Iterator<Item = &DataSource> {
        let is_allowed =
            move |name: &str| self.scopes.get(name).is_none_or(|scope| scope.allows_project(project));
        self.settings.iter().filter(move |(name, _)| is_allowed(name)).map(|(_, source)| source)
    }

    /// Returns true if the service may use a project's own data source.
    pub fn may_use(&self, source: &DataSource) -> bool {
        (self.allow_own || !source.connection.is_remote()) && source.connection.check_own().is_ok()
    }
}

impl Sources for ServiceSources {
    fn find(&self, project: &str, name: &str) -> Option<DataSource> {
        if let Some(known) = self.of_settings(project).find(|source| source.name == name) {
            return Some(known.clone());
        }
        let catalog = self.store.catalog();
        let stored = catalog.project(project).ok()?.source(name).ok()?;
        restore(stored).filter(|source| self.may_use(source))
    }

    fn list(&self, project: &str) -> Vec<DataSource> {
        let catalog = self.store.catalog();
        let own = catalog.project(project).into_iter().flat_map(|project| project.sources.keys());
        let of_settings = self.of_settings(project).map(|source| &source.name);
        let mut names: Vec<&String> = of_settings.chain(own).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.find(project, name)).collect()
    }
}

/// Checks a connection that a rule defines. `is_allowed` is true if rules may define connections.
///
/// # Errors
/// If they may not, or if the connection uses files or credentials of the service, or has a masked secret.
pub(super) fn check_rule_connection(connection: &Connection, is_allowed: bool) -> Result<(), RuleError> {
    if !is_allowed {
        let problem = "rules can't define connections here (allow-own-destinations = false): name a data source in `source`";
        return Err(RuleError::field("connection", problem));
    }
    connection.check_own().map_err(|error| RuleError::field("connection", error))
}

/// Opens a client of a Logstore project at another endpoint.
///
/// # Errors
/// If a setting is invalid.
pub(super) fn log_hub_client(config: &LogHubConfig) -> Result<Client, String> {
    let endpoint = Endpoint {
        url: config.endpoint.parse().map_err(|_| "the endpoint is not a URL".to_owned())?,
        key_id: config.access_key_id.clone(),
        secret: config.access_key_secret.expose().to_owned(),
        token: config.security_token.as_ref().map(|token| token.expose().to_owned()),
        region: config.region.clone(),
    };
    Client::new(endpoint, &config.project).map_err(|error| error.to_string())
}

/// Returns a stored data source. One that a newer logship stored may be unknown.
pub fn restore(stored: &StoredSource) -> Option<DataSource> {
    let parsed = DataSource::parse(stored.content.clone());
    let unreadable = |error| tracing::warn!(source = stored.name, %error, "a stored data source is unknown");
    parsed.map_err(unreadable).ok().map(|source| DataSource { name: stored.name.clone(), ..source })
}

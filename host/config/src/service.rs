//! The settings of the service, from a TOML file. Command-line options and the environment override it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::data_source::DataSource;
use crate::dead_letter::DeadLetterConfig;
use crate::destination::DestinationConfig;
pub use crate::error::ConfigError;
use crate::error::{line_of, within};
use crate::limit;
use crate::quota::Quota;
use crate::receiver::ReceiverConfig;
use crate::rule::DEFAULT_DESTINATION;
use crate::scope::Scope;
use crate::secret::has_secret;
use crate::shipping::Shipping;
use crate::stage_name::{DIGEST_PREFIX, is_digest, is_name};

/// The settings of the service: the file of `logship serve --config`. All settings have defaults. Paths are relative to the file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Settings")]
pub struct Config {
    /// The data directory. It has the logs, the rules and the access keys. The default is relative to the working
    /// directory.
    pub data: PathBuf,
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The host name of the service itself. The project of a request is the first part of its host:
    /// `p.logs.example.org` has the project `p`. With `domain = "logs.example.org"`, the host `logs.example.org` has
    /// no project.
    pub domain: Option<String>,
    /// The TLS certificate and its key. Without them, the service speaks plain HTTP.
    pub tls: Option<Tls>,
    /// The limits of requests.
    pub limits: Limits,
    /// The quota of each key that has no quota of its own.
    pub quota: Quota,
    /// True if requests may be signed by version 1, as SDKs do by default. Its signatures don't cover the host, so a
    /// recorded request can be repeated in another project of the same key for 15 minutes. Version 4 covers it.
    pub allow_v1_signatures: bool,
    /// True if `/metrics` needs no key. The metrics name projects, Logstores and consumer groups.
    pub open_metrics: bool,
    /// Resource limits, retries and times of shipping.
    pub shipping: Shipping,
    /// The deletion of expired logs.
    pub retention: Retention,
    /// The directory of components, and their permissions.
    pub stages: Stages,
    /// The destinations of rules, by name. Rules without a destination use `default`, which is the directory `buckets`
    /// in the data directory unless it is set here.
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// The receivers of events, by name.
    pub receivers: BTreeMap<String, ReceiverConfig>,
    /// The data sources of rules and jobs, by name. All projects may use them, unless they have a scope. They override
    /// data sources that a project's admin created under the same name.
    pub sources: BTreeMap<String, DataSource>,
    /// The protection of Logstores and projects against mistaken deletion.
    pub deletion: Deletion,
    /// The scopes of destinations, receivers and data sources, by their name: which projects, buckets, prefixes and roles
    /// rules may use. Without a scope, all rules may use them.
    pub scopes: BTreeMap<String, Scope>,
    /// True if rules may define destinations of their own, and projects data sources, with their own endpoint and key. The
    /// service then connects to any address that a project's admin names.
    pub allow_own_destinations: bool,
    /// The location of events that a receiver rejects permanently.
    pub dead_letters: DeadLetterConfig,
    /// The SHA-256 of the settings file, in hexadecimal.
    #[serde(skip)]
    pub digest: Option<String>,
}

/// The TLS certificate and its private key, in PEM format.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The file with the certificate, followed by its issuers' certificates.
    pub certificate: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// The protection of Logstores and projects against mistaken deletion.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deletion {
    /// True if the deletion of a Logstore or project with logs needs its name in the header `x-logship-confirm`. SDKs of
    /// Log Service don't send it.
    pub confirm: bool,
    /// The time for which a deleted Logstore or project can be restored, in hours. Its logs use disk space until then.
    /// 0: deletions can't be undone.
    #[schemars(range(min = limit::UNDO_HOURS.min, max = limit::UNDO_HOURS.max))]
    pub undo_hours: u64,
}

impl Default for Deletion {
    fn default() -> Self {
        Self { confirm: true, undo_hours: 24 }
    }
}

impl Deletion {
    /// Returns the time for which a deletion can be undone, in seconds.
    pub fn undo_seconds(&self) -> u64 {
        self.undo_hours * 3600
    }
}

/// The directory of components, and their permissions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "StageSettings")]
pub struct Stages {
    /// The directory to import components from: a changed NAME.wasm becomes a new version of the stage NAME. Default:
    /// `stages` in the data directory.
    pub folder: Option<PathBuf>,
    /// The interval of scans of the directory, in seconds. 0: never.
    #[schemars(range(min = limit::WATCH_SECONDS.min, max = limit::WATCH_SECONDS.max))]
    pub watch_seconds: u64,
    /// The stages that may import WASI, which is an empty one: names, and digests with the prefix `sha256:`.
    pub allow_wasi: Vec<String>,
    /// The mechanism that stops an overdue stage. The option `--deadline-mode` overrides it.
    pub deadline_mode: DeadlineMode,
}

/// The mechanism that stops an overdue call of a stage that is not built in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeadlineMode {
    /// Checks in the stage's loops. They cost a fifth of its speed.
    #[default]
    Epoch,
    /// A signal, which costs nothing. Only on Linux on x86-64 without shadow stacks; epochs elsewhere.
    Signal,
}

impl Default for Stages {
    fn default() -> Self {
        Self { folder: None, watch_seconds: 2, allow_wasi: vec![], deadline_mode: DeadlineMode::default() }
    }
}

/// The deletion of logs whose time to live ended.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retention {
    /// True if logs are deleted at the end of their time to live even if a rule has not shipped them yet, or a job has not
    /// read them. Otherwise they are kept until all rules of the Logstore have shipped them, disabled rules too, and the
    /// schedules of its jobs have read them.
    pub delete_unshipped: bool,
    /// The largest step forward of the clock that is accepted, in seconds, also while the service is stopped. After a
    /// larger one, nothing expires until the clock is set back, or confirmed with `logship store confirm --clock`. A stop
    /// of the service is no step.
    #[schemars(range(min = limit::CLOCK_STEP_SECONDS.min, max = limit::CLOCK_STEP_SECONDS.max))]
    pub clock_step_seconds: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { delete_unshipped: false, clock_step_seconds: 86_400 }
    }
}

/// The limits of requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The number of concurrent connections. At the limit, a new connection closes the oldest one without a valid key,
    /// or an idle one of the key with the most connections. One key has at most 7/8 of them, unless it is an admin key
    /// of all projects.
    #[schemars(range(min = limit::CONNECTIONS.min, max = limit::CONNECTIONS.max))]
    pub connections: usize,
    /// The number of connections of one address (IPv6: of one /64 network) that have not sent a valid key yet. At the
    /// limit, a new connection closes the oldest of them. Connections with a valid key are not counted.
    #[schemars(range(min = limit::CONNECTIONS_PER_ADDRESS.min, max = limit::CONNECTIONS_PER_ADDRESS.max))]
    pub connections_per_address: usize,
    /// The largest log group of a put, in bytes before compression.
    #[schemars(range(min = limit::GROUP_BYTES.min, max = limit::GROUP_BYTES.max))]
    pub group_bytes: usize,
    /// The memory of all bodies that the service is receiving, in bytes. The same limit applies to decompressed bodies
    /// and to replies. It must hold a body of the largest log group. A key has at most half of it, and a project three
    /// quarters. When it is used up, slow clients lose their part to others.
    #[schemars(range(min = limit::BODIES_BYTES.min, max = limit::BODIES_BYTES.max))]
    pub bodies_bytes: usize,
    /// The idle timeout of a connection between two requests, in seconds. Clients keep connections for long, and some
    /// don't retry when a connection closes just before a request.
    #[schemars(range(min = limit::IDLE_SECONDS.min, max = limit::IDLE_SECONDS.max))]
    pub idle_seconds: u64,
    /// The timeout for a client that sends no data of a body, or receives no data of a reply, in seconds. It also limits
    /// a TLS handshake and a request's head in total. A body and a reply have ten times as long in total.
    #[schemars(range(min = limit::STALL_SECONDS.min, max = limit::STALL_SECONDS.max))]
    pub stall_seconds: u64,
    /// The number of consumer groups of a Logstore.
    #[schemars(range(min = limit::CONSUMER_GROUPS.min, max = limit::CONSUMER_GROUPS.max))]
    pub consumer_groups: usize,
    /// The number of writable shards of a Logstore.
    #[schemars(range(min = limit::SHARDS.min, max = limit::SHARDS.max))]
    pub shards: u32,
    /// The number of put ids that the service keeps for an access key (`x-logship-put-id`). Beyond it, the ids of the
    /// key's least recently used client are dropped before a day has passed. An id takes some 60 bytes of disk.
    #[schemars(range(min = limit::PUT_IDS.min, max = limit::PUT_IDS.max))]
    pub put_ids: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "logship-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7450)),
            domain: None,
            tls: None,
            limits: Limits::default(),
            quota: Quota::default(),
            allow_v1_signatures: true,
            open_metrics: false,
            shipping: Shipping::default(),
            retention: Retention::default(),
            stages: Stages::default(),
            destinations: BTreeMap::new(),
            receivers: BTreeMap::new(),
            sources: BTreeMap::new(),
            deletion: Deletion::default(),
            scopes: BTreeMap::new(),
            allow_own_destinations: true,
            dead_letters: DeadLetterConfig::default(),
            digest: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            group_bytes: 10 << 20,
            bodies_bytes: 64 << 20,
            idle_seconds: 600,
            stall_seconds: 30,
            consumer_groups: 10,
            shards: 256,
            put_ids: 1_000_000,
        }
    }
}

impl Limits {
    /// Returns the largest body on the wire, in bytes. Incompressible data grows a little when it is compressed.
    pub fn body_bytes(&self) -> usize {
        self.group_bytes + self.group_bytes / 255 + 64
    }

    /// Returns the timeout for a client that sends or receives no data.
    pub fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    /// Returns the idle timeout of a connection.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

impl Config {
    /// Parses the text of a settings file. Paths in it become relative to its folder. Does not [check](Self::check) the
    /// settings yet: the command line may override them.
    ///
    /// # Errors
    /// [`ConfigError::Content`], with the line and the setting.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        // The parser's full message shows the line, which may have a secret.
        let invalid = |setting: &str, error: &toml::de::Error| {
            let line = line_of(text, error);
            let problem = format!("line {line}: {setting}{}", error.message());
            ConfigError::Content { path: file.to_owned(), problem }
        };
        let content = toml::Deserializer::parse(text).map_err(|error| invalid("", &error))?;
        let mut config: Self = serde_path_to_error::deserialize(content)
            .map_err(|error| invalid(&format!("{}: ", error.path()), error.inner()))?;
        config.resolve_paths(file.parent().unwrap_or(Path::new("")));
        config.sources.iter_mut().for_each(|(name, source)| source.name.clone_from(name));
        config.digest = Some(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(config)
    }

    /// Resolves relative paths in the settings.
    fn resolve_paths(&mut self, folder: &Path) {
        // The default stays relative to the working directory, as in the commands.
        let data = (self.data != Self::default().data).then_some(&mut self.data);
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let folders = [&mut self.shipping.spool, &mut self.stages.folder, &mut self.dead_letters.path];
        let destinations = self.destinations.values_mut().filter_map(DestinationConfig::file);
        let receivers = self.receivers.values_mut().flat_map(ReceiverConfig::files);
        let paths = data.into_iter().chain(tls).chain(folders.into_iter().flatten());
        let sources = self.sources.values_mut().filter_map(|source| source.connection.file());
        for path in paths.chain(destinations).chain(receivers).chain(sources) {
            *path = folder.join(&*path);
        }
    }

    /// Returns true if the settings have secrets.
    pub fn has_secrets(&self) -> bool {
        has_secret(&self.receivers) || has_secret(&self.destinations) || has_secret(&self.sources)
    }

    /// Returns the destinations of rules: the configured ones and `default`.
    pub fn destinations(&self) -> BTreeMap<String, DestinationConfig> {
        let mut all = self.destinations.clone();
        let directory = || DestinationConfig::Directory { path: self.data.join("buckets") };
        all.entry(DEFAULT_DESTINATION.into()).or_insert_with(directory);
        all
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        within("deletion.undo-hours", self.deletion.undo_hours, limit::UNDO_HOURS)?;
        if let Some(name) = self.quota.problem() {
            return Err(ConfigError::Range { name, value: 0, allowed: "1 or more".into() });
        }
        self.shipping.check()?;
        let step = self.retention.clock_step_seconds;
        within("retention.clock-step-seconds", step, limit::CLOCK_STEP_SECONDS)?;
        let destinations = self.destinations();
        let is_known = |name: &String| {
            destinations.contains_key(name)
                || self.receivers.contains_key(name)
                || self.sources.contains_key(name)
        };
        if let Some(unknown) = self.scopes.keys().find(|name| !is_known(name)) {
            return Err(ConfigError::Scope(unknown.clone()));
        }
        for (name, source) in &self.sources {
            source.check().map_err(|source| ConfigError::Source { name: name.clone(), source })?;
        }
        for (name, destination) in &destinations {
            if let DestinationConfig::Function(function) = destination {
                let invalid = |problem| ConfigError::Destination { name: name.clone(), problem };
                let is_function = |name: &str| {
                    destinations.get(name).map(|store| matches!(store, DestinationConfig::Function(_)))
                };
                function.check(is_function).map_err(invalid)?;
            }
        }
        self.stages.check()
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        within("limits.connections", self.connections as u64, limit::CONNECTIONS)?;
        let per_address = self.connections_per_address as u64;
        within("limits.connections-per-address", per_address, limit::CONNECTIONS_PER_ADDRESS)?;
        within("limits.group-bytes", self.group_bytes as u64, limit::GROUP_BYTES)?;
        let (bodies, max) = (self.bodies_bytes as u64, limit::BODIES_BYTES.max);
        if !(self.body_bytes() as u64..=max).contains(&bodies) {
            let allowed = format!("group-bytes to {max}");
            return Err(ConfigError::Range { name: "limits.bodies-bytes", value: bodies, allowed });
        }
        within("limits.idle-seconds", self.idle_seconds, limit::IDLE_SECONDS)?;
        within("limits.stall-seconds", self.stall_seconds, limit::STALL_SECONDS)?;
        within("limits.consumer-groups", self.consumer_groups as u64, limit::CONSUMER_GROUPS)?;
        within("limits.shards", u64::from(self.shards), limit::SHARDS)?;
        within("limits.put-ids", self.put_ids, limit::PUT_IDS)
    }
}

impl Stages {
    fn check(&self) -> Result<(), ConfigError> {
        let is_valid = |allowed: &str| match allowed.strip_prefix(DIGEST_PREFIX) {
            Some(digest) => is_digest(digest) && digest == digest.to_lowercase(),
            None => is_name(allowed),
        };
        if let Some(invalid) = self.allow_wasi.iter().find(|allowed| !is_valid(allowed)) {
            return Err(ConfigError::AllowWasi(invalid.clone()));
        }
        within("stages.watch-seconds", self.watch_seconds, limit::WATCH_SECONDS)
    }
}

#[cfg(test)]
mod tests;

//! The settings of the service, from a TOML file. Command-line options and the environment override it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::dead_letter::DeadLetterConfig;
use crate::destination::DestinationConfig;
use crate::receiver::ReceiverConfig;
use crate::rule::DEFAULT_DESTINATION;
use crate::shipping::{MIN_WORKER_MEMORY, Shipping};
use crate::stage_name::{DIGEST_PREFIX, is_digest, is_name};

/// All settings. Each has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The listening address.
    pub listen: SocketAddr,
    /// The host name without a project. `p.logs.example.org` always has the project `p`. With
    /// `domain = "logs.example.org"`, the host `logs.example.org` has no project.
    pub domain: Option<String>,
    /// The TLS certificate and key; none for plain HTTP.
    pub tls: Option<Tls>,
    /// The limits of requests.
    pub limits: Limits,
    /// True if `/metrics` needs no key. It names projects, logstores and groups.
    pub open_metrics: bool,
    /// The settings of shipping.
    pub shipping: Shipping,
    /// The folder of components and their permissions.
    pub stages: Stages,
    /// The destinations of rules, by name. Rules without a name use `default`, which is a directory unless it is set here.
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// The receivers of events, by name.
    pub receivers: BTreeMap<String, ReceiverConfig>,
    /// The destination of events that a receiver rejects permanently.
    pub dead_letters: DeadLetterConfig,
}

/// The certificate and its private key, in PEM format.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The file with the certificate, followed by its issuers' certificates.
    pub certificate: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// The folder of components and their permissions.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stages {
    /// The folder to import components from: a changed NAME.wasm becomes a new version of NAME. The default is `stages` in
    /// the data directory.
    pub folder: Option<PathBuf>,
    /// The interval of scans of the folder, in seconds; 0: never.
    pub watch_seconds: u64,
    /// The stages that may import the empty WASI: names, and digests with the prefix `sha256:`.
    pub allow_wasi: Vec<String>,
}

impl Default for Stages {
    fn default() -> Self {
        Self { folder: None, watch_seconds: 2, allow_wasi: vec![] }
    }
}

/// The limits of requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The most concurrent connections.
    pub connections: usize,
    /// The largest log group, in bytes before compression.
    pub group_bytes: usize,
    /// The memory of all bodies being received, in bytes. The same limit applies to decompressed bodies and to replies.
    pub bodies_bytes: usize,
    /// The idle timeout of a connection between two requests, in seconds. Clients keep connections for long, and some don't
    /// retry when a connection closes just before a request.
    pub idle_seconds: u64,
    /// The timeout for a client that sends no data of a body, or receives no data of a reply, in seconds.
    pub stall_seconds: u64,
    /// The most consumer groups of a logstore.
    pub consumer_groups: usize,
    /// The most writable shards of a logstore.
    pub shards: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "logship-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7450)),
            domain: None,
            tls: None,
            limits: Limits::default(),
            open_metrics: false,
            shipping: Shipping::default(),
            stages: Stages::default(),
            destinations: BTreeMap::new(),
            receivers: BTreeMap::new(),
            dead_letters: DeadLetterConfig::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            group_bytes: 10 << 20,
            bodies_bytes: 64 << 20,
            idle_seconds: 600,
            stall_seconds: 30,
            consumer_groups: 10,
            shards: 256,
        }
    }
}

impl Limits {
    /// The largest body on the wire, in bytes. Incompressible data grows a little when it is compressed.
    pub fn body_bytes(&self) -> usize {
        self.group_bytes + self.group_bytes / 255 + 64
    }

    pub fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file's content is invalid.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line and the error.
        problem: String,
    },
    /// A setting is out of its range.
    #[error("{name} = {value} is out of range: {allowed}")]
    Range {
        /// The setting.
        name: &'static str,
        /// The value.
        value: u64,
        /// The allowed range.
        allowed: &'static str,
    },
    /// An entry of `allow-wasi` is invalid.
    #[error("stages.allow-wasi: {0:?} is invalid: use a stage name, or `sha256:` and 64 hexadecimal digits")]
    AllowWasi(String),
    /// A destination is invalid.
    #[error("destinations.{name}: {problem}")]
    Destination {
        /// The destination's name.
        name: String,
        /// The invalid setting and the reason.
        problem: String,
    },
}

impl Config {
    /// Reads a file of settings. Paths in it are relative to it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        // The parser's full message shows the line, which may have a secret.
        let invalid = |setting: &str, error: &toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let problem = format!("line {line}: {setting}{}", error.message());
            ConfigError::Content { path: path.to_owned(), problem }
        };
        let content = toml::Deserializer::parse(&text).map_err(|error| invalid("", &error))?;
        let mut config: Self = serde_path_to_error::deserialize(content)
            .map_err(|error| invalid(&format!("{}: ", error.path()), error.inner()))?;
        config.warn_if_readable(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        // The default stays relative to the working directory, as in the commands.
        if config.data != Self::default().data {
            config.data = folder.join(&config.data);
        }
        if let Some(tls) = &mut config.tls {
            tls.certificate = folder.join(&tls.certificate);
            tls.key = folder.join(&tls.key);
        }
        config.shipping.spool = config.shipping.spool.map(|spool| folder.join(spool));
        config.stages.folder = config.stages.folder.map(|stages| folder.join(stages));
        for destination in config.destinations.values_mut() {
            match destination {
                DestinationConfig::Directory { path } => *path = folder.join(&*path),
                DestinationConfig::S3(remote) | DestinationConfig::Oss(remote) => {
                    remote.ca = remote.ca.take().map(|ca| folder.join(ca));
                }
                DestinationConfig::Function(function) => {
                    function.ca = function.ca.take().map(|ca| folder.join(ca));
                }
            }
        }
        for file in config.receivers.values_mut().flat_map(ReceiverConfig::files) {
            *file = folder.join(&*file);
        }
        config.dead_letters.path = config.dead_letters.path.map(|path| folder.join(path));
        Ok(config)
    }

    /// Warns if other users can read a file with secrets. This is not an error, because secrets mounted by Kubernetes are
    /// readable by all users of the container.
    fn warn_if_readable(&self, path: &Path) {
        let has_secrets = self.receivers.values().any(ReceiverConfig::has_secret)
            || self.destinations.values().any(DestinationConfig::has_secret);
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if has_secrets && mode & 0o077 != 0 {
            let file = path.display();
            tracing::warn!(%file, "the settings have secrets, but other users can read them: run chmod 600 {file}");
        }
    }

    /// The destinations of rules: the configured ones and `default`.
    pub fn destinations(&self) -> BTreeMap<String, DestinationConfig> {
        let mut all = self.destinations.clone();
        let directory = || DestinationConfig::Directory { path: self.data.join("buckets") };
        all.entry(DEFAULT_DESTINATION.into()).or_insert_with(directory);
        all
    }

    /// Checks the ranges of values.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Limits {
            connections,
            group_bytes,
            bodies_bytes,
            idle_seconds,
            stall_seconds,
            consumer_groups,
            shards,
        } = self.limits.clone();
        let within = |name, value: u64, range: std::ops::RangeInclusive<u64>, allowed| {
            if range.contains(&value) { Ok(()) } else { Err(ConfigError::Range { name, value, allowed }) }
        };
        within("limits.connections", connections as u64, 1..=1 << 20, "1 to 1048576")?;
        within("limits.group-bytes", group_bytes as u64, 1 << 16..=64 << 20, "65536 to 67108864 (64 MiB)")?;
        let largest = self.limits.body_bytes() as u64;
        within("limits.bodies-bytes", bodies_bytes as u64, largest..=1 << 32, "group-bytes to 4294967296")?;
        within("limits.idle-seconds", idle_seconds, 1..=86_400, "1 to 86400")?;
        within("limits.stall-seconds", stall_seconds, 1..=3600, "1 to 3600")?;
        within("limits.consumer-groups", consumer_groups as u64, 1..=10_000, "1 to 10000")?;
        within("limits.shards", u64::from(shards), 1..=4096, "1 to 4096")?;
        let Shipping { workers, max_memory_bytes, retry_seconds, retry_for_seconds, .. } = self.shipping;
        let Shipping { longest_wait_seconds, keep_tasks_seconds, hold_after_tasks, .. } = self.shipping;
        within("shipping.workers", workers as u64, 0..=1024, "0 (one per core) to 1024")?;
        if max_memory_bytes != 0 {
            let (min, allowed) =
                (MIN_WORKER_MEMORY as u64, "134217728 (128 MiB) or more, or 0 for 256 MiB per worker");
            within("shipping.max-memory-bytes", max_memory_bytes as u64, min..=1 << 40, allowed)?;
        }
        let destinations = self.destinations();
        for (name, destination) in &destinations {
            if let DestinationConfig::Function(function) = destination {
                let invalid = |problem| ConfigError::Destination { name: name.clone(), problem };
                function.check(&destinations).map_err(invalid)?;
            }
        }
        within("shipping.hold-after-tasks", hold_after_tasks as u64, 1..=1000, "1 to 1000")?;
        let is_valid = |allowed: &str| {
            let digest = allowed.strip_prefix(DIGEST_PREFIX);
            digest.map_or_else(
                || is_name(allowed),
                |digest| is_digest(digest) && digest == digest.to_lowercase(),
            )
        };
        if let Some(invalid) = self.stages.allow_wasi.iter().find(|allowed| !is_valid(allowed)) {
            return Err(ConfigError::AllowWasi(invalid.clone()));
        }
        within("stages.watch-seconds", self.stages.watch_seconds, 0..=3600, "0 (never) to 3600")?;
        const YEAR: u64 = 366 * 86_400;
        within("shipping.retry-seconds", retry_seconds, 1..=86_400, "1 to 86400")?;
        within("shipping.retry-for-seconds", retry_for_seconds, 0..=YEAR, "0 to 31622400 (a year)")?;
        within("shipping.longest-wait-seconds", longest_wait_seconds, 1..=900, "1 to 900")?;
        within("shipping.keep-tasks-seconds", keep_tasks_seconds, 60..=YEAR, "60 to 31622400 (a year)")
    }
}

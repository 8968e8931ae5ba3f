//! The settings of the service: a TOML file; what the command line or the environment says comes before it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::stages::is_digest;
use crate::destination::DestinationConfig;
use crate::registry::{DIGEST, is_name};
use crate::rule::DEFAULT_DESTINATION;
use crate::shipping::settings::{LEAST_SHARE, Shipping};
use crate::siem::dead_letter::DeadLetterConfig;
use crate::siem::receiver::ReceiverConfig;

/// All settings. Every one has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The name that projects stand before: of `p.logs.example.org` the project is `p` in either case, but
    /// only with `domain = "logs.example.org"` has `logs.example.org` itself none.
    pub domain: Option<String>,
    /// TLS.
    pub tls: Option<Tls>,
    /// What requests may take.
    pub limits: Limits,
    /// Whether `/metrics` is for everybody. It names projects, logstores and groups.
    pub open_metrics: bool,
    /// How logs are shipped.
    pub shipping: Shipping,
    /// Where components of stages are put, and what they may import.
    pub stages: Stages,
    /// Where rules can ship to, by the names that they say. What they name without one is `default`: a directory,
    /// unless it is set here.
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// Who takes events, by the names that rules and commands say.
    pub receivers: BTreeMap<String, ReceiverConfig>,
    /// Where events are kept that a receiver refuses for good.
    pub dead_letters: DeadLetterConfig,
}

/// The certificate, and its private key, in PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File with the certificate, those of its issuers behind it.
    pub certificate: PathBuf,
    /// File with the private key.
    pub key: PathBuf,
}

/// Where components of stages are put, and what they may import.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stages {
    /// A changed NAME.wasm in this folder is a new version of NAME; by default `stages` in the data directory.
    pub folder: Option<PathBuf>,
    /// How often it is looked at, in seconds; 0: never.
    pub watch_seconds: u64,
    /// Stages that may import WASI, and get an empty one: names, and digests with `sha256:` in front.
    pub allow_wasi: Vec<String>,
}

impl Default for Stages {
    fn default() -> Self {
        Self { folder: None, watch_seconds: 2, allow_wasi: vec![] }
    }
}

/// What requests may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Bytes of a log group before compression.
    pub group_bytes: usize,
    /// Bytes of all bodies that are being received; of all that are unpacked; of all replies on their way.
    pub bodies_bytes: usize,
    /// Seconds that a connection may be idle between two requests. Clients keep theirs for long, and do not all
    /// try again when the one they are about to use is closed.
    pub idle_seconds: u64,
    /// Seconds that a client may take for a body, and for taking some of a reply.
    pub stall_seconds: u64,
    /// Consumer groups of a logstore.
    pub consumer_groups: usize,
    /// Shards of a logstore that can be written to.
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
    /// Bytes that a body may have on the wire: what can't be compressed grows a little.
    pub(crate) fn body_bytes(&self) -> usize {
        self.group_bytes + self.group_bytes / 255 + 64
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

/// Why the settings don't serve.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has something else than settings.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        problem: String,
    },
    /// A setting is out of its range.
    #[error("{name} = {value} is out of range: {allowed}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: u64,
        /// What it can be.
        allowed: &'static str,
    },
    /// A stage that WASI is allowed to can't be one.
    #[error(
        "stages.allow-wasi: {0:?} is neither the name of a stage nor `sha256:` and 64 hexadecimal digits"
    )]
    AllowWasi(String),
    /// A destination can't be one.
    #[error("destinations.{name}: {problem}")]
    Destination {
        /// Its name.
        name: String,
        /// Which setting is wrong, and why.
        problem: String,
    },
}

impl Config {
    /// Reads a file of settings. Paths in it are relative to it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        // The parser's message would show the line, which may be a secret's.
        let refused = |member: &str, error: &toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let problem = format!("line {line}: {member}{}", error.message());
            ConfigError::Content { path: path.to_owned(), problem }
        };
        let content = toml::Deserializer::parse(&text).map_err(|error| refused("", &error))?;
        let mut config: Self = serde_path_to_error::deserialize(content)
            .map_err(|error| refused(&format!("{}: ", error.path()), error.inner()))?;
        config.warn_of_readers(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        // The default is where the commands look for it: in the folder that one is in.
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

    /// A file with secrets is its owner's alone. Others are told of, and not refused: secrets that Kubernetes mounts
    /// are readable to all in the container.
    fn warn_of_readers(&self, path: &Path) {
        let has_secrets = self.receivers.values().any(ReceiverConfig::has_secret)
            || self.destinations.values().any(DestinationConfig::has_secret);
        let mode = std::fs::metadata(path).map_or(0, |facts| facts.permissions().mode());
        if has_secrets && mode & 0o077 != 0 {
            let file = path.display();
            tracing::warn!(%file, "the settings have secrets, and others can read them: chmod 600 {file}");
        }
    }

    /// Where rules can ship to: what is set, and the default.
    pub(crate) fn destinations(&self) -> BTreeMap<String, DestinationConfig> {
        let mut all = self.destinations.clone();
        let directory = || DestinationConfig::Directory { path: self.data.join("buckets") };
        all.entry(DEFAULT_DESTINATION.into()).or_insert_with(directory);
        all
    }

    /// Checks what the types don't.
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
        within(
            "limits.bodies-bytes",
            bodies_bytes as u64,
            largest..=1 << 32,
            "one group-bytes to 4294967296",
        )?;
        within("limits.idle-seconds", idle_seconds, 1..=86_400, "1 to 86400")?;
        within("limits.stall-seconds", stall_seconds, 1..=3600, "1 to 3600")?;
        within("limits.consumer-groups", consumer_groups as u64, 1..=10_000, "1 to 10000")?;
        within("limits.shards", u64::from(shards), 1..=4096, "1 to 4096")?;
        let Shipping { workers, max_memory_bytes, retry_seconds, retry_for_seconds, .. } = self.shipping;
        let Shipping { longest_wait_seconds, keep_tasks_seconds, hold_after_tasks, .. } = self.shipping;
        within("shipping.workers", workers as u64, 0..=1024, "0 (one a core) to 1024")?;
        if max_memory_bytes != 0 {
            let (least, allowed) =
                (LEAST_SHARE as u64, "134217728 (128 MiB) or more, or 0 for 256 MiB a worker");
            within("shipping.max-memory-bytes", max_memory_bytes as u64, least..=1 << 40, allowed)?;
        }
        let destinations = self.destinations();
        for (name, destination) in &destinations {
            if let DestinationConfig::Function(function) = destination {
                let wrong = |problem| ConfigError::Destination { name: name.clone(), problem };
                function.check(&destinations).map_err(wrong)?;
            }
        }
        within("shipping.hold-after-tasks", hold_after_tasks as u64, 1..=1000, "1 to 1000")?;
        let is_stage = |allowed: &str| {
            let digest = allowed.strip_prefix(DIGEST);
            digest.map_or_else(
                || is_name(allowed),
                |digest| is_digest(digest) && digest == digest.to_lowercase(),
            )
        };
        if let Some(other) = self.stages.allow_wasi.iter().find(|allowed| !is_stage(allowed)) {
            return Err(ConfigError::AllowWasi(other.clone()));
        }
        within("stages.watch-seconds", self.stages.watch_seconds, 0..=3600, "0 (never) to 3600")?;
        const YEAR: u64 = 366 * 86_400;
        within("shipping.retry-seconds", retry_seconds, 1..=86_400, "1 to 86400")?;
        within("shipping.retry-for-seconds", retry_for_seconds, 0..=YEAR, "0 to 31622400 (a year)")?;
        within("shipping.longest-wait-seconds", longest_wait_seconds, 1..=900, "1 to 900")?;
        within("shipping.keep-tasks-seconds", keep_tasks_seconds, 60..=YEAR, "60 to 31622400 (a year)")
    }
}

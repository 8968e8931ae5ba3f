use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connect::Connect;
use super::log::LogOptions;
use super::receiver_options::{FormatOptions, ReceiverOptions, ResolvedReceiver};
use super::signals::EndSignals;
use super::{EngineOptions, Failure, tokio_runtime};
use logship_delivery::events::Sent;
use logship_delivery::events::consumer::{Consumer, DeadLetterLocation};
use logship_delivery::events::member::Membership;
use logship_registry::Registry;
use logship_server::keys::Access;

/// Sends the logs of logstores to a SIEM, as a member of a consumer group.
///
/// Reads from a logship service or from Alibaba Cloud Log Service. Any number of processes on any machines share
/// the shards of a group. A checkpoint is saved only after the receiver has confirmed delivery. Failed requests are
/// retried. Events that the receiver rejects permanently become dead letters (logship deadletter).
///
///   logship consume --logstore audit --to https://splunk.example.org:8088 --format sourcetype=sls
///   logship consume --logstore audit --to tls://soc.example.org:6514 --set ca=ca.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_arg("security_token", |arg| arg.alias(None)))]
pub(super) struct ConsumeCommand {
    /// The logstores to read, separated by commas.
    #[arg(long, value_name = "NAMES", env = "SLS_LOGSTORE", value_delimiter = ',', required = true)]
    logstore: Vec<String>,
    /// The consumer group; created if missing.
    #[arg(long, value_name = "NAME", env = "SLS_CG", default_value = "logship")]
    group: String,
    /// Unique name of this consumer [default: GROUP-HOST-PID]
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Starting point of shards without a checkpoint: begin, end, or a time such as 2026-11-24T08:00:00Z.
    #[arg(long, value_name = "WHERE", default_value = "begin", value_parser = starting_point)]
    from: String,
    /// Exits after sending all logs that exist at the start.
    #[arg(long)]
    until_end: bool,
    /// Seconds between heartbeats. A consumer that misses two loses its shards.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    heartbeat: u64,
    /// Seconds between reads while few logs arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::engine_options::seconds)]
    fetch_interval: f64,
    /// Limits the logs in flight, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..=65536))]
    memory: u64,
    /// Directory of dead letters; used if --config has no dead-letter store [default: logship-dead-letters]
    #[arg(long, value_name = "DIR", env = "LOGSHIP_DEAD_LETTERS")]
    dead_letters: Option<PathBuf>,
    /// Serves Prometheus metrics at /metrics of this address.
    #[arg(long, value_name = "ADDRESS:PORT", env = "LOGSHIP_METRICS")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    receiver: ReceiverOptions,
    #[command(flatten)]
    format: FormatOptions,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    log: LogOptions,
}

/// The default directory of dead letters.
pub(super) const DEFAULT_FOLDER: &str = "logship-dead-letters";

/// Parses `--from` into the service's form: `begin`, `end` or a Unix time.
fn starting_point(text: &str) -> Result<String, String> {
    match text {
        "begin" | "end" => Ok(text.into()),
        time => match DateTime::parse_from_rfc3339(time) {
            Ok(time) => Ok(time.timestamp().to_string()),
            Err(error) => Err(format!("use begin, end, or a time such as 2026-11-24T08:00:00Z: {error}")),
        },
    }
}

impl ConsumeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.init()?;
        let runtime = tokio_runtime()?;
        let signals = runtime.block_on(async { EndSignals::catch() })?;
        let registry = Registry::new(engine.engine()?);
        let result = runtime.block_on(self.consume(&registry, signals));
        // Requests to an unresponsive receiver must not keep the process alive.
        runtime.shutdown_background();
        result
    }

    async fn consume(self, registry: &Registry, mut signals: EndSignals) -> Result<(), Failure> {
        let ResolvedReceiver { config, receiver, settings } = self.receiver.resolve()?;
        let dead_letters =
            DeadLetterLocation::resolve(self.dead_letters.as_deref(), &settings, DEFAULT_FOLDER);
        let stage = self.format.stage.as_deref().unwrap_or(config.stage());
        let dead_letters = dead_letters.open(&settings)?;
        let format = self.format.config()?;
        let (transforms, transport) =
            (self.format.transforms()?, logship_delivery::events::transport(&config));
        if let Some(address) = self.metrics {
            logship_server::metrics_endpoint::show_metrics(address, registry.engine().clone()).await?;
        }
        let consumer =
            Consumer::new(registry, receiver, transport, &transforms, stage, format, dead_letters)?
                .with_memory_budget((self.memory as usize) << 20);
        let client = self.connect.client(Access::Read)?;
        let name = self.consumer.clone().unwrap_or_else(|| unique_name(&self.group));
        let (stop, mut members) = (watch::Sender::new(false), JoinSet::new());
        for logstore in &self.logstore {
            let membership = Membership {
                logstore: logstore.clone(),
                group: self.group.clone(),
                consumer: name.clone(),
                heartbeat: Duration::from_secs(self.heartbeat),
                fetch: Duration::from_secs_f64(self.fetch_interval),
                from: self.from.clone(),
                until_end: self.until_end,
            };
            let member = consumer.member(client.clone(), &self.connect.project, membership);
            member.join().await.map_err(|error| format!("logstore {logstore}: {error}"))?;
            members.spawn(member.run(stop.subscribe()));
        }
        tracing::info!(group = self.group, consumer = name, logstores = self.logstore.join(","), "consuming");
        let mut panicked = false;
        while !members.is_empty() {
            tokio::select! {
                _ = signals.next() => { stop.send_replace(true); }
                Some(ended) = members.join_next() => if ended.is_err() {
                    // The others still deliver what they have in flight.
                    panicked = true;
                    stop.send_replace(true);
                }
            }
        }
        let sent = consumer.sent();
        tracing::info!("stopped: delivered {}", summary(sent));
        if panicked {
            return Err("a consumer panicked: start it again, and please report this bug of logship".into());
        }
        Ok(())
    }
}

/// Summarizes the delivered events for the log.
fn summary(sent: Sent) -> String {
    let Sent { messages, raw, dead, .. } = sent;
    let letters = match dead {
        0 => String::new(),
        1 => "; 1 was rejected permanently and is a dead letter".into(),
        dead => format!("; {} were rejected permanently and are dead letters", HumanCount(dead)),
    };
    format!("{} events of {} of logs{letters}", HumanCount(messages), HumanBytes(raw))
}

/// Returns a consumer name that is unique across machines and processes.
fn unique_name(group: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{group}-{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    #[test]
    fn parses_starting_points() {
        assert_eq!(super::starting_point("2026-11-24T08:00:00+08:00").unwrap(), "1795478400");
        assert!(super::starting_point("yesterday").unwrap_err().contains("use begin, end"));
    }
}

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use toml::Table;

use super::transform_options::TransformOptions;
use super::{Failure, settings};
use logship_config::receiver::ReceiverConfig;
use logship_config::rule::StageSpec;
use logship_config::service::Config;
use logship_sink::event::EventSink;
use logship_sink::open;

/// The receiver of events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Receiver")]
pub(super) struct ReceiverOptions {
    /// Sends to this URL: https://HOST:8088 or http://… for Splunk's HTTP Event Collector (several, separated by
    /// commas, share the load); tls://HOST:6514, tcp://HOST:514 or udp://HOST:514 for syslog.
    #[arg(long, value_name = "URL", env = "LOGSHIP_TO", required_unless_present = "receiver")]
    to: Option<String>,
    /// Token of Splunk's HTTP Event Collector.
    #[arg(long, value_name = "TOKEN", env = "SPLUNK_HEC_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Sends to this receiver of the --config file, instead of --to.
    #[arg(long, value_name = "NAME", conflicts_with = "to", requires = "config")]
    receiver: Option<String>,
    /// TOML file with the settings of receivers and of the dead-letter store.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides a setting of the receiver: --set acknowledge=true, --set ca=ca.pem. Repeatable.
    /// docs/settings.md lists all settings.
    #[arg(long, value_name = "SETTING=VALUE")]
    set: Vec<String>,
}

/// A receiver, with its configuration and the settings file.
pub(super) struct ResolvedReceiver {
    pub(super) config: ReceiverConfig,
    pub(super) receiver: Box<dyn EventSink>,
    /// The settings file, or the defaults.
    pub(super) settings: Config,
}

impl ReceiverOptions {
    /// Returns the settings of the file, or the defaults.
    pub(super) fn settings(&self) -> Result<Config, Failure> {
        settings::read(self.config.as_deref())
    }

    /// Returns the file of `--to file:PATH`. Only dead letters go to files.
    pub(super) fn file(&self) -> Option<&Path> {
        let path = self.to.as_deref()?.strip_prefix("file:")?;
        Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
    }

    /// Returns true for `--to table`. Only dead letters go to tables.
    pub(super) fn is_table(&self) -> bool {
        self.to.as_deref() == Some("table")
    }

    /// Resolves the options to a receiver.
    pub(super) fn resolve(&self) -> Result<ResolvedReceiver, Failure> {
        let settings = self.settings()?;
        let (name, mut table) = match (&self.receiver, &self.to) {
            (Some(name), _) => {
                let known = settings.receivers.get(name).ok_or_else(|| {
                    let known: Vec<_> = settings.receivers.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                    format!("the settings have no receiver {name:?}; known receivers: {known}")
                })?;
                (name.clone(), Table::try_from(known)?)
            }
            (None, Some(to)) => (without_credentials(to), settings_from_url(to)?),
            (None, None) => {
                return Err("give a receiver: --to URL, or --receiver NAME with --config FILE".into());
            }
        };
        if let Some(token) = self.token.as_ref().filter(|_| table["type"].as_str() == Some("hec")) {
            table.insert("token".into(), token.clone().into());
        }
        for set in &self.set {
            let (key, value) = key_value("--set", set)?;
            table.insert(key.into(), toml_value(value));
        }
        let config: ReceiverConfig =
            table.try_into().map_err(|error: toml::de::Error| format!("receiver: {}", error.message()))?;
        let receiver = open::event_sink(&name, &config).map_err(|error| hint(&error.to_string()))?;
        Ok(ResolvedReceiver { config, receiver, settings })
    }
}

fn hint(error: &str) -> String {
    match error {
        "receiver: token: is missing" => {
            format!("{error}: give --token, or SPLUNK_HEC_TOKEN in the environment")
        }
        other => other.into(),
    }
}

/// Returns a URL without its password, for logs.
fn without_credentials(to: &str) -> String {
    let names = to.split(',').map(|url| url.rsplit_once('@').map_or(url, |(_, host)| host));
    names.collect::<Vec<_>>().join(",")
}

/// Returns the settings of a receiver at a URL.
fn settings_from_url(to: &str) -> Result<Table, Failure> {
    let (scheme, rest) = to.split_once("://").unwrap_or(("", to));
    let mut table = Table::new();
    match scheme {
        "http" | "https" => {
            table.insert("type".into(), "hec".into());
            let urls: Vec<toml::Value> = to.split(',').map(|url| url.trim().into()).collect();
            table.insert("urls".into(), urls.into());
        }
        "udp" | "tcp" | "tls" => {
            let default_port = if scheme == "tls" { 6514 } else { 514 };
            let authority = rest.trim_end_matches('/');
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => {
                    let port: u16 = port.parse().map_err(|_| format!("--to {to}: {port:?} is not a port"))?;
                    (host, port)
                }
                _ => (authority, default_port),
            };
            table.insert("type".into(), "syslog".into());
            table.insert("protocol".into(), scheme.into());
            table.insert("host".into(), host.trim_matches(['[', ']']).into());
            table.insert("port".into(), i64::from(port).into());
        }
        _ => {
            return Err(format!(
                "--to {to}: unknown scheme: use https://, http://, tls://, tcp:// or udp://"
            )
            .into());
        }
    }
    Ok(table)
}

/// Splits `KEY=VALUE`.
pub(super) fn key_value<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| format!("{option} {text}: use {option} KEY=VALUE").into())
}

/// Parses a TOML value such as a number, a boolean or a list. Returns anything else as text.
fn toml_value(text: &str) -> toml::Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

/// The formatting stage and its configuration.
#[derive(Debug, Args)]
#[command(next_help_heading = "Format")]
pub(super) struct FormatOptions {
    /// Formats with this stage: built in (siem-hec, siem-syslog) or a component file [default: the receiver's stage]
    #[arg(long, value_name = "NAME|FILE", env = "LOGSHIP_STAGE")]
    pub(super) stage: Option<String>,
    /// Configures the stage: --format sourcetype=sls, --format 'json-fields={"topic":["event"]}'. Repeatable.
    /// Values are JSON, or else text; quote text of digits: 'procid="77"'. `logship stage inspect siem-hec` lists
    /// the settings.
    #[arg(long, value_name = "MEMBER=VALUE")]
    format: Vec<String>,
    /// Reads the stage's configuration from this JSON file. --format overrides it.
    #[arg(long, value_name = "FILE")]
    format_file: Option<PathBuf>,
    #[command(flatten)]
    transforms: TransformOptions,
}

impl FormatOptions {
    /// Returns the transformers that run before the stage.
    pub(super) fn transforms(&self) -> Result<Vec<StageSpec>, Failure> {
        let mut transforms = vec![];
        self.transforms.apply_to(&mut transforms)?;
        Ok(transforms)
    }

    /// Returns the stage's configuration.
    pub(super) fn config(&self) -> Result<Map<String, Value>, Failure> {
        let mut config = self.format_file.as_deref().map_or_else(|| Ok(Map::new()), read)?;
        for format in &self.format {
            let (field, value) = key_value("--format", format)?;
            // Values that are not JSON are text.
            let value = match serde_json::from_str(value) {
                Ok(value) => value,
                Err(_) => Value::from(value),
            };
            config.insert(field.into(), value);
        }
        Ok(config)
    }
}

fn read(file: &Path) -> Result<Map<String, Value>, Failure> {
    let failure = |error: &dyn std::fmt::Display| format!("--format-file {}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| failure(&error))?;
    Ok(serde_json::from_str(&text).map_err(|error| failure(&error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_receiver_urls() {
        let shown = |to: &str| {
            settings_from_url(to).map(|table| table.to_string()).unwrap_or_else(|error| error.to_string())
        };
        assert!(
            shown("https://a:8088,https://b:8088")
                .contains("urls = [\"https://a:8088\", \"https://b:8088\"]")
        );
        assert!(shown("tls://soc.example.org").contains("port = 6514"));
        assert!(shown("udp://[::1]:5514").contains("host = \"::1\"\nport = 5514"));
        assert!(shown("tcp://h:99999").contains("is not a port"));
        assert!(shown("splunk:8088").contains("unknown scheme"));
    }

    #[test]
    fn parses_values_as_toml_or_text() {
        assert_eq!(toml_value("true"), true.into());
        assert_eq!(toml_value("5"), 5.into());
        assert_eq!(toml_value("ca.pem"), "ca.pem".into());
        assert_eq!(toml_value("\"5\""), "5".into());
    }
}

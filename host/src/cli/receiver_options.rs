use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use toml::Table;

use super::Failure;
use super::transform_options::TransformOptions;
use crate::rule::Choice;
use crate::service::config::Config;
use crate::siem::receiver::{Receiver, ReceiverConfig};

/// Who takes events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Receiver")]
pub(super) struct ReceiverOptions {
    /// The receiver: https://HOST:8088 or http://… for Splunk's HTTP Event Collector (several, with commas, share the
    /// load), tls://HOST:6514, tcp://HOST:514 or udp://HOST:514 for syslog.
    #[arg(long, value_name = "URL", env = "LOGSHIP_TO", required_unless_present = "receiver")]
    to: Option<String>,
    /// The token of Splunk's HTTP Event Collector.
    #[arg(long, value_name = "TOKEN", env = "SPLUNK_HEC_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A receiver that the settings of --config name, in place of --to.
    #[arg(long, value_name = "NAME", conflicts_with = "to", requires = "config")]
    receiver: Option<String>,
    /// A file of settings (TOML): receivers, and where dead letters are kept.
    #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
    config: Option<PathBuf>,
    /// Changes a setting of the receiver: --set acknowledge=true, --set ca=ca.pem. docs/siem.md names them all.
    #[arg(long, value_name = "SETTING=VALUE")]
    set: Vec<String>,
}

/// A receiver, and the settings that it is of.
pub(super) struct Chosen {
    pub(super) config: ReceiverConfig,
    pub(super) receiver: Receiver,
    /// The file of settings, or the defaults.
    pub(super) settings: Config,
}

impl ReceiverOptions {
    /// The receiver that the options mean.
    pub(super) fn choose(&self) -> Result<Chosen, Failure> {
        let settings = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        let (name, mut table) = match (&self.receiver, &self.to) {
            (Some(name), _) => {
                let known = settings.receivers.get(name).ok_or_else(|| {
                    let known: Vec<_> = settings.receivers.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                    format!("the settings name no receiver {name:?}; there is {known}")
                })?;
                (name.clone(), Table::try_from(known)?)
            }
            (None, Some(to)) => (without_secrets(to), of_url(to)?),
            (None, None) => {
                return Err("give a receiver: --to URL, or --receiver NAME with --config FILE".into());
            }
        };
        if let Some(token) = self.token.as_ref().filter(|_| table["type"].as_str() == Some("hec")) {
            table.insert("token".into(), token.clone().into());
        }
        for set in &self.set {
            let (key, value) = pair("--set", set)?;
            table.insert(key.into(), toml_value(value));
        }
        let config: ReceiverConfig =
            table.try_into().map_err(|error: toml::de::Error| format!("receiver: {}", error.message()))?;
        let receiver = Receiver::new(&name, &config).map_err(|error| hint(&error.to_string()))?;
        Ok(Chosen { config, receiver, settings })
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

/// What a URL is called in logs: without a password.
fn without_secrets(to: &str) -> String {
    let names = to.split(',').map(|url| url.rsplit_once('@').map_or(url, |(_, host)| host));
    names.collect::<Vec<_>>().join(",")
}

/// The settings of a receiver at a URL.
fn of_url(to: &str) -> Result<Table, Failure> {
    let (scheme, rest) = to.split_once("://").unwrap_or(("", to));
    let mut table = Table::new();
    match scheme {
        "http" | "https" => {
            table.insert("type".into(), "hec".into());
            let urls: Vec<toml::Value> = to.split(',').map(|url| url.trim().into()).collect();
            table.insert("urls".into(), urls.into());
        }
        "udp" | "tcp" | "tls" => {
            let usual = if scheme == "tls" { 6514 } else { 514 };
            let authority = rest.trim_end_matches('/');
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => {
                    let port: u16 = port.parse().map_err(|_| format!("--to {to}: {port:?} is no port"))?;
                    (host, port)
                }
                _ => (authority, usual),
            };
            table.insert("type".into(), "syslog".into());
            table.insert("protocol".into(), scheme.into());
            table.insert("host".into(), host.trim_matches(['[', ']']).into());
            table.insert("port".into(), i64::from(port).into());
        }
        _ => {
            return Err(format!(
                "--to {to}: begins with none of https://, http://, tls://, tcp:// and udp://"
            )
            .into());
        }
    }
    Ok(table)
}

/// A key and a value.
pub(super) fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| format!("{option} {text}: has no =, as in {option} KEY=VALUE").into())
}

/// A number, a truth value or a list as TOML has them; anything else is text.
fn toml_value(text: &str) -> toml::Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

/// How a stage formats.
#[derive(Debug, Args)]
#[command(next_help_heading = "Format")]
pub(super) struct FormatOptions {
    /// The stage that formats: built in (siem-hec, siem-syslog), or a component's path [default: that of the receiver]
    #[arg(long, value_name = "NAME|FILE", env = "LOGSHIP_STAGE")]
    pub(super) stage: Option<String>,
    /// Configures the stage: --format sourcetype=sls, --format 'json-fields={"topic":["event"]}'. What is JSON is
    /// taken for that: text of digits stands in quotes, 'procid="77"'. `logship stage inspect siem-hec` tells what
    /// there is.
    #[arg(long, value_name = "MEMBER=VALUE")]
    format: Vec<String>,
    /// A file with the stage's configuration (JSON).
    #[arg(long, value_name = "FILE")]
    format_file: Option<PathBuf>,
    #[command(flatten)]
    transforms: TransformOptions,
}

impl FormatOptions {
    /// What transforms the logs before the stage formats them.
    pub(super) fn transforms(&self) -> Result<Vec<Choice>, Failure> {
        let mut transforms = vec![];
        self.transforms.over(&mut transforms)?;
        Ok(transforms)
    }

    /// The stage's configuration.
    pub(super) fn config(&self) -> Result<Map<String, Value>, Failure> {
        let mut config = self.format_file.as_deref().map_or_else(|| Ok(Map::new()), read)?;
        for format in &self.format {
            let (member, value) = pair("--format", format)?;
            // Text as a rule; what is JSON of another kind is that.
            let value = match serde_json::from_str(value) {
                Ok(value) => value,
                Err(_) => Value::from(value),
            };
            config.insert(member.into(), value);
        }
        Ok(config)
    }
}

fn read(file: &Path) -> Result<Map<String, Value>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| format!("--format-file {}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    Ok(serde_json::from_str(&text).map_err(|error| wrong(&error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_who_takes_events() {
        let shown =
            |to: &str| of_url(to).map(|table| table.to_string()).unwrap_or_else(|error| error.to_string());
        assert!(
            shown("https://a:8088,https://b:8088")
                .contains("urls = [\"https://a:8088\", \"https://b:8088\"]")
        );
        assert!(shown("tls://soc.example.org").contains("port = 6514"));
        assert!(shown("udp://[::1]:5514").contains("host = \"::1\"\nport = 5514"));
        assert!(shown("tcp://h:99999").contains("is no port"));
        assert!(shown("splunk:8088").contains("begins with none of"));
    }

    #[test]
    fn settings_are_what_they_look_like() {
        assert_eq!(toml_value("true"), true.into());
        assert_eq!(toml_value("5"), 5.into());
        assert_eq!(toml_value("ca.pem"), "ca.pem".into());
        assert_eq!(toml_value("\"5\""), "5".into());
    }
}

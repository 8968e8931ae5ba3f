//! The manifest of an application: `spin.toml`, manifest version 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::lines::Lines;
use crate::outbound::AllowedHost;

/// A manifest. Ignores keys that only Spin uses.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    #[serde(rename = "spin_manifest_version")]
    version: u32,
    /// The application's name and defaults.
    pub application: Application,
    /// The variables of the application, by name.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, Variable>,
    /// The triggers of the components.
    #[serde(default)]
    pub trigger: Triggers,
    /// The components, by name.
    #[serde(default)]
    pub component: BTreeMap<String, Component>,
    /// The manifest's folder, to which paths are relative.
    #[serde(skip)]
    folder: PathBuf,
    /// The manifest's text, for the lines of problems.
    #[serde(skip)]
    pub(crate) text: String,
}

/// An application's name and defaults.
#[derive(Debug, Deserialize)]
pub struct Application {
    /// The name.
    pub name: String,
    #[serde(default)]
    trigger: ApplicationTriggers,
}

#[derive(Debug, Default, Deserialize)]
struct ApplicationTriggers {
    redis: Option<RedisDefaults>,
}

#[derive(Debug, Deserialize)]
struct RedisDefaults {
    address: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Variable {
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

/// The triggers of an application.
#[derive(Debug, Default, Deserialize)]
pub struct Triggers {
    /// HTTP triggers.
    #[serde(default)]
    pub http: Vec<HttpTrigger>,
    /// Redis triggers.
    #[serde(default)]
    pub redis: Vec<RedisTrigger>,
}

/// A trigger for HTTP requests to a route.
#[derive(Debug, Deserialize)]
pub struct HttpTrigger {
    /// The route, such as `/v1/ship/:rule` or `/static/...`.
    pub route: String,
    /// The component's name.
    pub component: String,
}

/// A trigger for the messages of a Redis channel.
#[derive(Debug, Deserialize)]
pub struct RedisTrigger {
    /// The Redis server's address. The default is the application's.
    pub address: Option<String>,
    /// The channel.
    pub channel: String,
    /// The component's name.
    pub component: String,
}

/// A component.
#[derive(Debug, Deserialize)]
pub struct Component {
    /// The component's file.
    pub source: PathBuf,
    /// The hosts that the component may connect to.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// The component's variables, as templates with variables of the application.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// The dependencies that provide the imports, by the imports' names.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Dependency>,
}

/// A component file that provides an import.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with the path of a file: `{ path = \"…\" }`")]
pub struct Dependency {
    /// The file.
    pub path: PathBuf,
}

/// An invalid manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The file is not a valid manifest.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The error, with its position.
        source: Box<toml::de::Error>,
    },
    /// A value is invalid or not supported.
    #[error("{}{}: {problem}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
        /// The error, and its fix.
        problem: String,
    },
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Fails if the file can't be read, is not a manifest of version 2, or a trigger names an undefined component.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::File { path: path.to_owned(), source })?;
        let mut manifest: Self = toml::from_str(&text)
            .map_err(|source| ManifestError::Content { path: path.to_owned(), source: Box::new(source) })?;
        manifest.text = text;
        let lines = Lines::of(&manifest.text);
        let invalid = |setting: &[&str], problem: String| {
            let line = lines.line(setting);
            Err(ManifestError::Invalid { path: path.to_owned(), line, problem })
        };
        if manifest.version != 2 {
            let problem = format!("version {} is not supported: use version 2", manifest.version);
            return invalid(&["spin_manifest_version"], format!("spin_manifest_version: {problem}"));
        }
        for (kind, index, name) in manifest.callers() {
            if !manifest.component.contains_key(name) {
                let problem = format!(
                    "a trigger names the component {name:?}, which is not defined: add [component.{name}]"
                );
                return invalid(&["trigger", kind, &index.to_string(), "component"], problem);
            }
        }
        manifest.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(manifest)
    }

    /// Returns the triggers: their kind, their index in it, and the component's name.
    fn callers(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        let http = self.trigger.http.iter().map(|trigger| trigger.component.as_str());
        let redis = self.trigger.redis.iter().map(|trigger| trigger.component.as_str());
        let numbered = |kind| move |(index, name)| (kind, index, name);
        http.enumerate().map(numbered("http")).chain(redis.enumerate().map(numbered("redis")))
    }

    /// Returns the components with a trigger, each once.
    pub fn triggered_components(&self) -> impl Iterator<Item = (&str, &Component)> {
        let names: std::collections::BTreeSet<_> = self.callers().map(|(_, _, name)| name).collect();
        names.into_iter().filter_map(|name| Some((name, self.component.get(name)?)))
    }

    /// Resolves a path in the manifest.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Returns the values of a component's variables. `overrides` returns values of the application's variables from
    /// the command line or the environment.
    ///
    /// # Errors
    /// Fails if a required variable has no value, or a template names an undefined variable.
    pub fn variables(
        &self,
        component: &Component,
        overrides: impl Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let values = self.each_variable(component, &overrides);
        values.map(|(name, value)| Ok((name.to_owned(), value?))).collect()
    }

    /// Returns each of a component's variables with its value, or its problem.
    pub(crate) fn each_variable<'a>(
        &'a self,
        component: &'a Component,
        overrides: &'a impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = (&'a str, Result<String, String>)> {
        let value = move |name: &str| self.value(name, overrides);
        component.variables.iter().map(move |(name, template)| (name.as_str(), render(template, value)))
    }

    /// Returns each entry of a component's allowed hosts with the host, or its problem.
    pub(crate) fn each_host<'a>(
        &'a self,
        component: &'a Component,
        overrides: &'a impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = (&'a str, Result<AllowedHost, String>)> {
        component.allowed_outbound_hosts.iter().map(move |entry| {
            let host = render(entry, |name| self.value(name, overrides)).and_then(|host| {
                AllowedHost::parse(&host).ok_or_else(|| {
                    let scheme = if host.contains("://") { "is invalid" } else { "has no scheme" };
                    format!(
                        "allowed_outbound_hosts: {host:?} {scheme}: use scheme://host:port, such as https://*.example.org or http://127.0.0.1:9000"
                    )
                })
            });
            (entry.as_str(), host)
        })
    }

    /// Returns the hosts that a component may connect to. Entries are templates.
    ///
    /// # Errors
    /// Fails if an entry is invalid, or a variable has no value.
    pub fn allowed_hosts(
        &self,
        component: &Component,
        overrides: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<AllowedHost>, String> {
        self.each_host(component, &overrides).map(|(_, host)| host).collect()
    }

    /// Returns a Redis trigger's server address and channel. Both are templates.
    ///
    /// # Errors
    /// Fails if the address is missing, or a variable has no value.
    pub fn redis(
        &self,
        trigger: &RedisTrigger,
        overrides: impl Fn(&str) -> Option<String>,
    ) -> Result<(String, String), String> {
        let default = self.application.trigger.redis.as_ref().map(|redis| redis.address.as_str());
        let address = trigger.address.as_deref().or(default).ok_or_else(|| {
            format!(
                "the Redis trigger of channel {:?} has no address: set `address` in the trigger or in [application.trigger.redis]",
                trigger.channel
            )
        })?;
        let value = |name: &str| self.value(name, &overrides);
        Ok((render(address, value)?, render(&trigger.channel, value)?))
    }

    /// Returns the value of an application variable.
    fn value(&self, name: &str, overrides: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let variable =
            self.variables.get(name).ok_or(format!("the variable {name:?} is not defined in [variables]"))?;
        match (overrides(name), &variable.default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) if variable.required => Err(format!(
                "the variable {name} is required: set SPIN_VARIABLE_{}=… or --variable {name}=…",
                name.to_uppercase()
            )),
            (None, None) => {
                Err(format!("the variable {name} has no value: set `default` or `required` in [variables]"))
            }
        }
    }
}

/// Replaces each `{{ name }}` in a template with its value.
fn render(template: &str, value: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let (mut rendered, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").ok_or(format!("{template:?} has {{{{ without a closing }}}}"))?;
        rendered.push_str(before);
        rendered.push_str(&value(name.trim())?);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_templates() {
        let value = |name: &str| if name == "a" { Ok("1".to_owned()) } else { Err(format!("no {name}")) };
        assert_eq!(render("x{{ a }}y{{a}}", value), Ok("x1y1".into()));
        assert_eq!(render("{{ b }}", value), Err("no b".into()));
        assert!(render("{{ a", value).is_err());
        // Values are not rendered again.
        assert_eq!(render("{{ a }}", |_| Ok("{{ b }}".into())), Ok("{{ b }}".into()));
    }
}

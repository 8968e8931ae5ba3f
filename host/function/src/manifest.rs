//! An application, as `spin.toml` has it (version 2 of that format).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::outbound::Allowed;

/// An application. What is not read here, only Spin knows of.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    #[serde(rename = "spin_manifest_version")]
    version: u32,
    /// What it is.
    pub application: Application,
    /// The variables of the application, by name.
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    /// What calls its components.
    #[serde(default)]
    pub trigger: Triggers,
    /// Its components, by name.
    #[serde(default)]
    pub component: BTreeMap<String, Component>,
    /// The folder of the file: paths are relative to it.
    #[serde(skip)]
    folder: PathBuf,
}

/// What an application is.
#[derive(Debug, Deserialize)]
pub struct Application {
    /// Its name.
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
struct Variable {
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

/// What calls the components.
#[derive(Debug, Default, Deserialize)]
pub struct Triggers {
    /// Requests.
    #[serde(default)]
    pub http: Vec<HttpTrigger>,
    /// Messages.
    #[serde(default)]
    pub redis: Vec<RedisTrigger>,
}

/// Requests to paths.
#[derive(Debug, Deserialize)]
pub struct HttpTrigger {
    /// `/v1/ship/:rule`, `/static/...`.
    pub route: String,
    /// The component's name.
    pub component: String,
}

/// Messages of a channel.
#[derive(Debug, Deserialize)]
pub struct RedisTrigger {
    /// Where the server is; none: as the application says.
    pub address: Option<String>,
    /// The channel.
    pub channel: String,
    /// The component's name.
    pub component: String,
}

/// A component.
#[derive(Debug, Deserialize)]
pub struct Component {
    /// Its file.
    pub source: PathBuf,
    /// The hosts that it may reach.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// Its variables: templates of those of the application.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// What serves its imports, by their names.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Dependency>,
}

/// What serves an import: a component file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The file.
    pub path: PathBuf,
}

/// Why an application can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no application.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// Something in it doesn't serve.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, and what would be right.
        problem: String,
    },
}

impl Manifest {
    /// Reads an application.
    ///
    /// # Errors
    /// When the file can't be read, or is no application of version 2 whose triggers name its components.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::File { path: path.to_owned(), source })?;
        let mut manifest: Self = toml::from_str(&text)
            .map_err(|source| ManifestError::Content { path: path.to_owned(), source: Box::new(source) })?;
        let wrong = |problem: String| Err(ManifestError::Wrong { path: path.to_owned(), problem });
        if manifest.version != 2 {
            return wrong(format!("spin_manifest_version is {}, and this reads 2", manifest.version));
        }
        let http = manifest.trigger.http.iter().map(|trigger| &trigger.component);
        let redis = manifest.trigger.redis.iter().map(|trigger| &trigger.component);
        if let Some(missing) = http.chain(redis).find(|name| !manifest.component.contains_key(*name)) {
            return wrong(format!(
                "a trigger calls the component {missing:?}, and there is no [component.{missing}]"
            ));
        }
        manifest.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(manifest)
    }

    /// The components that a trigger calls, each once.
    pub fn called(&self) -> impl Iterator<Item = (&str, &Component)> {
        let http = self.trigger.http.iter().map(|trigger| trigger.component.as_str());
        let redis = self.trigger.redis.iter().map(|trigger| trigger.component.as_str());
        let names: std::collections::BTreeSet<_> = http.chain(redis).collect();
        names.into_iter().filter_map(|name| Some((name, self.component.get(name)?)))
    }

    /// A file that it names.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The values of a component's variables. `given` has those of the application that somebody gives: from the
    /// environment, from the command line.
    ///
    /// # Errors
    /// The name of one that is required and not given, or that is not there.
    pub fn variables(
        &self,
        component: &Component,
        given: impl Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let value = |name: &str| self.value(name, &given);
        let filled =
            component.variables.iter().map(|(name, template)| Ok((name.clone(), fill(template, value)?)));
        filled.collect()
    }

    /// The hosts that a component may reach. They may have variables in them.
    ///
    /// # Errors
    /// The entry that is none, or a variable that has no value.
    pub fn outbound(
        &self,
        component: &Component,
        given: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<Allowed>, String> {
        let read = |entry: &String| {
            let host = fill(entry, |name| self.value(name, &given))?;
            Allowed::read(&host).ok_or_else(|| {
                format!(
                    "allowed_outbound_hosts: {host:?} is none: say scheme://host:port, such as https://*.example.org or http://127.0.0.1:9000"
                )
            })
        };
        component.allowed_outbound_hosts.iter().map(read).collect()
    }

    /// Where the server of a Redis trigger is, and its channel there. Both may have variables in them.
    ///
    /// # Errors
    /// When there is no address, or a variable has no value.
    pub fn redis(
        &self,
        trigger: &RedisTrigger,
        given: impl Fn(&str) -> Option<String>,
    ) -> Result<(String, String), String> {
        let default = self.application.trigger.redis.as_ref().map(|redis| redis.address.as_str());
        let address = trigger.address.as_deref().or(default).ok_or_else(|| {
            format!(
                "the Redis trigger of {:?} has no address: say one in it, or in [application.trigger.redis]",
                trigger.channel
            )
        })?;
        let value = |name: &str| self.value(name, &given);
        Ok((fill(address, value)?, fill(&trigger.channel, value)?))
    }

    /// The value of a variable of the application.
    fn value(&self, name: &str, given: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let variable =
            self.variables.get(name).ok_or(format!("there is no variable {name:?} in [variables]"))?;
        match (given(name), &variable.default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) if variable.required => Err(format!(
                "the variable {name} is required: say SPIN_VARIABLE_{}=… or --variable {name}=…",
                name.to_uppercase()
            )),
            (None, None) => Err(format!("the variable {name} has neither `default` nor `required`")),
        }
    }
}

/// A template, with `{{ name }}` replaced by values.
fn fill(template: &str, value: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, behind) = behind.split_once("}}").ok_or(format!("{template:?} has {{{{ without }}}}"))?;
        filled.push_str(before);
        filled.push_str(&value(name.trim())?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let value = |name: &str| if name == "a" { Ok("1".to_owned()) } else { Err(format!("no {name}")) };
        assert_eq!(fill("x{{ a }}y{{a}}", value), Ok("x1y1".into()));
        assert_eq!(fill("{{ b }}", value), Err("no b".into()));
        assert!(fill("{{ a", value).is_err());
        // A value is no template.
        assert_eq!(fill("{{ a }}", |_| Ok("{{ b }}".into())), Ok("{{ b }}".into()));
    }
}

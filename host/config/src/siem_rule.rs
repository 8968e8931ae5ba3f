//! Rules that send a logstore to a SIEM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::limit::{NAME_LENGTH, TRANSFORMERS};
use crate::rule::{RuleError, StageSpec, Start, check_name, check_transforms};
use crate::schema::StageSpecSchema;
use crate::stage_name::ComponentDigest;

/// The target type of these rules.
pub const SIEM: &str = "siem";

/// A rule that sends a Logstore's logs as events to a receiver.
///
/// The service's settings define the receiver, so rules contain no tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "receiver"]))]
pub struct SiemRule {
    /// The name: lowercase letters, digits, `-` and `_`, with a letter or digit at both ends. Names of deleted rules
    /// can't be reused.
    #[schemars(length(min = NAME_LENGTH.min, max = NAME_LENGTH.max))]
    pub name: String,
    /// The Logstore that the rule sends. Required by `logship rule apply`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The name of a receiver in the service's settings.
    pub receiver: String,
    /// The transformers that run before the formatter, in order: stages by name, version or digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>", length(max = TRANSFORMERS.max))]
    pub transform: Vec<StageSpec>,
    /// The formatter. Default: the receiver's, `siem-hec` or `siem-syslog`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The settings of the formatter: `logship stage inspect siem-hec` lists them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub format: Map<String, Value>,
    /// True if the rule sends logs.
    pub enabled: bool,
    /// The first logs that a new rule sends.
    pub from: Start,
}

impl Default for SiemRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            logstore: String::new(),
            receiver: String::new(),
            transform: vec![],
            stage: None,
            format: Map::new(),
            enabled: true,
            from: Start::default(),
        }
    }
}

/// The wire form of the rule, as Log Service's clients set it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    receiver: String,
    #[serde(default)]
    transform: Vec<StageSpec>,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    format: Map<String, Value>,
    #[serde(default = "default_true")]
    enable: bool,
    #[serde(default)]
    from: Start,
}

fn default_true() -> bool {
    true
}

impl SiemRule {
    /// Parses and checks the wire form of a rule.
    ///
    /// # Errors
    /// [`RuleError::Field`], if the configuration is invalid; the error names the field.
    pub fn of(name: &str, configuration: &Value) -> Result<Self, RuleError> {
        let wrong = |error: &dyn std::fmt::Display| RuleError::field("targetConfiguration", error);
        let parsed: Configuration =
            serde_path_to_error::deserialize(configuration).map_err(|error| wrong(&error))?;
        let Configuration { receiver, transform, stage, format, enable, from } = parsed;
        let rule = Self {
            name: name.into(),
            logstore: String::new(),
            receiver,
            transform,
            stage,
            format,
            enabled: enable,
            from,
        };
        rule.check()?;
        Ok(rule)
    }

    /// Returns the wire form of the rule.
    pub fn configuration(&self) -> Value {
        let mut set = json!({ "receiver": self.receiver, "enable": self.enabled, "from": self.from });
        if !self.transform.is_empty() {
            set["transform"] = json!(self.transform);
        }
        if let Some(stage) = &self.stage {
            set["stage"] = stage.clone().into();
        }
        if !self.format.is_empty() {
            set["format"] = self.format.clone().into();
        }
        set
    }

    /// Returns the components that the rule pins by digest.
    pub fn pinned_components(&self) -> impl Iterator<Item = ComponentDigest> {
        let names = self.stage.iter().chain(self.transform.iter().map(|transform| &transform.name));
        names.filter_map(|name| ComponentDigest::pinned_by(name))
    }

    /// Checks the rule without the service.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first invalid field.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        if self.receiver.is_empty() {
            return Err(RuleError::field(
                "receiver",
                "is missing: name a receiver of the service's settings",
            ));
        }
        check_transforms(&self.transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_round_trips_through_configuration() {
        let rule = SiemRule {
            name: "soc".into(),
            receiver: "splunk".into(),
            transform: vec![
                StageSpec::named("mine"),
                serde_json::from_value(json!({ "type": "fields", "drop": ["a"] })).unwrap(),
            ],
            format: Map::from_iter([("index".to_owned(), "audit".into())]),
            from: Start::Now,
            ..SiemRule::default()
        };
        assert_eq!(SiemRule::of("soc", &rule.configuration()).unwrap(), rule);
        let error = SiemRule::of("soc", &json!({ "receiver": "s", "token": "x" })).unwrap_err().to_string();
        assert!(error.contains("token"), "{error}");
        let error = SiemRule::of("soc", &json!({ "receiver": "" })).unwrap_err().to_string();
        assert!(error.contains("receiver: is missing"), "{error}");
    }
}

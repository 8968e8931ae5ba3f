//! Rules that send a logstore to a SIEM.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::rule::{Choice, RuleError, Start, check_name};
use crate::transforms;

/// The target type of these rules.
pub const SIEM: &str = "siem";

/// A rule that sends a logstore to a receiver, which the service's settings name: a token is none of a rule's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiemRule {
    /// Its name.
    pub name: String,
    /// The logstore.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logstore: String,
    /// The receiver: a name out of the service's settings.
    pub receiver: String,
    /// What transforms the logs before they are formatted, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transform: Vec<Choice>,
    /// The stage that formats; by default that of the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The configuration of the stage.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub format: Map<String, Value>,
    /// Whether it sends.
    pub enabled: bool,
    /// What logs a new rule begins with.
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

/// The rule as Log Service's clients set it: the members of its configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    receiver: String,
    #[serde(default)]
    transform: Vec<Choice>,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    format: Map<String, Value>,
    #[serde(default = "yes")]
    enable: bool,
    #[serde(default)]
    from: Start,
}

fn yes() -> bool {
    true
}

impl SiemRule {
    /// The rule of a configuration.
    ///
    /// # Errors
    /// When it is not one, with the member that is wrong.
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

    /// Its configuration.
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

    /// Checks what can be checked without the service.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first field that is wrong.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        if self.receiver.is_empty() {
            return Err(RuleError::field("receiver", "is missing: a name out of the service's settings"));
        }
        transforms::check(&self.transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_what_its_configuration_says() {
        let rule = SiemRule {
            name: "soc".into(),
            receiver: "splunk".into(),
            transform: vec![
                Choice::named("mine"),
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

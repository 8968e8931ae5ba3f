//! Policies of access keys, in the language of Alibaba Cloud's Resource Access Management (RAM).

mod pattern;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The largest policy, in bytes of JSON without white space.
pub const MAX_POLICY_BYTES: usize = 16 << 10;

/// Why a policy is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("invalid policy: {0}")]
pub struct PolicyError(pub String);

/// A policy: the only permissions of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    /// The version of the policy language: `1`.
    version: String,
    /// The statements. A `Deny` overrides every `Allow`, and without an `Allow` nothing is allowed.
    statement: Vec<Statement>,
}

/// A statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// The effect.
    effect: Effect,
    /// The actions, such as `log:GetCursorOrData` or `log:Get*`. Case does not matter.
    action: Vec<String>,
    /// The resources, such as `acs:log:*:*:project/web/*`. Regions and accounts don't matter.
    resource: Vec<String>,
}

/// The effect of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// Allows the actions.
    Allow,
    /// Forbids the actions.
    Deny,
}

/// The decision of a policy about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The action is allowed.
    Allowed,
    /// No statement allows the action.
    NotAllowed,
    /// A statement forbids the action: its number, from 1.
    Denied(usize),
}

/// The elements of a policy, before they are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawPolicy {
    version: String,
    statement: Vec<RawStatement>,
}

/// The elements of a statement, before they are checked. Unsupported ones get an error of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawStatement {
    effect: Effect,
    #[serde(default, deserialize_with = "one_or_many")]
    action: Option<Vec<String>>,
    #[serde(default, deserialize_with = "one_or_many")]
    resource: Option<Vec<String>>,
    condition: Option<Value>,
    not_action: Option<Value>,
    not_resource: Option<Value>,
    principal: Option<Value>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(list) => list,
    }))
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawPolicy::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl TryFrom<RawPolicy> for Policy {
    type Error = String;

    fn try_from(raw: RawPolicy) -> Result<Self, String> {
        if raw.version != "1" {
            return Err(format!("Version is {:?}: use \"1\"", raw.version));
        }
        if raw.statement.is_empty() {
            return Err("Statement is empty: the key could do nothing".into());
        }
        let statements = raw.statement.into_iter().zip(1..).map(|(statement, number)| {
            Statement::try_from(statement).map_err(|problem| format!("statement {number}: {problem}"))
        });
        let policy = Self { version: raw.version, statement: statements.collect::<Result<_, _>>()? };
        let size = policy.to_json().to_string().len();
        if size > MAX_POLICY_BYTES {
            return Err(format!("it has {size} bytes without white space: the limit is {MAX_POLICY_BYTES}"));
        }
        Ok(policy)
    }
}

impl TryFrom<RawStatement> for Statement {
    type Error = String;

    fn try_from(raw: RawStatement) -> Result<Self, String> {
        if let Some(condition) = &raw.condition {
            return Err(format!(
                "conditions are not supported ({}): remove Condition, or the key would have more access than it says",
                condition_names(condition)
            ));
        }
        let unsupported = [
            (
                "NotAction",
                raw.not_action.is_some(),
                "list the actions in Action, and use Deny for exceptions",
            ),
            (
                "NotResource",
                raw.not_resource.is_some(),
                "list the resources in Resource, and use Deny for exceptions",
            ),
            ("Principal", raw.principal.is_some(), "the key is the principal, so remove it"),
        ];
        if let Some((name, _, advice)) = unsupported.into_iter().find(|(_, is_set, _)| *is_set) {
            return Err(format!("{name} is not supported: {advice}"));
        }
        let filled = |name: &str, list: Option<Vec<String>>| match list {
            None => Err(format!("{name} is missing")),
            Some(list) if list.is_empty() => Err(format!("{name} is an empty list")),
            Some(list) => Ok(list),
        };
        let (action, resource) = (filled("Action", raw.action)?, filled("Resource", raw.resource)?);
        action.iter().try_for_each(|pattern| pattern::check_action(pattern))?;
        resource.iter().try_for_each(|pattern| pattern::check_resource(pattern))?;
        Ok(Self { effect: raw.effect, action, resource })
    }
}

/// Returns the operators and keys of a condition, as in `IpAddress acs:SourceIp`.
fn condition_names(condition: &Value) -> String {
    let Some(operators) = condition.as_object() else { return condition.to_string() };
    let keys = |keys: &Value| {
        keys.as_object().map_or(String::new(), |keys| keys.keys().cloned().collect::<Vec<_>>().join(" "))
    };
    let names: Vec<_> = operators
        .iter()
        .map(|(operator, names)| format!("{operator} {}", keys(names)).trim_end().to_owned())
        .collect();
    names.join(", ")
}

impl Statement {
    fn covers(&self, actions: &[&str], paths: &[String]) -> bool {
        let has_resource =
            |path: &String| self.resource.iter().any(|pattern| pattern::matches_resource(pattern, path));
        self.has_action(actions) && paths.iter().any(has_resource)
    }

    fn has_action(&self, actions: &[&str]) -> bool {
        let matches =
            |pattern: &String| actions.iter().any(|action| pattern::matches_action(pattern, action));
        self.action.iter().any(matches)
    }
}

impl Policy {
    /// Parses the JSON of a policy. The names of actions are not checked.
    ///
    /// # Errors
    /// The first element that is invalid or not supported, by its name.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        let parsed = serde_json::from_str(json.trim_start_matches('\u{feff}'));
        parsed.map_err(|error| PolicyError(error.to_string()))
    }

    /// Returns the policy as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Decides about an action. `actions` are its names, and `paths` the paths of its resource, such as
    /// `project/web/logstore/access`: a statement covers it if it has any of both.
    pub fn decide(&self, actions: &[&str], paths: &[String]) -> Decision {
        let find = |effect| {
            let is_found =
                |statement: &Statement| statement.effect == effect && statement.covers(actions, paths);
            self.statement.iter().position(is_found)
        };
        match find(Effect::Deny) {
            Some(index) => Decision::Denied(index + 1),
            None if find(Effect::Allow).is_some() => Decision::Allowed,
            None => Decision::NotAllowed,
        }
    }

    /// Returns true if the policy allows an action for some resource.
    pub fn may_allow(&self, actions: &[&str]) -> bool {
        self.statement
            .iter()
            .any(|statement| statement.effect == Effect::Allow && statement.has_action(actions))
    }

    /// Returns the patterns of actions.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.statement.iter().flat_map(|statement| &statement.action).map(String::as_str)
    }

    /// Returns true if a pattern of actions matches an action.
    pub fn names(pattern: &str, action: &str) -> bool {
        pattern::matches_action(pattern, action)
    }
}

#[cfg(test)]
mod tests;

//! Scopes of destinations and receivers: which rules may use them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::matches;

/// The rules that may use a destination or a receiver. An unset list allows everything.
///
/// A trailing `*` of an entry stands for any rest. `{project}` stands for the rule's project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scope {
    /// The projects whose rules may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// The buckets. Not for receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<String>>,
    /// The prefixes of a rule's `prefix`. An entry without `*` allows itself, and what is below it after a `/`. Not for
    /// receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<String>>,
    /// The roles that a rule may name. A rule without a role is always allowed. Not for receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

impl Scope {
    /// Returns true if rules of a project may use it.
    pub fn allows_project(&self, project: &str) -> bool {
        allows(self.projects.as_deref(), project, project)
    }

    /// Returns true if a rule may use a bucket.
    pub fn allows_bucket(&self, project: &str, bucket: &str) -> bool {
        allows(self.buckets.as_deref(), project, bucket)
    }

    /// Returns true if a rule may use a prefix of keys.
    pub fn allows_prefix(&self, project: &str, prefix: &str) -> bool {
        let is_below = |allowed: &str| {
            let folder = allowed.trim_end_matches('/');
            // A folder that leads out of itself may be another one in a directory.
            let rest = prefix.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            rest.is_some_and(|rest| rest.split('/').all(|part| part != ".."))
        };
        self.prefixes.as_deref().is_none_or(|all| {
            all.iter().map(|pattern| in_project(pattern, project)).any(|pattern| {
                if pattern.ends_with('*') { matches(&pattern, prefix) } else { is_below(&pattern) }
            })
        })
    }

    /// Returns true if a rule may name a role. An empty one is none.
    pub fn allows_role(&self, project: &str, role: &str) -> bool {
        role.is_empty() || allows(self.roles.as_deref(), project, role)
    }
}

fn allows(patterns: Option<&[String]>, project: &str, text: &str) -> bool {
    patterns.is_none_or(|all| all.iter().any(|pattern| matches(&in_project(pattern, project), text)))
}

fn in_project(pattern: &str, project: &str) -> String {
    pattern.replace("{project}", project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn unset_lists_allow_everything_and_empty_ones_nothing() {
        let open = Scope::default();
        assert!(open.allows_project("p") && open.allows_bucket("p", "b") && open.allows_prefix("p", ""));
        assert!(open.allows_role("p", "r"));
        let closed = scope("projects = []\nbuckets = []\nprefixes = []\nroles = []");
        assert!(
            !closed.allows_project("p") && !closed.allows_bucket("p", "b") && !closed.allows_prefix("p", "")
        );
        assert!(!closed.allows_role("p", "r") && closed.allows_role("p", ""));
    }

    #[test]
    fn patterns_match_beginnings_and_projects() {
        let scope = scope("projects = ['web', 'shop-*']\nbuckets = ['logs-{project}']\nroles = ['arn:*']");
        assert!(scope.allows_project("web") && scope.allows_project("shop-1"));
        assert!(!scope.allows_project("web2") && !scope.allows_project("shop"));
        assert!(scope.allows_bucket("web", "logs-web") && !scope.allows_bucket("web", "logs-shop"));
        assert!(scope.allows_role("web", "arn:aws:iam::1:role/x") && !scope.allows_role("web", "other"));
    }

    #[test]
    fn prefixes_are_folders() {
        let scope = scope("prefixes = ['{project}/', 'shared']");
        for allowed in ["web", "web/", "web/a/b", "shared/x", "shared"] {
            assert!(scope.allows_prefix("web", allowed), "{allowed}");
        }
        for refused in ["", "we", "web2", "web2/", "/web", "shared2", "web/../shop", "web/.."] {
            assert!(!scope.allows_prefix("web", refused), "{refused}");
        }
    }
}

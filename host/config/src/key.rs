//! Access keys and their grants.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::toml_problem;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::secret::Secret;

/// The access of a key to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Write logs, but not read them: a shipper of logs need not see those of others.
    Write,
    /// Read logs and manage consumer groups, but not write logs.
    Read,
    /// Both `write` and `read`.
    ReadWrite,
    /// Everything, including create and delete.
    Admin,
}

impl Access {
    /// Returns true if this access includes `needed`.
    pub fn allows(self, needed: Self) -> bool {
        match self {
            Self::Write | Self::Read => self == needed,
            Self::ReadWrite => needed != Self::Admin,
            Self::Admin => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::ReadWrite => "readwrite",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Write, Self::Read, Self::ReadWrite, Self::Admin];
        let found = all.into_iter().find(|access| access.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("unknown access {text:?}: use write, read, readwrite or admin"))
    }
}

/// The access of a key to one project or to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The project's name, or `*` for all current and future projects.
    pub project: String,
    /// The access to the project.
    pub access: Access,
}

/// The consumer groups of a project that a key may use. As text: `PROJECT/GROUP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct GroupGrant {
    /// The project's name, or `*` for all projects.
    pub project: String,
    /// The group's name. A trailing `*` stands for any rest.
    pub group: String,
}

impl GroupGrant {
    /// Returns true if the grant includes a group.
    pub fn includes(&self, project: &str, group: &str) -> bool {
        (self.project == "*" || self.project == project) && matches(&self.group, group)
    }
}

/// Returns true if a text matches a pattern, whose trailing `*` stands for any rest.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => text.starts_with(begin),
        None => text == pattern,
    }
}

impl FromStr for GroupGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((project, group)) if !project.is_empty() && !group.is_empty() && !group.contains('/') => {
                Ok(Self { project: project.into(), group: group.into() })
            }
            _ => Err(format!(
                "{text:?} is not PROJECT/GROUP: use a project or *, and a group or the begin of its name with *"
            )),
        }
    }
}

impl TryFrom<String> for GroupGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<GroupGrant> for String {
    fn from(GroupGrant { project, group }: GroupGrant) -> Self {
        format!("{project}/{group}")
    }
}

impl fmt::Display for GroupGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, group } = self;
        write!(formatter, "{project}/{group}")
    }
}

/// An access key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The public ID.
    pub id: String,
    /// The secret.
    pub secret: Secret,
    /// The security token that requests must send too. Temporary keys only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The time of creation, in Unix seconds.
    pub created: u64,
    /// The time of expiry, in Unix seconds. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// The purpose of the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The consumer groups that the key may use besides those that it created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupGrant>,
    /// The grants.
    #[serde(rename = "grant", default)]
    pub grants: Vec<Grant>,
    /// The policy, instead of grants and groups: the key has no other permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The quota. Default: `quota` in the service's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

impl Key {
    /// Returns true if a grant allows this access to the project. A key with a policy has no grants.
    pub fn allows(&self, project: &str, access: Access) -> bool {
        let mut grants = self.grants.iter().filter(|grant| grant.project == "*" || grant.project == project);
        grants.any(|grant| grant.access.allows(access))
    }

    /// Returns true if the key was given a consumer group.
    pub fn has_group(&self, project: &str, group: &str) -> bool {
        self.groups.iter().any(|grant| grant.includes(project, group))
    }

    /// Returns true if the key has expired.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The content of the key file, `keys.toml` in the data directory. `logship key` writes it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys, in order of creation.
    #[serde(rename = "key", default)]
    pub keys: Vec<Key>,
}

impl Keys {
    /// Parses the text of the key file.
    ///
    /// # Errors
    /// The line and the problem. Unlike the parser's full message, it does not show the line, which may have a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys: Self = toml::from_str(text).map_err(|error| toml_problem(text, &error))?;
        let is_mixed = |key: &&Key| key.policy.is_some() && !(key.grants.is_empty() && key.groups.is_empty());
        match keys.keys.iter().find(is_mixed) {
            Some(key) => {
                Err(format!("key {} has a policy, so it can't have grants or groups: remove them", key.id))
            }
            None => Ok(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(grants: &[(&str, Access)]) -> Key {
        let grant = |&(project, access): &(&str, Access)| Grant { project: project.into(), access };
        Key {
            id: "a".into(),
            secret: "s3cret".into(),
            token: None,
            created: 0,
            expires: None,
            note: String::new(),
            grants: grants.iter().map(grant).collect(),
            groups: vec![],
            policy: None,
            quota: None,
        }
    }

    #[test]
    fn group_grants_match_names_and_beginnings() {
        let includes = |text: &str, project: &str, group: &str| {
            text.parse::<GroupGrant>().unwrap().includes(project, group)
        };
        assert!(includes("web/soc", "web", "soc") && includes("*/soc", "web", "soc"));
        assert!(includes("web/soc-*", "web", "soc-1") && includes("web/*", "web", "soc"));
        assert!(!includes("web/soc", "web", "soc-1") && !includes("web/soc", "shop", "soc"));
        for invalid in ["", "web", "/soc", "web/", "a/b/c"] {
            assert!(invalid.parse::<GroupGrant>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn key_allows_only_its_grants() {
        let two = key(&[("a", Access::Read), ("b", Access::Admin)]);
        assert!(
            two.allows("a", Access::Read) && two.allows("b", Access::Write) && two.allows("b", Access::Admin)
        );
        assert!(
            !two.allows("a", Access::Write)
                && !two.allows("a", Access::Admin)
                && !two.allows("c", Access::Read)
        );
        let everywhere = key(&[("*", Access::ReadWrite)]);
        assert!(everywhere.allows("c", Access::Read) && everywhere.allows("c", Access::Write));
        assert!(!everywhere.allows("c", Access::Admin));
    }

    #[test]
    fn keys_round_trip() {
        let mut admin = key(&[("*", Access::Admin)]);
        admin.groups = vec!["web/soc-*".parse().unwrap()];
        admin.quota = Some(Quota { read_logs_per_day: Some(7), ..Quota::default() });
        let text = toml::to_string(&Keys { keys: vec![admin.clone()] }).unwrap();
        let read = Keys::parse(&text).unwrap();
        assert_eq!((&read.keys[0].groups, &read.keys[0].quota), (&admin.groups, &admin.quota));
        assert_eq!(read.keys[0].secret.expose(), "s3cret");
        assert!(!format!("{read:?}").contains("s3cret"));
    }

    #[test]
    fn key_files_of_before_policies_open() {
        let text = "[[key]]\nid = 'LSa'\nsecret = 's'\ncreated = 7\nnote = 'n'\ngroups = ['web/soc-*']\n\n[[key.grant]]\nproject = '*'\naccess = 'admin'\n\n[key.quota]\nread-logs-per-day = 7\n";
        let read = Keys::parse(text).unwrap();
        assert!(read.keys[0].allows("p", Access::Admin) && read.keys[0].policy.is_none());
        assert!(!toml::to_string(&read).unwrap().contains("policy"));
    }

    #[test]
    fn policy_replaces_grants() {
        let mut limited = key(&[]);
        let json = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#;
        limited.policy = Some(Policy::parse(json).unwrap());
        let text = toml::to_string(&Keys { keys: vec![limited.clone()] }).unwrap();
        let read = Keys::parse(&text).unwrap();
        assert_eq!(read.keys[0].policy, limited.policy);
        assert!(!read.keys[0].allows("a", Access::Read));
        limited.grants = key(&[("*", Access::Read)]).grants;
        let text = toml::to_string(&Keys { keys: vec![limited] }).unwrap();
        assert!(Keys::parse(&text).unwrap_err().contains("key a has a policy"));
        let condition = text.replace("Effect = \"Allow\"", "Effect = \"Allow\"\nCondition = {}");
        assert!(Keys::parse(&condition).unwrap_err().contains("conditions are not supported"));
    }

    #[test]
    fn error_has_line_but_no_secret() {
        let message = Keys::parse("[[key]]\nid = \"a\"\nsecret = hunter2\n").unwrap_err();
        assert!(message.contains("line 3") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn parses_access_without_case() {
        assert_eq!("ReadWrite".parse(), Ok(Access::ReadWrite));
        let error = "all".parse::<Access>().unwrap_err();
        assert_eq!(error, "unknown access \"all\": use write, read, readwrite or admin");
    }
}

//! Data sources: the connections that jobs and rules name.

use std::path::PathBuf;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::SourceError;
use crate::log_hub::LogHubConfig;
use crate::maxcompute::MaxComputeConfig;
use crate::secret::SecretPaths;
use crate::table_store::TableStoreConfig;

/// The longest name, in characters.
const MAX_NAME: usize = 60;

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 80;

/// The largest data source, in bytes of JSON.
const MAX_BYTES: usize = 16 << 10;

/// A data source: a connection that jobs and rules of a project name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("unevaluatedProperties" = false))]
pub struct DataSource {
    /// The name: up to 60 letters, digits and `_`, not beginning with a digit. In the settings file, the name of the table.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The description: up to 80 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The connection.
    #[serde(flatten)]
    pub connection: Connection,
}

/// The connection of a data source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Connection {
    /// The Logstores of a project, to read.
    #[serde(rename = "loghub")]
    LogHub(LogHubConfig),
    /// A MaxCompute (ODPS) project, to write to.
    #[serde(rename = "odps", alias = "maxcompute")]
    MaxCompute(MaxComputeConfig),
    /// An instance of Table Store, to write to.
    #[serde(rename = "ots", alias = "tablestore")]
    TableStore(TableStoreConfig),
}

impl DataSource {
    /// Parses a data source, without checking its values.
    ///
    /// # Errors
    /// [`SourceError::Content`] with the problem, but not with the values, which may be secret.
    pub fn parse(value: Value) -> Result<Self, SourceError> {
        if !value.is_object() {
            return Err(SourceError::Content("a data source is an object".into()));
        }
        match value.get("type") {
            None => return Err(SourceError::field("type", format!("is missing: use {}", Connection::TYPES))),
            Some(kind) if !kind.is_string() => return Err(SourceError::field("type", "is not a text")),
            Some(_) => {}
        }
        serde_json::from_value(value).map_err(|error| SourceError::Content(error.to_string()))
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`SourceError::Field`], for the first invalid value.
    pub fn check(&self) -> Result<(), SourceError> {
        check_name(&self.name)?;
        if self.description.chars().count() > MAX_DESCRIPTION {
            let problem = format!("has more than {MAX_DESCRIPTION} characters: shorten it");
            return Err(SourceError::field("description", problem));
        }
        if self.description.chars().any(char::is_control) {
            return Err(SourceError::field("description", "has control characters: write one line of text"));
        }
        let size = self.to_json().to_string().len();
        if size > MAX_BYTES {
            return Err(SourceError::Content(format!(
                "it has {size} bytes as JSON: the limit is {MAX_BYTES}"
            )));
        }
        self.connection.check()
    }

    /// Returns the data source as JSON, with its secrets. Mask them before you show it.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Connection {
    /// The types that users know.
    const TYPES: &str = "loghub, odps or ots";

    /// Returns the type, as `type` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LogHub(_) => "loghub",
            Self::MaxCompute(_) => "odps",
            Self::TableStore(_) => "ots",
        }
    }

    /// Returns true if the connection leaves this service.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::LogHub(config) => !config.is_local(),
            Self::MaxCompute(_) | Self::TableStore(_) => true,
        }
    }

    fn check(&self) -> Result<(), SourceError> {
        match self {
            Self::LogHub(config) => config.check(),
            Self::MaxCompute(config) => config.check(),
            Self::TableStore(config) => config.check(),
        }
    }

    /// Checks a connection that a project's admin sets: it may use neither files nor credentials of the service, and has no
    /// masked secrets.
    ///
    /// # Errors
    /// The first value that is missing or not allowed.
    pub fn check_own(&self) -> Result<(), SourceError> {
        if let Some(secret) = secrets().first_masked(&serde_json::to_value(self).unwrap_or_default()) {
            return Err(SourceError::Content(format!("{secret} is masked: set it again")));
        }
        let (ca, key) = match self {
            Self::LogHub(_) => return Ok(()),
            Self::MaxCompute(config) => (&config.ca, &config.access_key_id),
            Self::TableStore(config) => (&config.ca, &config.access_key_id),
        };
        if ca.is_some() {
            let problem =
                "is not allowed: the file is the service's; set the data source in the service's settings";
            return Err(SourceError::field("ca", problem));
        }
        if key.is_empty() {
            let problem = "is missing: a project's data source can't use the service's own credentials";
            return Err(SourceError::field("access-key-id", problem));
        }
        Ok(())
    }

    /// Returns the path of the file in the settings.
    pub fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::LogHub(_) => None,
            Self::MaxCompute(config) => config.ca.as_mut(),
            Self::TableStore(config) => config.ca.as_mut(),
        }
    }
}

/// Returns the paths of the secrets of data sources.
pub fn secrets() -> &'static SecretPaths {
    static SECRETS: LazyLock<SecretPaths> = LazyLock::new(SecretPaths::of::<DataSource>);
    &SECRETS
}

/// Checks the name of a data source.
///
/// # Errors
/// [`SourceError::Field`], with the rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), SourceError> {
    let rule = || format!("use up to {MAX_NAME} letters, digits and _, and no digit at the beginning");
    if name.is_empty() {
        return Err(SourceError::field("name", format!("is missing: {}", rule())));
    }
    let is_valid = name.len() <= MAX_NAME
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_valid {
        Ok(())
    } else {
        Err(SourceError::field("name", format!("{name:?} is invalid: {}", rule())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(value: Value) -> Result<DataSource, SourceError> {
        let source = DataSource::parse(value)?;
        source.check().map(|()| source)
    }

    fn remote(name: &str, endpoint: &str) -> Value {
        json!({ "name": name, "type": "loghub", "endpoint": endpoint, "project": "web",
            "access-key-id": "id", "access-key-secret": "s3cret" })
    }

    #[test]
    fn names_have_sixty_letters_digits_and_underscores() {
        let long = "a".repeat(60);
        for name in ["a", "_", "_1", "Log_Hub2", &long] {
            source(remote(name, "https://sls.example.org")).unwrap();
        }
        let longer = "a".repeat(61);
        for name in ["", "1a", "a-b", "a b", "a.b", "ä", "a\n", "a/b", "../a", &longer] {
            let error = source(remote(name, "https://sls.example.org")).unwrap_err().to_string();
            assert!(error.starts_with("name ") && error.contains("60 letters"), "{name}: {error}");
        }
    }

    #[test]
    fn descriptions_have_eighty_characters() {
        let with = |description: &str| {
            let mut value = remote("a", "http://h");
            value["description"] = description.into();
            source(value)
        };
        with(&"ä".repeat(80)).unwrap();
        assert!(with(&"ä".repeat(81)).unwrap_err().to_string().contains("80 characters"));
        assert!(with("a\nb").is_err());
    }

    #[test]
    fn huge_values_are_rejected() {
        let error = source(remote("a", &format!("http://{}", "h".repeat(20_000)))).unwrap_err().to_string();
        assert!(error.contains("the limit is 16384"), "{error}");
    }

    #[test]
    fn endpoints_have_scheme_and_host_only() {
        for endpoint in
            ["http://h", "https://h:8443", "https://h/", "http://127.0.0.1:7450", "http://[::1]:80"]
        {
            source(remote("a", endpoint)).unwrap();
        }
        for (endpoint, problem) in [
            ("cn-hangzhou.log.aliyuncs.com", "use https://cn-hangzhou.log.aliyuncs.com"),
            ("ftp://h", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("http://", "URL"),
            ("http://user:pa55word@h", "user or password"),
            ("http://h/path", "path"),
            ("http://h?x=1", "query"),
            ("http://h#x", "fragment"),
        ] {
            let error = source(remote("a", endpoint)).unwrap_err().to_string();
            assert!(error.contains(problem) && error.starts_with("endpoint"), "{endpoint}: {error}");
            assert!(!error.contains("pa55word"), "{error}");
        }
    }

    #[test]
    fn sources_of_this_service_need_no_key() {
        let local = source(json!({ "name": "own", "type": "loghub" })).unwrap();
        assert!(!local.connection.is_remote());
        let with_key =
            json!({ "name": "own", "type": "loghub", "access-key-id": "x", "access-key-secret": "y" });
        assert!(source(with_key).unwrap_err().to_string().starts_with("endpoint is missing"));
        for missing in ["project", "access-key-id", "access-key-secret"] {
            let mut value = remote("a", "http://h");
            value.as_object_mut().unwrap().remove(missing);
            let error = source(value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{missing} is missing")), "{error}");
        }
        let mut value = remote("a", "http://h");
        value["project"] = "evil.example.org/".into();
        assert!(source(value).is_err());
    }

    #[test]
    fn types_have_two_names() {
        for (name, kind) in [("odps", "odps"), ("maxcompute", "odps"), ("ots", "ots"), ("tablestore", "ots")]
        {
            let mut value = json!({ "name": "a", "type": name, "endpoint": "http://h", "access-key-id": "id",
                "access-key-secret": "s3cret" });
            value[if kind == "odps" { "project" } else { "instance" }] = "p".into();
            let known = source(value).unwrap();
            assert_eq!((known.connection.kind(), &known.to_json()["type"]), (kind, &kind.into()));
            known.connection.check_own().unwrap();
        }
    }

    #[test]
    fn own_sources_use_no_files_and_credentials_of_the_service() {
        let with = |members: Value| {
            let mut value =
                json!({ "name": "a", "type": "odps", "endpoint": "http://h/api", "project": "p" });
            value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            source(value).unwrap().connection.check_own().map_err(|error| error.to_string())
        };
        let key = json!({ "access-key-id": "id", "access-key-secret": "s3cret" });
        with(key).unwrap();
        assert!(with(json!({})).unwrap_err().starts_with("access-key-id is missing"));
        let file = json!({ "access-key-id": "id", "access-key-secret": "s3cret", "ca": "/etc/passwd" });
        assert!(with(file).unwrap_err().starts_with("ca is not allowed"));
        let masked = json!({ "access-key-id": "id", "access-key-secret": "***00000000" });
        assert!(with(masked).unwrap_err().starts_with("access-key-secret is masked"));
    }

    #[test]
    fn secrets_are_masked_restored_and_never_in_errors() {
        let known = source(remote("a", "http://h")).unwrap();
        assert!(!format!("{known:?}").contains("s3cret"));
        let mut masked = known.to_json();
        secrets().mask(&mut masked);
        assert!(!masked.to_string().contains("s3cret"), "{masked}");
        secrets().restore(&mut masked, &known.to_json());
        assert_eq!(source(masked).unwrap(), known);
        for wrong in [
            json!({ "access-key-secret": ["s3cret"] }),
            json!({ "access-key-secret": 5337 }),
            json!({ "unknown": "s3cret" }),
        ] {
            let mut value = remote("a", "http://h");
            value.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            let error = source(value).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && !error.contains("5337"), "{error}");
        }
    }

    #[test]
    fn unknown_types_and_members_are_rejected_by_name() {
        for (value, problem) in [
            (json!({ "name": "a" }), "type is missing"),
            (json!({ "name": "a", "type": 1 }), "type is not a text"),
            (json!({ "name": "a", "type": "kafka" }), "kafka"),
            (json!({ "name": "a", "type": "loghub", "endpont": "" }), "endpont"),
            (json!([]), "object"),
            (json!(null), "object"),
        ] {
            let error = source(value.clone()).unwrap_err().to_string();
            assert!(error.contains(problem), "{value}: {error}");
        }
    }
}

//! Secrets of settings. A setting is secret if its type is [`Secret`]: logs, replies and checks find secrets by the type.

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

/// A text that must not appear in logs or replies.
///
/// `Debug` redacts it, and there is no `Display`. Serialization does not redact it, because rules are stored with their
/// secrets: mask values before they are shown ([`SecretPaths::mask`]).
///
/// The crate `secrecy` has a similar type, which can be neither serialized nor compared.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Errors don't quote the value, which may be a secret of another type.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|_| D::Error::custom("a secret must be a text"))
    }
}

impl Secret {
    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns true if there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the text is a masked secret, which a client read from a reply.
    pub fn is_masked(&self) -> bool {
        self.0.starts_with(MASK_PREFIX)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// A string with the mark of secrets, `writeOnly`.
impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", SECRET_MARK: true })
    }
}

/// The keyword that marks secrets in JSON Schemas.
const SECRET_MARK: &str = "writeOnly";

/// Prefix of a masked secret. Some digits of the secret's hash follow, so that a changed secret is visible.
/// A client that sends a masked secret back leaves the secret unchanged.
const MASK_PREFIX: &str = "***";

/// The paths of a type's secrets in its JSON form.
#[derive(Debug)]
pub struct SecretPaths {
    /// The JSON Schema of the type, in which secrets are marked.
    schema: Value,
}

impl SecretPaths {
    /// Finds the secrets of a type.
    pub fn of<T: JsonSchema>() -> Self {
        Self { schema: schemars::schema_for!(T).to_value() }
    }

    /// Returns the JSON pointers of all secrets that the value has, in alphabetical order.
    pub fn within(&self, value: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.find(&self.schema, value, "", &mut found);
        found
    }

    fn find(&self, schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
        if schema[SECRET_MARK] == true {
            found.insert(path.to_owned());
        }
        if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            self.find(self.schema.pointer(pointer).unwrap_or(&Value::Null), value, path, found);
        }
        for alternatives in ["oneOf", "anyOf", "allOf"] {
            for alternative in schema[alternatives].as_array().into_iter().flatten() {
                self.find(alternative, value, path, found);
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            let property = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            let name = name.replace('~', "~0").replace('/', "~1");
            self.find(property, value, &format!("{path}/{name}"), found);
        }
        for (number, value) in value.as_array().into_iter().flatten().enumerate() {
            self.find(&schema["items"], value, &format!("{path}/{number}"), found);
        }
    }

    /// Replaces all secrets of the value with masked ones.
    pub fn mask(&self, value: &mut Value) {
        for path in self.within(value) {
            if let Some(secret) = value.pointer_mut(&path) {
                let hash = Sha256::digest(secret.as_str().unwrap_or_default());
                *secret = format!("{MASK_PREFIX}{}", hex::encode(&hash[..4])).into();
            }
        }
    }

    /// Replaces masked secrets of the value with those of `previous`.
    pub fn restore(&self, value: &mut Value, previous: &Value) {
        for path in self.within(value) {
            if let Some(secret) = value.pointer_mut(&path)
                && secret.as_str().is_some_and(|secret| secret.starts_with(MASK_PREFIX))
                && let Some(known) = previous.pointer(&path)
            {
                secret.clone_from(known);
            }
        }
    }

    /// Returns the name of the first masked secret of the value.
    pub fn first_masked(&self, value: &Value) -> Option<String> {
        let text = |path: &String| value.pointer(path).and_then(Value::as_str);
        let is_masked = |path: &String| text(path).is_some_and(|text| text.starts_with(MASK_PREFIX));
        let path = self.within(value).into_iter().find(is_masked)?;
        path.rsplit('/').next().map(str::to_owned)
    }
}

/// Returns true if the value has a secret. The URL of a proxy without a password is none.
pub fn has_secret<T: JsonSchema + Serialize>(value: &T) -> bool {
    let Ok(value) = serde_json::to_value(value) else { return false };
    let is_confidential = |path: &String| {
        let text = value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let is_plain_url = Url::parse(text)
            .is_ok_and(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
        !text.is_empty() && !is_plain_url
    };
    SecretPaths::of::<T>().within(&value).iter().any(is_confidential)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Debug, Serialize, JsonSchema)]
    struct Settings {
        by_name: BTreeMap<String, Choice>,
        list: Vec<Option<Secret>>,
        plain: String,
    }

    #[derive(Debug, Serialize, JsonSchema)]
    #[serde(tag = "type")]
    enum Choice {
        A { password: Secret },
        B(Inner),
    }

    #[derive(Debug, Serialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        token: Option<Secret>,
    }

    fn settings() -> Settings {
        Settings {
            by_name: BTreeMap::from([
                ("x/y".to_owned(), Choice::A { password: "p".into() }),
                ("z".to_owned(), Choice::B(Inner { token: Some("t".into()) })),
            ]),
            list: vec![None, Some("l".into())],
            plain: "visible".into(),
        }
    }

    #[test]
    fn finds_secrets_by_type() {
        let value = serde_json::to_value(settings()).unwrap();
        let paths = SecretPaths::of::<Settings>();
        let found: Vec<_> = paths.within(&value).into_iter().collect();
        assert_eq!(found, ["/by_name/x~1y/password", "/by_name/z/token", "/list/0", "/list/1"]);
        let mut masked = value.clone();
        paths.mask(&mut masked);
        assert_eq!(masked["plain"], "visible");
        assert_eq!(paths.first_masked(&masked).as_deref(), Some("password"));
        assert_eq!(paths.first_masked(&value), None);
        paths.restore(&mut masked, &value);
        assert_eq!(masked, value);
    }

    #[test]
    fn debug_redacts_secrets() {
        let shown = format!("{:?}", settings());
        assert!(shown.contains("password: [redacted]") && shown.contains("visible"), "{shown}");
    }

    #[test]
    fn proxy_without_password_is_no_secret() {
        let with = |text: &str| has_secret(&Inner { token: Some(text.into()) });
        assert!(with("s3cret") && with("http://user:password@proxy:3128"));
        assert!(!with("http://proxy:3128") && !with(""));
        assert!(!has_secret(&json!({ "token": "x" })));
    }
}

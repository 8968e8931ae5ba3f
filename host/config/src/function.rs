//! Configuration of functions: a destination of the service's settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::limit::{BODY_BYTES, CALLS, TIMEOUT_SECONDS};
use crate::secret::Secret;

/// Functions that the service calls with logs, and that make the objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["url"]))]
pub struct FunctionConfig {
    /// The base URL of the functions: `https://functions.example.org`.
    pub url: String,
    /// The name of the function's rule. Default: the name of the calling rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The bearer token of the calls, for the `Authorization` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The name of the destination that has the objects. Objects that the function returns are written there.
    /// Objects that the function delivers itself are read there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The number of concurrent calls.
    #[schemars(range(min = CALLS.min, max = CALLS.max))]
    pub calls: usize,
    /// The largest body of a call as sent, in bytes. Lower it for a gateway before the function.
    #[schemars(range(min = BODY_BYTES.min, max = BODY_BYTES.max))]
    pub body_bytes: usize,
    /// The read timeout of a call, in seconds.
    #[schemars(range(min = TIMEOUT_SECONDS.min, max = TIMEOUT_SECONDS.max))]
    pub timeout_seconds: u64,
    /// The URL of a proxy. It may have a password. Default: the environment's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// A file with PEM certificates of additional trusted authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Maximum size of a call's body before compression, in bytes: the limit of `trigger-http`.
pub const MAX_RAW_BYTES: usize = 64 << 20;

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            rule: None,
            token: None,
            store: None,
            calls: 8,
            body_bytes: BODY_BYTES.max as usize,
            timeout_seconds: 120,
            proxy: None,
            ca: None,
        }
    }
}

impl FunctionConfig {
    /// Checks the values. `is_function` looks up a destination of the settings: true if it is a function.
    ///
    /// # Errors
    /// The invalid setting, and the reason.
    pub fn check(&self, is_function: impl Fn(&str) -> Option<bool>) -> Result<(), String> {
        self.endpoint("rule")?;
        if let Some(store) = &self.store {
            match is_function(store) {
                None => return Err(format!("store: the settings have no destination {store:?}")),
                Some(true) => {
                    return Err(format!("store: {store:?} is a function and can't store objects"));
                }
                Some(false) => {}
            }
        }
        if !CALLS.contains(self.calls as u64) {
            return Err(format!("calls: {} is out of range: {}-{}", self.calls, CALLS.min, CALLS.max));
        }
        if !BODY_BYTES.contains(self.body_bytes as u64) {
            let (bytes, least, most) = (self.body_bytes, BODY_BYTES.min, BODY_BYTES.max);
            return Err(format!("body-bytes: {bytes} is out of range: {least}-{most}"));
        }
        Ok(())
    }

    /// Returns the URL of the function's rule.
    pub fn endpoint(&self, rule: &str) -> Result<Url, String> {
        let rule = self.rule.as_deref().unwrap_or(rule);
        let wrong = |problem: &str| format!("url: {:?} {problem}: https://HOST", self.url);
        let mut url = Url::parse(&self.url).map_err(|_| wrong("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("begins with neither http:// nor https://"));
        }
        if url.path().contains("/v1/ship") || url.query().is_some() {
            return Err(wrong("is too long: leave out /v1/ship and everything after it"));
        }
        let below = url.path().trim_end_matches('/').to_owned();
        url.set_path(&below);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "ship", rule]);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_invalid_settings() {
        let right =
            FunctionConfig { url: "https://f.example.org/below/".into(), ..FunctionConfig::default() };
        assert_eq!(right.endpoint("a-b").unwrap().as_str(), "https://f.example.org/below/v1/ship/a-b");
        let other = FunctionConfig { rule: Some("r".into()), url: "http://f:80".into(), ..right.clone() };
        assert_eq!(other.endpoint("a-b").unwrap().as_str(), "http://f/v1/ship/r");
        let is_function = |name: &str| match name {
            "lake" => Some(false),
            "f" => Some(true),
            _ => None,
        };
        let check = |change: fn(&mut FunctionConfig)| {
            let mut config = right.clone();
            change(&mut config);
            config.check(is_function)
        };
        check(|config| config.store = Some("lake".into())).unwrap();
        let problem = |change| check(change).unwrap_err();
        assert!(problem(|config| config.url = "f.example.org".into()).contains("is not a URL"));
        assert!(problem(|config| config.url = "ftp://f".into()).contains("neither http"));
        assert!(problem(|config| config.url = "http://f/v1/ship/lake".into()).contains("leave out"));
        assert!(problem(|config| config.store = Some("sea".into())).contains("no destination"));
        assert!(problem(|config| config.store = Some("f".into())).contains("is a function"));
        assert!(problem(|config| config.calls = 0).starts_with("calls"));
        assert!(problem(|config| config.body_bytes = 1).starts_with("body-bytes"));
        let secret = FunctionConfig { token: Some("t0ken".into()), ..right.clone() };
        assert!(!format!("{secret:?}").contains("t0ken"));
    }
}

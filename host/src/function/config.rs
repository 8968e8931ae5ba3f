//! How functions are called: a destination of the service's settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::destination::DestinationConfig;
use crate::group_list::Most;

/// How functions are called.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FunctionConfig {
    /// Where they are, without a path of theirs: `https://functions.example.org`.
    pub url: String,
    /// The name of the function's rule; by default that of the rule that calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What calls bring as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The destination, by its name, in which the objects are: what the function gives back is put there, and what it
    /// put there itself is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Calls at one time.
    pub calls: usize,
    /// Bytes that a call may have, as it is sent: for what stands before the function.
    pub body_bytes: usize,
    /// Seconds to wait for the answer to a call.
    pub timeout_seconds: u64,
    /// URL of a proxy; by default those of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// File with certificates (PEM) of authorities to trust besides those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Bytes that a call may have at most, as it is sent, and unpacked: what `trigger-http` takes.
pub(crate) const MOST: Most = Most { packed: 16 << 20, raw: 64 << 20 };

/// What fits into less is not worth a call.
const LEAST: usize = 64 << 10;

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            rule: None,
            token: None,
            store: None,
            calls: 8,
            body_bytes: MOST.packed,
            timeout_seconds: 120,
            proxy: None,
            ca: None,
        }
    }
}

/// Its token is not for logs.
impl fmt::Debug for FunctionConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("FunctionConfig");
        shown.field("url", &self.url).field("rule", &self.rule).field("store", &self.store);
        shown.field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl FunctionConfig {
    /// Checks what the types don't. `destinations` are those that the settings name.
    ///
    /// # Errors
    /// The setting that is wrong, and why.
    pub(crate) fn check(&self, destinations: &BTreeMap<String, DestinationConfig>) -> Result<(), String> {
        self.endpoint("rule")?;
        if let Some(store) = &self.store {
            match destinations.get(store) {
                None => return Err(format!("store: the settings name no destination {store:?}")),
                Some(DestinationConfig::Function(_)) => {
                    return Err(format!("store: {store:?} is a function, and no place for objects"));
                }
                Some(_) => {}
            }
        }
        if !(1..=1024).contains(&self.calls) {
            return Err(format!("calls: {} is not from 1 to 1024", self.calls));
        }
        if !(LEAST..=MOST.packed).contains(&self.body_bytes) {
            let (bytes, most) = (self.body_bytes, MOST.packed);
            return Err(format!("body-bytes: {bytes} is not from {LEAST} to {most}"));
        }
        Ok(())
    }

    /// Where a rule of the function is.
    pub(super) fn endpoint(&self, rule: &str) -> Result<Url, String> {
        let rule = self.rule.as_deref().unwrap_or(rule);
        let wrong = |problem: &str| format!("url: {:?} {problem}: https://HOST", self.url);
        let mut url = Url::parse(&self.url).map_err(|_| wrong("is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("begins with neither http:// nor https://"));
        }
        if url.path().contains("/v1/ship") || url.query().is_some() {
            return Err(wrong("goes too far: leave out /v1/ship and what is behind it"));
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
    fn settings_that_can_not_be_are_named() {
        let right =
            FunctionConfig { url: "https://f.example.org/below/".into(), ..FunctionConfig::default() };
        assert_eq!(right.endpoint("a-b").unwrap().as_str(), "https://f.example.org/below/v1/ship/a-b");
        let other = FunctionConfig { rule: Some("r".into()), url: "http://f:80".into(), ..right.clone() };
        assert_eq!(other.endpoint("a-b").unwrap().as_str(), "http://f/v1/ship/r");
        let lake = DestinationConfig::Directory { path: "lake".into() };
        let function = DestinationConfig::Function(right.clone());
        let destinations = BTreeMap::from([("lake".to_owned(), lake), ("f".to_owned(), function)]);
        let check = |change: fn(&mut FunctionConfig)| {
            let mut config = right.clone();
            change(&mut config);
            config.check(&destinations)
        };
        check(|config| config.store = Some("lake".into())).unwrap();
        let problem = |change| check(change).unwrap_err();
        assert!(problem(|config| config.url = "f.example.org".into()).contains("is no URL"));
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

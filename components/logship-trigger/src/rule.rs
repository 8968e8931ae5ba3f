//! The rules that a function knows.

use std::collections::BTreeMap;

use logship_core::choice::Choice;
use logship_core::time_zone::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};
use spin_sdk::variables;

use crate::problem::Problem;

/// How batches become objects, and where these go. The members are those of a rule of the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// The directory of the bucket that objects go to; may be empty.
    pub prefix: String,
    /// Pattern of the levels below the prefix.
    pub partition: String,
    /// Time zone in which the partition is rendered.
    pub time_zone: TimeZone,
    /// The format, with its settings. None: what the function's encoder makes.
    pub format: Option<Choice>,
    /// The compression, with its settings. None: what the function's compressor makes.
    pub compression: Option<Choice>,
    /// Settings of the renderer.
    pub path: Map<String, Value>,
    /// Where the bytes go.
    pub deliver: Deliver,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            prefix: String::new(),
            // As that of a rule of the service.
            partition: "%Y/%m/%d/%H/%M".into(),
            time_zone: TimeZone::default(),
            format: None,
            compression: None,
            path: Map::new(),
            deliver: Deliver::Caller,
        }
    }
}

/// Where the bytes go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deliver {
    /// Back to the caller, in the answer.
    Caller,
    /// To the presigned URL that the call has.
    Url,
    /// To a bucket of S3 or a store compatible with it, with the variables `s3_access_key_id` and
    /// `s3_secret_access_key`.
    S3(S3),
    /// To Splunk, as events, with the variable `hec_token`.
    Hec(Hec),
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct S3 {
    /// Such as `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// Such as `eu-west-1`.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// Whether the bucket is a level of the path, and not a part of the host's name.
    #[serde(default)]
    pub path_style: bool,
}

fn us_east_1() -> String {
    "us-east-1".into()
}

/// An HTTP Event Collector.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hec {
    /// Such as `https://splunk.example.org:8088`.
    pub url: String,
    /// Settings of the formatter.
    #[serde(default)]
    pub format: Map<String, Value>,
    /// Bytes of events in a request.
    #[serde(default = "megabyte")]
    pub batch_bytes: usize,
}

fn megabyte() -> usize {
    1_000_000
}

/// The variable with the rules: a JSON object, by name.
pub const RULES: &str = "rules";

impl Rule {
    /// The rule of that name, of those in the variable [`RULES`].
    ///
    /// # Errors
    /// When there is none, or the variable is not what it should be.
    pub async fn named(name: &str) -> Result<Self, Problem> {
        let text = variable(RULES).await?;
        Self::of(&text, name)
    }

    fn of(text: &str, name: &str) -> Result<Self, Problem> {
        let wrong = |error: serde_json::Error| {
            Problem::settings(format!("the variable {RULES} is no JSON object of rules by name: {error}"))
        };
        let mut rules: BTreeMap<String, Value> = serde_json::from_str(text).map_err(wrong)?;
        let Some(rule) = rules.remove(name) else {
            let known: Vec<_> = rules.keys().map(String::as_str).collect();
            let detail = format!("there is no rule {name:?}; the variable {RULES} has: {}", known.join(", "));
            return Err(Problem::new(404, "unknown-rule", detail));
        };
        let rule: Self = serde_json::from_value(rule)
            .map_err(|error| Problem::settings(format!("rule {name:?} in the variable {RULES}: {error}")))?;
        Ok(Self { name: name.to_owned(), ..rule })
    }
}

/// The value of a variable that must be there.
///
/// # Errors
/// When it is not.
pub async fn variable(name: &str) -> Result<String, Problem> {
    variables::get(name).await.map_err(|error| {
        let why = match error {
            variables::Error::Undefined(_) => "is not set".to_owned(),
            error => error.to_string(),
        };
        Problem::settings(format!("the variable {name} of the function: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"{
        "a": {"format": {"type": "csv", "header": true}, "compression": "none", "time_zone": "+08:00"},
        "b": {"deliver": {"to": "s3", "endpoint": "http://127.0.0.1:9000", "bucket": "lake", "path-style": true}},
        "c": {"prefixx": "x"}
    }"#;

    #[test]
    fn rules_are_found_by_name() {
        let rule = Rule::of(RULES, "a").unwrap();
        assert_eq!((rule.name.as_str(), rule.format.unwrap().name.as_str()), ("a", "csv"));
        assert_eq!(rule.deliver, Deliver::Caller);
        assert!(matches!(Rule::of(RULES, "b").unwrap().deliver, Deliver::S3(S3 { path_style: true, .. })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |text, name| Rule::of(text, name).unwrap_err();
        assert_eq!((of(RULES, "d").status, of(RULES, "d").can_pass()), (404, true));
        assert!(of(RULES, "d").detail.contains("a, b, c"));
        assert!(of(RULES, "c").detail.contains("prefixx"));
        assert_eq!(of("[]", "a").status, 500);
    }
}

//! The rules of a function.

use std::collections::BTreeMap;

use logship_batch::stage_spec::StageSpec;
use logship_batch::time_zone::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};
use spin_sdk::variables;

use crate::problem::Problem;

/// A rule: how batches become objects, and the objects' destination.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The rule's name.
    pub name: String,
    /// The settings that decide keys and bytes of objects.
    pub spec: Spec,
    /// The destination.
    pub deliver: Deliver,
}

/// The settings of a rule that decide the keys and bytes of objects. They are those of the service's rules. A setting
/// that is `None` is not set: the caller may set it, otherwise its default applies.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// The directory of the objects in the bucket; may be empty.
    pub prefix: Option<String>,
    /// The pattern of the levels below the prefix.
    pub partition: Option<String>,
    /// The time zone of the partition.
    pub time_zone: Option<TimeZone>,
    /// The format, with its settings. By default the format of the function's encoder.
    pub format: Option<StageSpec>,
    /// The compression, with its settings. By default the compression of the function's compressor.
    pub compression: Option<StageSpec>,
    /// Settings of the renderer.
    pub path: Option<Map<String, Value>>,
}

/// The header with the caller's settings for the object: a [`Spec`] as JSON.
pub const SPEC: &str = "x-logship-rule";

impl Spec {
    /// Parses the caller's settings. Without the header, nothing is set.
    ///
    /// # Errors
    /// If the header is invalid, or if it has a setting that this function does not know.
    pub fn read(header: Option<String>) -> Result<Self, Problem> {
        let Some(text) = header else { return Ok(Self::default()) };
        // A newer version of the function may know the setting, so a retry can succeed.
        serde_json::from_str(&text).map_err(|error| Problem::settings(format!("{SPEC}: {error}")))
    }

    /// Returns the partition. Its default is that of the service's rules.
    pub fn partition(&self) -> &str {
        self.partition.as_deref().unwrap_or("%Y/%m/%d/%H/%M")
    }

    /// Merges both specs. Returns the name of the setting if they contradict each other.
    fn merged_with(&self, caller: &Self) -> Result<Self, &'static str> {
        fn merge<T: Clone + PartialEq>(
            setting: &'static str,
            own: &Option<T>,
            caller: &Option<T>,
        ) -> Result<Option<T>, &'static str> {
            match (own, caller) {
                (Some(own), Some(caller)) if own != caller => Err(setting),
                (own, caller) => Ok(own.as_ref().or(caller.as_ref()).cloned()),
            }
        }
        Ok(Self {
            prefix: merge("prefix", &self.prefix, &caller.prefix)?,
            partition: merge("partition", &self.partition, &caller.partition)?,
            time_zone: merge("time_zone", &self.time_zone, &caller.time_zone)?,
            format: merge("format", &self.format, &caller.format)?,
            compression: merge("compression", &self.compression, &caller.compression)?,
            path: merge("path", &self.path, &caller.path)?,
        })
    }
}

/// The destination.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deliver {
    /// The caller, in the response.
    #[default]
    Caller,
    /// The presigned URL in the call.
    Url,
    /// A bucket of S3 or a compatible store. Uses the variables `s3_access_key_id` and `s3_secret_access_key`.
    S3(S3),
    /// Splunk; logs become events. Uses the variable `hec_token`.
    Hec(Hec),
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct S3 {
    /// The endpoint, such as `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// The region, such as `eu-west-1`.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// True if the bucket is part of the URL's path, not of its host name.
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
    /// The URL, such as `https://splunk.example.org:8088`.
    pub url: String,
    /// Settings of the formatter.
    #[serde(default)]
    pub format: Map<String, Value>,
    /// The largest request, in bytes of events.
    #[serde(default = "megabyte")]
    pub batch_bytes: usize,
}

fn megabyte() -> usize {
    1_000_000
}

impl Deliver {
    /// Returns the destination's name in a rule.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Url => "url",
            Self::S3(_) => "s3",
            Self::Hec(_) => "hec",
        }
    }
}

/// The variable with the rules: a JSON object of rules by name.
pub const RULES: &str = "rules";

impl Rule {
    /// Returns the rule with this name from the variable [`RULES`].
    ///
    /// # Errors
    /// If there is no such rule, or if the variable is invalid.
    pub async fn named(name: &str) -> Result<Self, Problem> {
        let text = variable(RULES).await?;
        Self::of(&text, name)
    }

    fn of(text: &str, name: &str) -> Result<Self, Problem> {
        let invalid = |error: serde_json::Error| {
            Problem::settings(format!("the variable {RULES} is not a JSON object of rules by name: {error}"))
        };
        let mut rules: BTreeMap<String, Value> = serde_json::from_str(text).map_err(invalid)?;
        let Some(rule) = rules.remove(name) else {
            let known: Vec<_> = rules.keys().map(String::as_str).collect();
            let detail = format!("there is no rule {name:?}; the variable {RULES} has: {}", known.join(", "));
            return Err(Problem::new(404, "unknown-rule", detail));
        };
        let invalid = |error: serde_json::Error| {
            Problem::settings(format!("rule {name:?} in the variable {RULES}: {error}"))
        };
        let mut settings: Map<String, Value> = serde_json::from_value(rule).map_err(invalid)?;
        let deliver = settings.remove("deliver").map(serde_json::from_value).transpose().map_err(invalid)?;
        let spec = serde_json::from_value(settings.into()).map_err(invalid)?;
        Ok(Self { name: name.to_owned(), spec, deliver: deliver.unwrap_or_default() })
    }

    /// Returns the rule with unset settings filled in from the caller's.
    ///
    /// # Errors
    /// If the rule and the caller contradict each other: the function would not make the object that the caller expects.
    pub fn merged_with(self, caller: &Spec) -> Result<Self, Problem> {
        let spec = self.spec.merged_with(caller).map_err(|setting| {
            let detail = format!(
                "the caller has another {setting} for rule {:?} than the variable {RULES}: use the same value in both, or remove it from one",
                self.name
            );
            Problem::settings(detail)
        })?;
        Ok(Self { spec, ..self })
    }
}

/// Returns the value of a required variable.
///
/// # Errors
/// If the variable is not set.
pub async fn variable(name: &str) -> Result<String, Problem> {
    optional(name)
        .await?
        .ok_or_else(|| Problem::settings(format!("the variable {name} of the function is not set")))
}

/// Returns the value of a variable, if it is set.
///
/// # Errors
/// If the variable cannot be read.
pub async fn optional(name: &str) -> Result<Option<String>, Problem> {
    match variables::get(name).await {
        Ok(value) => Ok(Some(value)),
        Err(variables::Error::Undefined(_)) => Ok(None),
        Err(error) => Err(Problem::settings(format!("the variable {name} of the function: {error}"))),
    }
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
    fn finds_rules_by_name() {
        let rule = Rule::of(RULES, "a").unwrap();
        assert_eq!((rule.name.as_str(), rule.spec.format.unwrap().name.as_str()), ("a", "csv"));
        assert_eq!(rule.deliver, Deliver::Caller);
        assert!(matches!(Rule::of(RULES, "b").unwrap().deliver, Deliver::S3(S3 { path_style: true, .. })));
    }

    #[test]
    fn errors_name_the_problem() {
        let of = |text, name| Rule::of(text, name).unwrap_err();
        assert_eq!((of(RULES, "d").status, of(RULES, "d").is_retryable()), (404, true));
        assert!(of(RULES, "d").detail.contains("a, b, c"));
        assert!(of(RULES, "c").detail.contains("prefixx"));
        assert_eq!(of("[]", "a").status, 500);
    }

    #[test]
    fn caller_fills_unset_settings_and_contradicts_none() {
        let merged_with = |header: &str| {
            Rule::of(RULES, "a")
                .unwrap()
                .merged_with(&Spec::read(Some(header.into())).unwrap())
                .map(|rule| rule.spec)
        };
        let spec = merged_with(r#"{"prefix": "p", "compression": "none"}"#).unwrap();
        assert_eq!((spec.prefix.as_deref(), spec.partition()), (Some("p"), "%Y/%m/%d/%H/%M"));
        assert_eq!(spec.format.unwrap().name, "csv");
        for (header, setting) in [
            (r#"{"format": "csv"}"#, "format"),
            (r#"{"compression": "gzip"}"#, "compression"),
            (r#"{"time_zone": "+07:00"}"#, "time_zone"),
        ] {
            let problem = merged_with(header).unwrap_err();
            assert!(problem.detail.contains(setting) && problem.is_retryable(), "{problem}");
        }
        assert!(merged_with(r#"{"format": {"header": true, "type": "csv"}}"#).is_ok());
        assert!(Spec::read(Some(r#"{"size": 1}"#.into())).unwrap_err().is_retryable());
    }
}

//! The rules that a function knows.

use std::collections::BTreeMap;

use logship_core::choice::Choice;
use logship_core::time_zone::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};
use spin_sdk::variables;

use crate::problem::Problem;

/// How batches become objects, and where these go.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What its objects are like.
    pub spec: Spec,
    /// Where the bytes go.
    pub deliver: Deliver,
}

/// What objects are like: all of a rule that decides their keys and bytes. The members are those of a rule of the
/// service. One that is none is not said: the caller may say it, and else it has its default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// The directory of the bucket that objects go to; may be empty.
    pub prefix: Option<String>,
    /// Pattern of the levels below the prefix.
    pub partition: Option<String>,
    /// Time zone in which the partition is rendered.
    pub time_zone: Option<TimeZone>,
    /// The format, with its settings. By default what the function's encoder makes.
    pub format: Option<Choice>,
    /// The compression, with its settings. By default what the function's compressor makes.
    pub compression: Option<Choice>,
    /// Settings of the renderer.
    pub path: Option<Map<String, Value>>,
}

/// The header in which a caller says what the object is to be like: a [`Spec`] as JSON.
pub const SPEC: &str = "x-logship-rule";

impl Spec {
    /// What the caller says; nothing, without the header.
    ///
    /// # Errors
    /// When it is none, or says what this function does not know.
    pub fn read(header: Option<String>) -> Result<Self, Problem> {
        let Some(text) = header else { return Ok(Self::default()) };
        // A newer function may know it: the same call may succeed then.
        serde_json::from_str(&text).map_err(|error| Problem::settings(format!("{SPEC}: {error}")))
    }

    /// The partition, or its default, which is that of rules of the service.
    pub fn partition(&self) -> &str {
        self.partition.as_deref().unwrap_or("%Y/%m/%d/%H/%M")
    }

    /// What both say, if they don't contradict each other; else the member of which they do.
    fn agreed(&self, caller: &Self) -> Result<Self, &'static str> {
        fn one<T: Clone + PartialEq>(
            member: &'static str,
            own: &Option<T>,
            caller: &Option<T>,
        ) -> Result<Option<T>, &'static str> {
            match (own, caller) {
                (Some(own), Some(caller)) if own != caller => Err(member),
                (own, caller) => Ok(own.as_ref().or(caller.as_ref()).cloned()),
            }
        }
        Ok(Self {
            prefix: one("prefix", &self.prefix, &caller.prefix)?,
            partition: one("partition", &self.partition, &caller.partition)?,
            time_zone: one("time_zone", &self.time_zone, &caller.time_zone)?,
            format: one("format", &self.format, &caller.format)?,
            compression: one("compression", &self.compression, &caller.compression)?,
            path: one("path", &self.path, &caller.path)?,
        })
    }
}

/// Where the bytes go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deliver {
    /// Back to the caller, in the answer.
    #[default]
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

impl Deliver {
    /// As a rule says it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Url => "url",
            Self::S3(_) => "s3",
            Self::Hec(_) => "hec",
        }
    }
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
        let wrong = |error: serde_json::Error| {
            Problem::settings(format!("rule {name:?} in the variable {RULES}: {error}"))
        };
        let mut members: Map<String, Value> = serde_json::from_value(rule).map_err(wrong)?;
        let deliver = members.remove("deliver").map(serde_json::from_value).transpose().map_err(wrong)?;
        let spec = serde_json::from_value(members.into()).map_err(wrong)?;
        Ok(Self { name: name.to_owned(), spec, deliver: deliver.unwrap_or_default() })
    }

    /// The rule, with what it does not say as the caller says it.
    ///
    /// # Errors
    /// When they contradict each other: what the caller waits for would not be made.
    pub fn agreed(self, caller: &Spec) -> Result<Self, Problem> {
        let spec = self.spec.agreed(caller).map_err(|member| {
            let detail = format!(
                "the caller has another {member} for rule {:?} than the variable {RULES} says: change one of them, or leave it out there",
                self.name
            );
            Problem::settings(detail)
        })?;
        Ok(Self { spec, ..self })
    }
}

/// The value of a variable that must be there.
///
/// # Errors
/// When it is not.
pub async fn variable(name: &str) -> Result<String, Problem> {
    optional(name)
        .await?
        .ok_or_else(|| Problem::settings(format!("the variable {name} of the function: is not set")))
}

/// The value of a variable, if it is there.
///
/// # Errors
/// When that can't be told.
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
    fn rules_are_found_by_name() {
        let rule = Rule::of(RULES, "a").unwrap();
        assert_eq!((rule.name.as_str(), rule.spec.format.unwrap().name.as_str()), ("a", "csv"));
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

    #[test]
    fn a_caller_says_what_the_rule_does_not_and_nothing_against_it() {
        let agreed = |told: &str| {
            Rule::of(RULES, "a")
                .unwrap()
                .agreed(&Spec::read(Some(told.into())).unwrap())
                .map(|rule| rule.spec)
        };
        let spec = agreed(r#"{"prefix": "p", "compression": "none"}"#).unwrap();
        assert_eq!((spec.prefix.as_deref(), spec.partition()), (Some("p"), "%Y/%m/%d/%H/%M"));
        assert_eq!(spec.format.unwrap().name, "csv");
        for (told, member) in [
            (r#"{"format": "csv"}"#, "format"),
            (r#"{"compression": "gzip"}"#, "compression"),
            (r#"{"time_zone": "+07:00"}"#, "time_zone"),
        ] {
            let problem = agreed(told).unwrap_err();
            assert!(problem.detail.contains(member) && problem.can_pass(), "{problem}");
        }
        assert!(agreed(r#"{"format": {"header": true, "type": "csv"}}"#).is_ok());
        assert!(Spec::read(Some(r#"{"size": 1}"#.into())).unwrap_err().can_pass());
    }
}

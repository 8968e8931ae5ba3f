//! Rules as Log Service's clients set them: a target type, and its configuration.
//!
//! What such a configuration has no word for stands in its member `logship`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::bucket::Remote;
use crate::rule::{self, Choice, NONE, PartitionBy, Rule, RuleError, Stages, Start, Store, TimeZone};

/// The target type of rules that write objects, to whichever store.
pub const OSS: &str = "oss";

/// Begins what stands for a secret where a rule is shown: a few digits of its hash follow, so that it can be seen
/// whether it is another one. Set, it leaves the secret as it was.
const HIDDEN: &str = "***";

/// Where secrets are in the table of a rule's own destination.
const SECRETS: [&str; 4] = ["access-key-secret", "security-token", "external-id", "proxy"];

/// The configuration of a rule that writes objects. Clients leave out what they like, and add what is of no meaning.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    oss_bucket: String,
    oss_prefix: String,
    role_arn: String,
    buffer_interval: u64,
    buffer_size: u64,
    compress_type: String,
    path_format: String,
    time_zone: String,
    enable: bool,
    storage: Storage,
    #[serde(skip_serializing_if = "Extension::is_empty")]
    logship: Extension,
}

#[derive(Debug, Serialize, Deserialize)]
struct Storage {
    format: String,
    #[serde(default)]
    detail: Map<String, Value>,
}

/// What is logship's own.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Extension {
    destination: Store,
    #[serde(skip_serializing_if = "Map::is_empty")]
    compression: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    path: Map<String, Value>,
    #[serde(skip_serializing_if = "PartitionBy::is_created")]
    partition_by: PartitionBy,
    #[serde(skip_serializing_if = "rule::is_usual")]
    open_partitions: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transform: Vec<Choice>,
    stages: Stages,
    from: Start,
}

impl Extension {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Extension {
    fn default() -> Self {
        let rule = Rule::default();
        Self {
            destination: rule.destination,
            compression: rule.compression.settings,
            path: rule.path,
            partition_by: rule.partition_by,
            open_partitions: rule.open_partitions,
            transform: rule.transform,
            stages: rule.stages,
            from: rule.from,
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        let rule = Rule::default();
        Self {
            oss_bucket: rule.bucket,
            oss_prefix: rule.prefix,
            role_arn: rule.role,
            buffer_interval: rule.time_seconds,
            buffer_size: rule.size_mb,
            compress_type: rule.compression.name,
            path_format: rule.partition,
            time_zone: String::new(),
            enable: rule.enabled,
            storage: Storage::default(),
            logship: Extension::default(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { format: "json".into(), detail: Map::new() }
    }
}

/// The rule of a configuration. It is not checked yet.
///
/// # Errors
/// When it is not one, with the member that is wrong.
pub fn rule(name: &str, configuration: &Value) -> Result<Rule, RuleError> {
    let wrong = |problem: String| RuleError::field("targetConfiguration", problem);
    let parsed =
        members_of(configuration).map_err(|error| wrong(format!("{}: {}", error.path(), error.inner())))?;
    if configuration
        .get("encryptConf")
        .is_some_and(|encryption| !matches!(encryption, Value::Null) && *encryption != json!({}))
    {
        let problem = "encryption is set with the destination: encryption and encryption-key in the service's settings, or in logship.destination";
        return Err(RuleError::field("encryptConf", problem));
    }
    let Configuration { storage: Storage { format, detail }, logship, .. } = parsed;
    let Extension { destination, compression, path, partition_by, open_partitions, transform, stages, from } =
        logship;
    let settings = settings(&format, detail)?;
    let time_zone = match parsed.time_zone.as_str() {
        "" => TimeZone::default(),
        zone => zone.parse().map_err(|problem| RuleError::field("time_zone", problem))?,
    };
    let compress = if parsed.compress_type.is_empty() { NONE.into() } else { parsed.compress_type };
    Ok(Rule {
        name: name.to_owned(),
        bucket: parsed.oss_bucket,
        prefix: parsed.oss_prefix,
        partition: parsed.path_format,
        time_zone,
        partition_by,
        open_partitions,
        size_mb: parsed.buffer_size,
        time_seconds: parsed.buffer_interval,
        logstore: String::new(),
        format: Choice { name: format, settings },
        compression: Choice { name: compress, settings: compression },
        path,
        transform,
        stages,
        destination,
        role: parsed.role_arn,
        enabled: parsed.enable,
        from,
    })
}

/// The configuration of a rule.
pub fn configuration(rule: &Rule) -> Value {
    let time_zone = match rule.time_zone {
        zone if zone == TimeZone::default() => String::new(),
        TimeZone::Fixed(offset) => offset.to_string().replace(':', ""),
        TimeZone::Named(zone) => zone.to_string(),
    };
    json!(Configuration {
        oss_bucket: rule.bucket.clone(),
        oss_prefix: rule.prefix.clone(),
        role_arn: rule.role.clone(),
        buffer_interval: rule.time_seconds,
        buffer_size: rule.size_mb,
        compress_type: rule.compression.name.clone(),
        path_format: rule.partition.clone(),
        time_zone,
        enable: rule.enabled,
        storage: Storage { format: rule.format.name.clone(), detail: detail(&rule.format) },
        logship: Extension {
            destination: rule.destination.clone(),
            compression: rule.compression.settings.clone(),
            path: rule.path.clone(),
            partition_by: rule.partition_by,
            open_partitions: rule.open_partitions,
            transform: rule.transform.clone(),
            stages: rule.stages.clone(),
            from: rule.from,
        },
    })
}

/// What clients call a field of a rule.
pub fn member(field: &str) -> &str {
    match field {
        "name" => "shipperName",
        "bucket" => "ossBucket",
        "prefix" => "ossPrefix",
        "role" => "roleArn",
        "time_seconds" => "bufferInterval",
        "size_mb" => "bufferSize",
        "compression" => "compressType",
        "partition" => "pathFormat",
        "time_zone" => "timeZone",
        "format" => "storage",
        "stages.encoder" => "logship.stages.encoder",
        "stages.compressor" => "logship.stages.compressor",
        "destination" => "logship.destination",
        "transform" => "logship.transform",
        "partition_by" => "logship.partition_by",
        "open_partitions" => "logship.open_partitions",
        other => other,
    }
}

/// The configuration with its secrets hidden.
pub fn hide_secrets(configuration: &Value) -> Value {
    let mut shown = configuration.clone();
    for secret in SECRETS {
        if let Some(secret) = shown.pointer_mut(&pointer(secret)) {
            let hash = Sha256::digest(secret.as_str().unwrap_or_default());
            *secret = format!("{HIDDEN}{}", hex::encode(&hash[..4])).into();
        }
    }
    shown
}

/// Puts back the secrets of `before` where `configuration` has them hidden, for the same endpoint.
pub fn keep_secrets(configuration: &mut Value, before: &Value) {
    let endpoint = pointer("endpoint");
    if configuration.pointer(&endpoint) != before.pointer(&endpoint) {
        return;
    }
    for secret in SECRETS {
        if let Some(place) = configuration.pointer_mut(&pointer(secret))
            && place.as_str().is_some_and(|secret| secret.starts_with(HIDDEN))
            && let Some(known) = before.pointer(&pointer(secret))
        {
            place.clone_from(known);
        }
    }
}

/// The setting of a destination that is hidden, if one is.
pub(crate) fn hidden(remote: &Remote) -> Option<&'static str> {
    let values = [&remote.access_key_secret, &remote.security_token, &remote.external_id, &remote.proxy];
    let is_hidden = |value: &&Option<String>| value.as_ref().is_some_and(|value| value.starts_with(HIDDEN));
    SECRETS.into_iter().zip(values).find(|(_, value)| is_hidden(value)).map(|(secret, _)| secret)
}

fn pointer(secret: &str) -> String {
    format!("/logship/destination/{secret}")
}

fn members_of(configuration: &Value) -> Result<Configuration, serde_path_to_error::Error<serde_json::Error>> {
    // Clients send null for what they leave out.
    fn without_null(value: &Value) -> Value {
        match value {
            Value::Object(members) => members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_null(value)))
                .collect(),
            other => other.clone(),
        }
    }
    serde_path_to_error::deserialize(without_null(configuration))
}

/// The settings of a format's stage, of its `detail`. Members that have no meaning for it are passed over.
fn settings(format: &str, mut detail: Map<String, Value>) -> Result<Map<String, Value>, RuleError> {
    let wrong = |problem: String| RuleError::field("format", problem);
    let names: &[(&str, &str)] = match format {
        "json" => &[("enableTag", "tags"), ("reserved", "reserved"), ("nanos", "nanos")],
        "csv" => &[
            ("columns", "columns"),
            ("delemiter", "delimiter"),
            ("delimiter", "delimiter"),
            ("quote", "quote"),
            ("nullIdentfifier", "null"),
            ("nullIdentifier", "null"),
            ("header", "header"),
            ("invalid_utf8", "invalid_utf8"),
        ],
        "parquet" => &[("columns", "columns"), ("row_group_bytes", "row_group_bytes")],
        // Of a stage of somebody's own.
        _ => return Ok(detail),
    };
    if let Some(feed) =
        detail.get("lineFeed").and_then(Value::as_str).filter(|feed| !matches!(*feed, "\n" | ""))
    {
        return Err(wrong(format!("lineFeed {feed:?} can't be had: lines end with \"\\n\"")));
    }
    let mut settings = Map::new();
    for (member, setting) in names {
        if let Some(value) = detail.remove(*member).filter(|value| !value.is_null()) {
            settings.insert((*setting).to_owned(), value);
        }
    }
    if format == "parquet" {
        let columns = settings.get_mut("columns").and_then(Value::as_array_mut).into_iter().flatten();
        for column in columns.filter_map(Value::as_object_mut) {
            if let Some(name) = column.remove("name") {
                column.insert("key".into(), name);
            }
        }
    }
    Ok(settings)
}

/// The other way round.
fn detail(format: &Choice) -> Map<String, Value> {
    let renamed = |setting: &str| match (format.name.as_str(), setting) {
        ("json", "tags") => "enableTag".to_owned(),
        ("csv", "null") => "nullIdentifier".to_owned(),
        (_, setting) => setting.to_owned(),
    };
    let mut detail: Map<String, Value> =
        format.settings.iter().map(|(setting, value)| (renamed(setting), value.clone())).collect();
    if format.name == "parquet" {
        let columns = detail.get_mut("columns").and_then(Value::as_array_mut).into_iter().flatten();
        for column in columns.filter_map(Value::as_object_mut) {
            if let Some(key) = column.remove("key") {
                column.insert("name".into(), key);
            }
        }
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard() -> Value {
        json!({
            "ossBucket": "b", "ossPrefix": "dir", "roleArn": "acs:ram::1234:role/r", "bufferInterval": 300,
            "bufferSize": 10, "compressType": "snappy", "pathFormat": "%Y/%m", "timeZone": "+0800", "enable": false,
            "encryptConf": null, "unknown": 1,
            "storage": { "format": "csv", "detail": {
                "columns": ["k3", "k4"], "delemiter": "|", "header": false, "nullIdentifier": "-", "quote": "\"",
                "lineFeed": "\n", "columnsOfTomorrow": 1 } },
        })
    }

    #[test]
    fn a_configuration_of_the_vendors_clients_is_a_rule() {
        let rule = rule("to-b", &standard()).unwrap();
        assert_eq!((rule.bucket.as_str(), rule.size_mb, rule.enabled), ("b", 10, false));
        assert_eq!(rule.time_zone, "+08:00".parse().unwrap());
        assert_eq!(rule.compression, Choice::named("snappy"));
        assert_eq!(
            Value::from(rule.format.settings),
            json!({ "columns": ["k3", "k4"], "delimiter": "|", "header": false, "null": "-", "quote": "\"" })
        );
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let rule = rule("old", &json!({ "ossBucket": "b", "storage": null })).unwrap();
        assert_eq!(rule, Rule { name: "old".into(), bucket: "b".into(), ..Rule::default() });
    }

    #[test]
    fn a_rule_survives_the_way_there_and_back() {
        let text = r#"
            name = "all-of-it"
            bucket = "b"
            prefix = "p"
            partition = "ds=%Y"
            time_zone = "Asia/Shanghai"
            partition_by = "hour"
            open_partitions = 3
            size_mb = 5
            time_seconds = 900
            compression = { type = "zstd", level = 9 }
            path = { width = 4 }
            transform = ["./mine.wasm", { type = "fields", drop = ["b"], set = { c = 1 } }]
            destination = { type = "s3", endpoint = "http://x", access-key-id = "a", access-key-secret = "s" }
            role = "acs:ram::1:role/r"
            enabled = false
            from = "now"
            format = { type = "parquet", columns = [{ key = "a", type = "int64" }] }
            stages = { encoder = "mine" }
        "#;
        let whole: Rule = toml::from_str(text).unwrap();
        let configured = configuration(&whole);
        assert_eq!(rule("all-of-it", &configured).unwrap(), whole);
        assert_eq!(configured["storage"]["detail"]["columns"][0]["name"], "a");
        let plain = Rule { time_zone: "+0530".parse().unwrap(), ..Rule::default() };
        assert_eq!(rule(&plain.name, &configuration(&plain)).unwrap(), plain);
        assert!(configuration(&plain).get("logship").is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |configuration: Value| rule("r-1", &configuration).unwrap_err().to_string();
        assert!(problem(json!({ "bufferSize": "big" })).contains("bufferSize: invalid type"));
        assert!(problem(json!({ "timeZone": "Mars" })).contains("time_zone"));
        assert!(problem(json!({ "logship": { "stagez": {} } })).contains("stagez"));
        let crlf = json!({ "storage": { "format": "csv", "detail": { "lineFeed": "\r\n" } } });
        assert!(problem(crlf).contains("lineFeed"));
    }

    #[test]
    fn secrets_are_hidden_and_kept() {
        let own = |secret: &str| json!({ "logship": { "destination": { "type": "s3", "access-key-secret": secret } } });
        let shown = hide_secrets(&own("s3cret"));
        assert_eq!(shown, own("***1ec1c26b"));
        let mut set = shown;
        keep_secrets(&mut set, &own("s3cret"));
        assert_eq!(set, own("s3cret"));
        let mut changed = own("other");
        keep_secrets(&mut changed, &own("s3cret"));
        assert_eq!(changed, own("other"));
    }
}

//! SLS shipper config: the wire form of a rule, as Log Service's clients send it.
//!
//! A shipper has a target type and a target configuration. Settings that Log Service doesn't have are in the
//! configuration's `logship` member.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::rule::{self, NONE, PartitionBy, Rule, RuleError, StageSpec, Stages, Start, Store, TimeZone};
use crate::schema::{PartitionBySchema, StageSpecSchema};

/// The target type of rules that write objects, to any object store.
pub const OSS: &str = "oss";

/// The target configuration of a rule that writes objects. Clients omit any field, and add unknown ones.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Configuration {
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

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Storage {
    format: String,
    #[serde(default)]
    detail: Map<String, Value>,
}

/// Settings that only logship has.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Extension {
    destination: Store,
    #[serde(skip_serializing_if = "Map::is_empty")]
    compression: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    path: Map<String, Value>,
    #[serde(skip_serializing_if = "PartitionBy::is_created")]
    #[schemars(with = "PartitionBySchema")]
    partition_by: PartitionBy,
    #[serde(skip_serializing_if = "rule::is_default_open_partitions")]
    open_partitions: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>")]
    transform: Vec<StageSpec>,
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

/// Converts a target configuration to a rule, without validating the rule.
///
/// # Errors
/// Fails if the configuration can't be parsed; the error names the field.
pub fn to_rule(name: &str, configuration: &Value) -> Result<Rule, RuleError> {
    let invalid = |problem: String| RuleError::field("targetConfiguration", problem);
    let parsed =
        parse(configuration).map_err(|error| invalid(format!("{}: {}", error.path(), error.inner())))?;
    if configuration
        .get("encryptConf")
        .is_some_and(|encryption| !matches!(encryption, Value::Null) && *encryption != json!({}))
    {
        let problem = "encryptConf is not supported: set encryption and encryption-key in the service's settings or in logship.destination";
        return Err(RuleError::field("encryptConf", problem));
    }
    let Configuration { storage: Storage { format, detail }, logship, .. } = parsed;
    let Extension { destination, compression, path, partition_by, open_partitions, transform, stages, from } =
        logship;
    let is_custom = stages.encoder.is_some() || stages.pipeline.is_some();
    let settings = settings(&format, detail, is_custom)?;
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
        format: StageSpec { name: format, settings },
        compression: StageSpec { name: compress, settings: compression },
        path,
        transform,
        stages,
        destination,
        role: parsed.role_arn,
        enabled: parsed.enable,
        from,
    })
}

/// Converts a rule to a target configuration.
pub fn from_rule(rule: &Rule) -> Value {
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

/// Returns the wire name of a rule's field.
pub fn wire_name(field: &str) -> &str {
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

fn parse(configuration: &Value) -> Result<Configuration, serde_path_to_error::Error<serde_json::Error>> {
    // Some clients send null for an omitted field.
    fn without_null(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_null(value)))
                .collect(),
            other => other.clone(),
        }
    }
    serde_path_to_error::deserialize(without_null(configuration))
}

/// Converts a format's `detail` to settings of its stage. Ignores unknown fields, unless a custom stage may know them.
fn settings(
    format: &str,
    mut detail: Map<String, Value>,
    is_custom: bool,
) -> Result<Map<String, Value>, RuleError> {
    let invalid = |problem: String| RuleError::field("format", problem);
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
        // A custom stage takes its settings as they are.
        _ => return Ok(detail),
    };
    if let Some(feed) =
        detail.get("lineFeed").and_then(Value::as_str).filter(|feed| !matches!(*feed, "\n" | ""))
    {
        return Err(invalid(format!("lineFeed {feed:?} is not supported: use \"\\n\" or leave it out")));
    }
    let mut settings = Map::new();
    for (wire_name, setting) in names {
        if let Some(value) = detail.remove(*wire_name).filter(|value| !value.is_null()) {
            settings.insert((*setting).to_owned(), value);
        }
    }
    if is_custom {
        detail.remove("lineFeed");
        settings.extend(detail.into_iter().filter(|(_, value)| !value.is_null()));
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

/// Converts the settings of a format's stage to its `detail`.
fn detail(format: &StageSpec) -> Map<String, Value> {
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

    fn vendor_config() -> Value {
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
    fn converts_configuration_of_vendor_clients() {
        let rule = to_rule("to-b", &vendor_config()).unwrap();
        assert_eq!((rule.bucket.as_str(), rule.size_mb, rule.enabled), ("b", 10, false));
        assert_eq!(rule.time_zone, "+08:00".parse().unwrap());
        assert_eq!(rule.compression, StageSpec::named("snappy"));
        assert_eq!(
            Value::from(rule.format.settings),
            json!({ "columns": ["k3", "k4"], "delimiter": "|", "header": false, "null": "-", "quote": "\"" })
        );
    }

    #[test]
    fn omitted_fields_have_defaults() {
        let rule = to_rule("old", &json!({ "ossBucket": "b", "storage": null })).unwrap();
        assert_eq!(rule, Rule { name: "old".into(), bucket: "b".into(), ..Rule::default() });
    }

    #[test]
    fn rule_round_trips() {
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
        let complete: Rule = toml::from_str(text).unwrap();
        let config = from_rule(&complete);
        assert_eq!(to_rule("all-of-it", &config).unwrap(), complete);
        assert_eq!(config["storage"]["detail"]["columns"][0]["name"], "a");
        let plain = Rule { time_zone: "+0530".parse().unwrap(), ..Rule::default() };
        assert_eq!(to_rule(&plain.name, &from_rule(&plain)).unwrap(), plain);
        assert!(from_rule(&plain).get("logship").is_none());
    }

    #[test]
    fn custom_stage_keeps_its_settings() {
        for stages in ["encoder = \"mine\"", "pipeline = \"mine\""] {
            for format in ["json\", tags = true", "csv\", null = \"-\"", "none\""] {
                let text = format!(
                    r#"name = "r-1"
                    format = {{ type = "{format}, act = "trap", nested = {{ a = [1] }} }}
                    stages = {{ {stages} }}"#
                );
                let rule: Rule = toml::from_str(&text).unwrap();
                assert_eq!(to_rule("r-1", &from_rule(&rule)).unwrap(), rule, "{text}");
            }
        }
        let other = json!({ "storage": { "format": "json", "detail": { "act": "trap" } } });
        assert!(to_rule("r-1", &other).unwrap().format.settings.is_empty());
    }

    #[test]
    fn error_names_invalid_field() {
        let problem = |configuration: Value| to_rule("r-1", &configuration).unwrap_err().to_string();
        assert!(problem(json!({ "bufferSize": "big" })).contains("bufferSize: invalid type"));
        assert!(problem(json!({ "timeZone": "Mars" })).contains("time_zone"));
        assert!(problem(json!({ "logship": { "stagez": {} } })).contains("stagez"));
        let crlf = json!({ "storage": { "format": "csv", "detail": { "lineFeed": "\r\n" } } });
        assert!(problem(crlf).contains("lineFeed"));
    }
}

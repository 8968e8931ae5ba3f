//! The wire form of rules of MaxCompute, as clients of Log Service send them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{MaxComputeRule, TimeFormatType};
use crate::column_mapping::ColumnMapping;
use crate::maxcompute::MaxComputeConfig;
use crate::rule::{RuleError, StageSpec, Start, TimeZone};
use crate::schema::StageSpecSchema;
use crate::secret::Secret;

/// The target configuration. Clients omit any field, and add unknown ones.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Configuration {
    #[serde(skip_serializing_if = "String::is_empty")]
    odps_endpoint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    odps_tunnel_endpoint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    odps_project: String,
    odps_table: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    odps_rolearn: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    odps_access_key_id: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    odps_access_secret: Secret,
    fields: Vec<String>,
    partition_column: Vec<String>,
    partition_time_format: String,
    time_format_type: TimeFormatType,
    #[serde(skip_serializing_if = "String::is_empty")]
    time_zone: String,
    filter_invalid: bool,
    /// A number or a text of one.
    #[serde(deserialize_with = "number")]
    buffer_interval: u64,
    enable: bool,
    /// The name of a data source, in place of the fields about the project.
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "Extension::is_empty")]
    logship: Extension,
}

/// Settings that only logship has.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Extension {
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<MaxComputeConfig>,
    #[serde(skip_serializing_if = "ColumnMapping::is_empty")]
    columns: ColumnMapping,
    /// The longest wait of logs, if it is not the interval of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_seconds: Option<u64>,
    size_mb: u64,
    create_partition: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<StageSpecSchema>")]
    transform: Vec<StageSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    from: Start,
}

impl Extension {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Extension {
    fn default() -> Self {
        let rule = MaxComputeRule::default();
        Self {
            connection: None,
            columns: rule.columns,
            time_seconds: None,
            size_mb: rule.size_mb,
            create_partition: rule.create_partition,
            transform: rule.transform,
            stage: rule.stage,
            from: rule.from,
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        let rule = MaxComputeRule::default();
        Self {
            odps_endpoint: String::new(),
            odps_tunnel_endpoint: String::new(),
            odps_project: String::new(),
            odps_table: String::new(),
            odps_rolearn: String::new(),
            odps_access_key_id: String::new(),
            odps_access_secret: Secret::default(),
            fields: vec![],
            partition_column: vec![],
            partition_time_format: rule.partition_time_format,
            time_format_type: rule.time_format_type,
            time_zone: String::new(),
            filter_invalid: rule.filter_invalid,
            buffer_interval: rule.partition_seconds,
            enable: rule.enabled,
            source: rule.source,
            logship: Extension::default(),
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(deserializer)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.trim().parse().map_err(serde::de::Error::custom),
    }
}

impl Configuration {
    /// The connection of Log Service's own fields; `None` if the rule names a data source.
    fn connection(&mut self) -> Option<MaxComputeConfig> {
        if let Some(connection) = self.logship.connection.take() {
            return Some(connection);
        }
        if !self.source.is_empty() {
            return None;
        }
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Some(MaxComputeConfig {
            endpoint: self.odps_endpoint.clone(),
            tunnel_endpoint: text(&self.odps_tunnel_endpoint),
            project: self.odps_project.clone(),
            access_key_id: self.odps_access_key_id.clone(),
            access_key_secret: self.odps_access_secret.clone(),
            role: text(&self.odps_rolearn),
            ..MaxComputeConfig::default()
        })
    }
}

impl MaxComputeRule {
    /// Parses and checks the wire form of a rule.
    ///
    /// # Errors
    /// [`RuleError::Field`], if the configuration is invalid; the error names the field.
    pub fn of(name: &str, configuration: &Value) -> Result<Self, RuleError> {
        let wrong = |problem: String| RuleError::field("targetConfiguration", problem);
        let given: serde_json::Map<String, Value> = configuration.as_object().cloned().unwrap_or_default();
        // Some clients send null for an omitted field.
        let given: Value = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let mut parsed: Configuration = serde_path_to_error::deserialize(given)
            .map_err(|error| wrong(format!("{}: {}", error.path(), error.inner())))?;
        let time_zone = match parsed.time_zone.as_str() {
            "" => TimeZone::default(),
            zone => zone.parse().map_err(|problem| RuleError::field("time_zone", problem))?,
        };
        let connection = parsed.connection();
        let Configuration { logship, buffer_interval, .. } = parsed;
        let rule = Self {
            name: name.to_owned(),
            logstore: String::new(),
            source: parsed.source,
            connection,
            table: parsed.odps_table,
            columns: logship.columns,
            fields: parsed.fields,
            partition: parsed.partition_column,
            partition_time_format: parsed.partition_time_format,
            time_format_type: parsed.time_format_type,
            partition_seconds: buffer_interval,
            time_zone,
            filter_invalid: parsed.filter_invalid,
            create_partition: logship.create_partition,
            size_mb: logship.size_mb,
            time_seconds: logship.time_seconds.unwrap_or(buffer_interval),
            transform: logship.transform,
            stage: logship.stage,
            enabled: parsed.enable,
            from: logship.from,
        };
        rule.check()?;
        Ok(rule)
    }

    /// Returns the wire form of the rule.
    pub fn configuration(&self) -> Value {
        let time_zone = match self.time_zone {
            zone if zone == TimeZone::default() => String::new(),
            TimeZone::Fixed(offset) => offset.to_string().replace(':', ""),
            TimeZone::Named(zone) => zone.to_string(),
        };
        let is_interval = self.time_seconds == self.partition_seconds;
        json!(Configuration {
            odps_table: self.table.clone(),
            fields: self.fields.clone(),
            partition_column: self.partition.clone(),
            partition_time_format: self.partition_time_format.clone(),
            time_format_type: self.time_format_type,
            time_zone,
            filter_invalid: self.filter_invalid,
            buffer_interval: self.partition_seconds,
            enable: self.enabled,
            source: self.source.clone(),
            logship: Extension {
                connection: self.connection.clone(),
                columns: self.columns.clone(),
                time_seconds: (!is_interval).then_some(self.time_seconds),
                size_mb: self.size_mb,
                create_partition: self.create_partition,
                transform: self.transform.clone(),
                stage: self.stage.clone(),
                from: self.from,
            },
            ..Configuration::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_clients_of_log_service_send() {
        let sent = json!({
            "odpsEndpoint": "https://service.cn-hangzhou.maxcompute.aliyun.com/api", "odpsProject": "p",
            "odpsTunnelEndpoint": "https://dt.cn-hangzhou.maxcompute.aliyun.com", "odpsTable": "t",
            "odpsRolearn": "acs:ram::1:role/r", "odpsAccessKeyId": "a", "odpsAccessSecret": "s",
            "fields": ["content", "__source__"], "partitionColumn": ["__partition_time__", "status"],
            "partitionTimeFormat": "yyyy_MM_dd", "timeFormatType": "JavaSimpleDateFormat", "timeZone": "+0800",
            "filterInvalid": null, "bufferInterval": "3600", "unknown": 1,
        });
        let rule = MaxComputeRule::of("to-t", &sent).unwrap();
        let connection = rule.connection.as_ref().unwrap();
        assert_eq!(
            (connection.project.as_str(), connection.role.as_deref()),
            ("p", Some("acs:ram::1:role/r"))
        );
        assert_eq!((rule.partition_seconds, rule.time_seconds, rule.filter_invalid), (3600, 3600, true));
        assert_eq!(rule.partition_format().unwrap().value(1_495_190_580), "2017_05_19");
        assert_eq!(MaxComputeRule::of("to-t", &rule.configuration()).unwrap(), rule);
    }

    #[test]
    fn own_form_round_trips() {
        let text = "name = 'r-1'\nsource = 's'\ntable = 't'\npartition = ['__partition_time__']\ntime_seconds = 60\ncolumns = [{ column = 'a', system = 'time' }]\nfrom = 'now'";
        let rule: MaxComputeRule = toml::from_str(text).unwrap();
        assert_eq!(MaxComputeRule::of("r-1", &rule.configuration()).unwrap(), rule);
        assert!(toml::to_string(&rule).unwrap().contains("source = \"s\""));
    }

    #[test]
    fn names_the_missing_or_wrong_field() {
        let problem = |sent: Value| MaxComputeRule::of("r-1", &sent).unwrap_err().to_string();
        assert!(problem(json!({ "odpsTable": "t" })).contains("endpoint is missing"));
        let source = json!({ "source": "s" });
        assert!(problem(source).contains("table"));
        let with = |more: Value| {
            let mut sent = json!({ "odpsTable": "t", "source": "s" });
            sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            problem(sent)
        };
        assert!(with(json!({ "bufferInterval": "x" })).contains("bufferInterval"));
        assert!(with(json!({ "bufferInterval": 0 })).contains("time_seconds"));
        assert!(with(json!({ "timeZone": "Mars" })).contains("time_zone"));
        assert!(with(json!({ "timeFormatType": "Other" })).contains("timeFormatType"));
        let format = json!({ "partitionColumn": ["__partition_time__"], "partitionTimeFormat": "%Y/%m" });
        assert!(with(format).contains("partition_time_format"));
        assert!(with(json!({ "fields": [1] })).contains("fields"));
    }
}

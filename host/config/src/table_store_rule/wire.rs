//! The wire form of rules of Table Store, as clients set it.

use serde_json::{Map, Value};

use super::TableStoreRule;
use crate::rule::RuleError;

/// Members of the file's form that the wire form has elsewhere.
const ELSEWHERE: [&str; 2] = ["name", "logstore"];

impl TableStoreRule {
    /// Parses and checks the wire form of a rule. It is the file's form without name and Logstore, and with `enable` in
    /// place of `enabled`. It may have `exclusive_columns` and `transform` as LogHub Shipper's settings have them: as
    /// `exclude` and `columns`.
    ///
    /// # Errors
    /// [`RuleError::Field`], if the configuration is invalid; the error names the field.
    pub fn of(name: &str, configuration: &Value) -> Result<Self, RuleError> {
        let wrong = |error: &dyn std::fmt::Display| RuleError::field("targetConfiguration", error);
        let mut members = match configuration {
            Value::Object(members) => members.clone(),
            other => return Err(wrong(&format_args!("must be an object, not {other}"))),
        };
        members.retain(|_, value| !value.is_null());
        if let Some(member) = ELSEWHERE.iter().find(|member| members.contains_key(**member)) {
            return Err(wrong(&format_args!("unknown field `{member}`")));
        }
        if let Some(enable) = members.remove("enable") {
            members.insert("enabled".into(), enable);
        }
        if let Some(exclude) = members.remove("exclusive_columns") {
            members.insert("exclude".into(), exclude);
        }
        if let Some(Value::Object(columns)) = members.get("transform") {
            let columns = columns.clone();
            members.remove("transform");
            let known = members.entry("columns").or_insert_with(|| Map::new().into());
            if let Value::Object(known) = known {
                known.extend(columns);
            }
        }
        let parsed: Self =
            serde_path_to_error::deserialize(Value::Object(members)).map_err(|error| wrong(&error))?;
        let rule = Self { name: name.into(), ..parsed };
        rule.check()?;
        Ok(rule)
    }

    /// Returns the wire form of the rule.
    pub fn configuration(&self) -> Value {
        let Ok(Value::Object(mut members)) = serde_json::to_value(self) else { return Value::Null };
        ELSEWHERE.iter().for_each(|member| drop(members.remove(*member)));
        if let Some(enabled) = members.remove("enabled") {
            members.insert("enable".into(), enabled);
        }
        members.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table_store::TableStoreConfig;
    use crate::table_store_rule::{CellVersion, WriteMode};

    fn complete() -> TableStoreRule {
        let text = r#"
            name = "to-table"
            source = "tables"
            table = "logs"
            key = ["device", "at"]
            exclude = ["pass"]
            write = "update"
            version = "log-time"
            create_table = true
            columns = { at = "(->int 10 time)", agent = "user-agent", kind = "'web'" }
            transform = [{ type = "fields", drop = ["b"] }]
            from = "now"
        "#;
        toml::from_str(text).unwrap()
    }

    #[test]
    fn rule_round_trips_through_configuration() {
        let rule = complete();
        assert_eq!((rule.write, rule.version), (WriteMode::Update, CellVersion::LogTime));
        assert_eq!(TableStoreRule::of("to-table", &rule.configuration()).unwrap(), rule);
        assert!(rule.configuration().get("name").is_none());
        let inline = TableStoreRule {
            source: String::new(),
            connection: Some(TableStoreConfig {
                endpoint: "http://h".into(),
                instance: "i".into(),
                access_key_id: "a".into(),
                access_key_secret: "s".into(),
                ..TableStoreConfig::default()
            }),
            ..rule
        };
        assert_eq!(TableStoreRule::of("to-table", &inline.configuration()).unwrap(), inline);
    }

    #[test]
    fn accepts_settings_of_loghub_shipper() {
        let rule = TableStoreRule::of(
            "old-1",
            &json!({
                "source": "s", "table": "t", "key": ["trans-pkey"], "exclusive_columns": ["a"], "connection": null,
                "transform": { "rename": "original", "trans-pkey": "(->int 10 original)" },
            }),
        );
        // The sample of its documentation, with a name that the service refuses.
        let error = rule.unwrap_err().to_string();
        assert!(error.contains("columns: \"trans-pkey\""), "{error}");
        let rule = TableStoreRule::of(
            "old-1",
            &json!({
                "source": "s", "table": "t", "key": ["trans_pkey"], "exclusive_columns": ["a"],
                "transform": { "rename": "original", "trans_pkey": "(->int 10 original)" },
            }),
        )
        .unwrap();
        assert_eq!(rule.key_columns(), [("trans_pkey".to_owned(), "integer")]);
        assert_eq!((rule.columns["rename"].to_string().as_str(), rule.exclude.len()), ("original", 1));
    }

    #[test]
    fn error_names_field() {
        let problem =
            |configuration: Value| TableStoreRule::of("r-1", &configuration).unwrap_err().to_string();
        assert!(problem(json!({ "table": "t", "source": "s", "tabel": 1 })).contains("tabel"));
        assert!(problem(json!({ "table": "t", "source": "s", "name": "x" })).contains("name"));
        assert!(problem(json!([])).contains("must be an object"));
        assert!(
            problem(json!({ "table": "t", "source": "s", "columns": { "a": "(->x b)" } })).contains("->x b")
        );
    }
}

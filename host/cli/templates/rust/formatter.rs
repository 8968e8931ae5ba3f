//! The stage `{{name}}`: formats each log as an event for Splunk's HTTP Event Collector.

mod batch;
mod config;

use exports::logship::siem::formatter::{
    Description, Error, Guest, GuestSession, Messages, Session, Transport,
};
use logship::batch::types::LogBatch;
use serde_json::{Map, Value, json};

wit_bindgen::generate!({ path: "wit", world: "logship:stages/formatter", generate_all });

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": { "index": { "type": "string", "default": "main", "description": "The index of the events." } }
}"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    index: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            index: "main".into(),
        }
    }
}

struct Stage;

impl Guest for Stage {
    type Session = Events;

    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            transport: Transport::Hec,
            config_schema: SCHEMA.into(),
        }
    }
}

/// An open session.
struct Events {
    config: Config,
}

impl GuestSession for Events {
    fn open(config: String) -> Result<Session, Error> {
        let config = config::parse(&config)?;
        Ok(Session::new(Self { config }))
    }

    fn push(&self, batch: LogBatch) -> Result<Messages, Error> {
        if let Some(invariant) = batch::broken_invariant(&batch) {
            return Err(Error::InvalidBatch(invariant.into()));
        }
        let (mut bytes, mut ends) = (vec![], vec![]);
        for log in 0..batch.times.len() {
            bytes.extend(self.event(&batch, log).to_string().into_bytes());
            ends.push(bytes.len() as u32);
        }
        // An empty list: message i is from log i.
        Ok(Messages {
            bytes,
            ends,
            logs: vec![],
        })
    }
}

impl Events {
    fn event(&self, batch: &LogBatch, log: usize) -> Value {
        let text = |value: &[u8]| Value::from(String::from_utf8_lossy(value));
        // A map has each member once: of a repeated key the last value counts.
        let event: Map<_, _> = batch::fields(batch, log)
            .map(|(key, value)| (batch::field_name(&batch.keys[key]), text(value)))
            .collect();
        json!({
            "time": batch.times[log],
            "host": batch.groups[batch.log_groups[log] as usize].source,
            "index": self.config.index,
            "event": event,
        })
    }
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logship::batch::types::LogGroup;

    #[test]
    fn event_has_the_fields_of_the_log() {
        let batch = LogBatch {
            groups: vec![LogGroup {
                topic: String::new(),
                source: "10.0.0.1".into(),
                tags: vec![],
            }],
            keys: vec!["method".into(), "__source__".into()],
            times: vec![7],
            nanos: vec![],
            log_groups: vec![0],
            field_ends: vec![2],
            field_keys: vec![0, 1],
            value_ends: vec![3, 4],
            values: b"GETx".to_vec(),
        };
        let event = Events {
            config: Config::default(),
        }
        .event(&batch, 0);
        let expected =
            json!({"time": 7, "host": "10.0.0.1", "index": "main", "event": {"method": "GET", "__field__:__source__": "x"}});
        assert_eq!(event, expected);
    }
}

//! The stage `{{name}}`: drops the fields with some keys.

mod batch;
mod config;

use exports::logship::transform::transformer::{
    Description, Error, Guest, GuestSession, Session, Transformed,
};
use logship::batch::types::LogBatch;

wit_bindgen::generate!({ path: "wit", world: "logship:stages/transformer", generate_all });

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "drop": { "type": "array", "items": { "type": "string" }, "default": ["password"], "description": "Keys of fields to drop." }
  }
}"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    drop: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            drop: vec!["password".into()],
        }
    }
}

struct Stage;

impl Guest for Stage {
    type Session = Dropping;

    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: SCHEMA.into(),
        }
    }
}

/// An open session.
struct Dropping {
    config: Config,
}

impl GuestSession for Dropping {
    fn open(config: String) -> Result<Session, Error> {
        let config = config::parse(&config)?;
        Ok(Session::new(Self { config }))
    }

    fn push(&self, batch: LogBatch) -> Result<Transformed, Error> {
        if let Some(invariant) = batch::broken_invariant(&batch) {
            return Err(Error::InvalidBatch(invariant.into()));
        }
        // An empty list: output log i is from input log i.
        Ok(Transformed {
            batch: self.without(batch),
            logs: vec![],
        })
    }
}

impl Dropping {
    fn without(&self, batch: LogBatch) -> LogBatch {
        let is_dropped: Vec<bool> = batch
            .keys
            .iter()
            .map(|key| self.config.drop.contains(key))
            .collect();
        if !is_dropped.contains(&true) {
            return batch;
        }
        let (mut field_ends, mut field_keys, mut value_ends) = (vec![], vec![], vec![]);
        let mut values = Vec::with_capacity(batch.values.len());
        for log in 0..batch.times.len() {
            for (key, value) in batch::fields(&batch, log).filter(|(key, _)| !is_dropped[*key]) {
                field_keys.push(key as u32);
                values.extend_from_slice(value);
                value_ends.push(values.len() as u32);
            }
            field_ends.push(field_keys.len() as u32);
        }
        LogBatch {
            field_ends,
            field_keys,
            value_ends,
            values,
            ..batch
        }
    }
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_fields_by_key() {
        let batch = LogBatch {
            groups: vec![],
            keys: vec!["password".into(), "user".into()],
            times: vec![7, 8],
            nanos: vec![],
            log_groups: vec![0, 0],
            field_ends: vec![2, 3],
            field_keys: vec![0, 1, 1],
            value_ends: vec![6, 9, 12],
            values: b"secretannbob".to_vec(),
        };
        let output = Dropping {
            config: Config::default(),
        }
        .without(batch);
        assert_eq!(
            (output.field_ends, output.value_ends, output.values),
            (vec![1, 2], vec![3, 6], b"annbob".to_vec())
        );
    }
}

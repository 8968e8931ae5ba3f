//! The stage `{{name}}`: one line per log: its time and its values, separated by tabs.

mod batch;
mod config;

use std::cell::Cell;

use exports::logship::encode::encoder::{
    Description, Error, Guest, GuestObject, Object,
};
use logship::batch::types::LogBatch;

wit_bindgen::generate!({ path: "wit", world: "logship:stages/encoder", generate_all });

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": { "empty": { "type": "string", "default": "-", "description": "The replacement of an empty value." } }
}"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    empty: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { empty: "-".into() }
    }
}

struct Stage;

impl Guest for Stage {
    type Object = Lines;

    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "tsv".into(),
            suffix: ".tsv".into(),
            media_type: "text/tab-separated-values".into(),
            config_schema: SCHEMA.into(),
            compressions: vec![],
        }
    }
}

/// An open object.
struct Lines {
    config: Config,
    size: Cell<u64>,
}

impl GuestObject for Lines {
    fn open(config: String) -> Result<Object, Error> {
        let config = config::parse(&config)?;
        Ok(Object::new(Self {
            config,
            size: Cell::new(0),
        }))
    }

    fn push(&self, batch: LogBatch) -> Result<Vec<u8>, Error> {
        if let Some(invariant) = batch::broken_invariant(&batch) {
            return Err(Error::InvalidBatch(invariant.into()));
        }
        let bytes = self.lines(&batch);
        self.size.set(self.size.get() + bytes.len() as u64);
        Ok(bytes)
    }

    fn size(&self) -> u64 {
        self.size.get()
    }

    fn finish(_: Object) -> Result<Vec<u8>, Error> {
        Ok(vec![])
    }
}

impl Lines {
    fn lines(&self, batch: &LogBatch) -> Vec<u8> {
        let mut out = Vec::with_capacity(batch.values.len() * 2);
        for (log, time) in batch.times.iter().enumerate() {
            out.extend_from_slice(time.to_string().as_bytes());
            for (_, value) in batch::fields(batch, log) {
                out.push(b'\t');
                let value = if value.is_empty() {
                    self.config.empty.as_bytes()
                } else {
                    value
                };
                out.extend(
                    value
                        .iter()
                        .map(|&byte| if byte < b' ' { b' ' } else { byte }),
                );
            }
            out.push(b'\n');
        }
        out
    }
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_time_and_values() {
        let batch = LogBatch {
            groups: vec![],
            keys: vec!["method".into(), "user".into()],
            times: vec![7],
            nanos: vec![],
            log_groups: vec![0],
            field_ends: vec![2],
            field_keys: vec![0, 1],
            value_ends: vec![4, 4],
            values: b"GE\tT".to_vec(),
        };
        let lines = Lines {
            config: Config::default(),
            size: Cell::new(0),
        };
        assert_eq!(lines.lines(&batch), b"7\tGE T\t-\n");
    }
}

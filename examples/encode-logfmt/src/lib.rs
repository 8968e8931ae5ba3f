//! A custom encoder: logs as logfmt, `ts=1484913043 method=GET path="/a b"`.

use logship_stage::encode::Description;
use logship_stage::{Batch, Encoder, JsonSchema, Log, Result, config};

/// An open object of logfmt lines.
pub struct Logfmt {
    config: Config,
    size: u64,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// The key of the log's time.
    time_key: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { time_key: "ts".into() }
    }
}

impl Encoder for Logfmt {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "logfmt".into(),
            suffix: ".logfmt".into(),
            media_type: "text/plain; charset=utf-8".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![],
        }
    }

    fn open(text: &str) -> Result<Self> {
        Ok(Self { config: config::parse(text)?, size: 0 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        let mut lines = String::with_capacity(batch.raw().values.len() * 2);
        for log in batch.groups().flat_map(|group| group.logs()) {
            self.push_line(&log, &mut lines);
        }
        self.size += lines.len() as u64;
        Ok(lines.into_bytes())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}

impl Logfmt {
    fn push_line(&self, log: &Log<'_>, out: &mut String) {
        *out += &format!("{}={}", self.config.time_key, log.time());
        for field in log.fields() {
            let value = String::from_utf8_lossy(field.value());
            let plain = !value.is_empty() && !value.contains(|c: char| c <= ' ' || "\"=\\".contains(c));
            let key: String =
                field.key().chars().map(|c| if c <= ' ' || "\"=".contains(c) { '_' } else { c }).collect();
            // A field called like the time must not pass for it.
            *out += if key == self.config.time_key { " field_" } else { " " };
            *out += &key;
            out.push('=');
            if plain {
                *out += &value;
            } else {
                *out += &format!("{value:?}");
            }
        }
        out.push('\n');
    }
}

logship_stage::export_encoder!(Logfmt);

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;

    use super::*;

    #[test]
    fn fields_never_pass_for_the_time() {
        let batch = BatchBuilder::new().log(7, &[("ts", "1"), ("__time__", "1")]).build();
        let line = String::from_utf8(Logfmt::open("").unwrap().push(&batch).unwrap()).unwrap();
        assert_eq!(line, "ts=7 field_ts=1 __field__:__time__=1\n");
    }

    #[test]
    fn quotes_values_if_necessary() {
        let fields = [("method", "GET"), ("path", "/a b"), ("a key", ""), ("note", "say \"hi\"\n")];
        let batch = BatchBuilder::new().log(7, &fields).build();
        let mut logfmt = Logfmt::open(r#"{"time_key": "time"}"#).unwrap();
        let line = String::from_utf8(logfmt.push(&batch).unwrap()).unwrap();
        assert_eq!(line, "time=7 method=GET path=\"/a b\" a_key=\"\" note=\"say \\\"hi\\\"\\n\"\n");
    }
}

//! The stage `{{name}}`: makes the key of an object, `PREFIX/shard=N/PARTITION_ID` followed by the suffix.

mod config;

use config::invalid;
use exports::logship::object_path::renderer::{Description, Error, Guest, Request};

wit_bindgen::generate!({ path: "wit", world: "logship:stages/renderer", generate_all });

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": { "level": { "type": "string", "default": "shard", "description": "The name before the number." } }
}"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: "shard".into(),
        }
    }
}

struct Stage;

impl Guest for Stage {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: SCHEMA.into(),
        }
    }

    fn render(config: String, request: Request) -> Result<String, Error> {
        let config = config::parse(&config)?;
        key(&config, &request)
    }
}

fn key(config: &Config, request: &Request) -> Result<String, Error> {
    let prefix = request.prefix.strip_suffix('/').unwrap_or(&request.prefix);
    let partition = partition(request)?;
    // Both identify the task, so no two tasks have the same key.
    let id = format!(
        "{}_{}{}",
        request.creation_time, request.number, request.suffix
    );
    let mut key = String::new();
    if !prefix.is_empty() {
        key += &format!("{prefix}/");
    }
    key += &format!("{}={}/", config.level, request.shard);
    if !partition.is_empty() {
        key += &format!("{partition}_");
    }
    key += &id;
    // The host rejects such keys too, but cannot say why they are made.
    let is_invalid_level = |level: &str| matches!(level, "" | "." | "..");
    if key.len() > 1023
        || key.starts_with('\\')
        || key.chars().any(char::is_control)
        || key.split('/').any(is_invalid_level)
    {
        return Err(invalid("prefix", format!("{key:.80?} is not a valid key")));
    }
    Ok(key)
}

/// Renders the partition format at the partition time, in the rule's time zone.
fn partition(request: &Request) -> Result<String, Error> {
    let seconds = (request.partition_time / 1_000_000_000) as i64 + i64::from(request.utc_offset);
    let ((year, month, day), second) =
        (date(seconds.div_euclid(86_400)), seconds.rem_euclid(86_400));
    let mut out = String::new();
    let mut letters = request.partition_format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => out += &format!("{year:04}"),
            Some('m') => out += &format!("{month:02}"),
            Some('d') => out += &format!("{day:02}"),
            Some('H') => out += &format!("{:02}", second / 3_600),
            Some('M') => out += &format!("{:02}", second / 60 % 60),
            Some('S') => out += &format!("{:02}", second % 60),
            Some('%') => out.push('%'),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(invalid(
                    "partition-format",
                    format!("%{other} is not supported; use %Y %m %d %H %M %S %%"),
                ));
            }
        }
    }
    Ok(out)
}

/// Returns year, month and day of a day since 1970-01-01 (algorithm by Howard Hinnant).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_shard_and_partition() {
        let request = Request {
            rule: "to-lake".into(),
            project: "shop".into(),
            logstore: "access".into(),
            shard: 3,
            prefix: "logs".into(),
            partition_format: "ds=%Y%m%d/%H".into(),
            partition_time: 1_484_913_043_351_525_351,
            utc_offset: 28_800,
            creation_time: 1_484_913_043_351_525_351,
            number: 7,
            suffix: ".csv".into(),
        };
        let found = key(&Config::default(), &request).unwrap();
        assert_eq!(
            found,
            "logs/shard=3/ds=20170120/19_1484913043351525351_7.csv"
        );
        assert!(
            key(
                &Config::default(),
                &Request {
                    prefix: "../a".into(),
                    ..request
                }
            )
            .is_err()
        );
    }
}

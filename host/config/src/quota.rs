//! Quotas of keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The quota of a key. Unset values are unlimited. Bytes are those of logs before compression. A request over a quota gets
/// `WriteQuotaExceed` or `ReadQuotaExceed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quota {
    /// The bytes of logs put per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub write_bytes_per_second: Option<u64>,
    /// The logs put per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub write_logs_per_second: Option<u64>,
    /// The bytes of logs put per day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_day: Option<u64>,
    /// The logs put per day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_logs_per_day: Option<u64>,
    /// The bytes of logs pulled per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub read_bytes_per_second: Option<u64>,
    /// The logs pulled per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub read_logs_per_second: Option<u64>,
    /// The bytes of logs pulled per day of UTC. The last pull may exceed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_day: Option<u64>,
    /// The logs pulled per day of UTC. The last pull may exceed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_logs_per_day: Option<u64>,
}

impl Quota {
    /// The names of the values.
    pub const NAMES: [&str; 8] = [
        "write-bytes-per-second",
        "write-logs-per-second",
        "write-bytes-per-day",
        "write-logs-per-day",
        "read-bytes-per-second",
        "read-logs-per-second",
        "read-bytes-per-day",
        "read-logs-per-day",
    ];

    /// Sets a value by its name. None makes it unlimited.
    ///
    /// # Errors
    /// When no value has the name, or the value is 0 per second.
    pub fn set(&mut self, name: &str, value: Option<u64>) -> Result<(), String> {
        let field = match name {
            "write-bytes-per-second" => &mut self.write_bytes_per_second,
            "write-logs-per-second" => &mut self.write_logs_per_second,
            "write-bytes-per-day" => &mut self.write_bytes_per_day,
            "write-logs-per-day" => &mut self.write_logs_per_day,
            "read-bytes-per-second" => &mut self.read_bytes_per_second,
            "read-logs-per-second" => &mut self.read_logs_per_second,
            "read-bytes-per-day" => &mut self.read_bytes_per_day,
            "read-logs-per-day" => &mut self.read_logs_per_day,
            _ => return Err(format!("no quota {name:?}: use {}", Self::NAMES.join(", "))),
        };
        if value == Some(0) && name.ends_with("second") {
            return Err(format!("{name}=0 is out of range: use 1 or more, or unlimited"));
        }
        *field = value;
        Ok(())
    }

    /// Returns the first value that is out of range.
    pub fn problem(&self) -> Option<&'static str> {
        let rates = [
            self.write_bytes_per_second,
            self.write_logs_per_second,
            self.read_bytes_per_second,
            self.read_logs_per_second,
        ];
        let names = Self::NAMES.iter().filter(|name| name.ends_with("second"));
        rates.iter().zip(names).find(|(rate, _)| **rate == Some(0)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_sets_its_value() {
        for name in Quota::NAMES {
            let mut quota = Quota::default();
            quota.set(name, Some(7)).unwrap();
            assert_eq!(toml::to_string(&quota).unwrap(), format!("{name} = 7\n"));
            quota.set(name, None).unwrap();
            assert_eq!(quota, Quota::default());
        }
        let error = Quota::default().set("bytes", Some(1)).unwrap_err();
        assert!(error.contains("write-bytes-per-second"), "{error}");
        assert!(Quota::default().set("read-logs-per-second", Some(0)).is_err());
    }

    #[test]
    fn finds_rate_of_zero() {
        let quota = Quota { read_bytes_per_second: Some(0), read_bytes_per_day: Some(0), ..Quota::default() };
        assert_eq!(quota.problem(), Some("read-bytes-per-second"));
        assert_eq!(Quota::default().problem(), None);
    }
}

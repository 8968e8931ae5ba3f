//! The file of `logship rule apply`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::maxcompute_rule::MaxComputeRule;
use crate::rule::{Rule, RuleError};
use crate::siem_rule::SiemRule;
use crate::table_store_rule::TableStoreRule;

/// The rules of a file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFile {
    /// Rules that ship objects.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Rules that send events to receivers.
    pub siem: Vec<SiemRule>,
    /// Rules that write rows to Table Store.
    pub ots: Vec<TableStoreRule>,
    /// Rules that write rows to MaxCompute.
    pub odps: Vec<MaxComputeRule>,
}

impl RuleFile {
    /// Parses the text of a file with one rule, or several as `[[rule]]`, `[[siem]]`, `[[ots]]` and `[[odps]]`. Does not
    /// check the rules, and leaves paths of components unchanged.
    ///
    /// # Errors
    /// [`RuleError::File`], with line and column.
    pub fn parse(text: &str, file: &Path) -> Result<Self, RuleError> {
        let invalid = |error: toml::de::Error| RuleError::file(file, error);
        let table: toml::Table = toml::from_str(text).map_err(invalid)?;
        if ["rule", "siem", "ots", "odps"]
            .iter()
            .any(|several| table.get(*several).is_some_and(toml::Value::is_array))
        {
            return toml::from_str(text).map_err(invalid);
        }
        let rule = toml::from_str(text).map_err(invalid)?;
        Ok(Self { rules: vec![rule], ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_has_one_rule_or_several() {
        let parse = |text: &str| RuleFile::parse(text, Path::new("rules.toml"));
        let one = parse("name = 'one'").unwrap();
        assert_eq!((one.rules[0].name.as_str(), one.siem.len()), ("one", 0));
        let several =
            parse("[[rule]]\nname = 'a-1'\n[[siem]]\nname = 'b-1'\n[[siem]]\nname = 'b-2'").unwrap();
        assert_eq!((several.rules.len(), several.siem.len()), (1, 2));
        let error = parse("[[siem]]\ntoken = 't'").unwrap_err().to_string();
        assert!(error.contains("rules.toml") && error.contains("unknown field `token`"), "{error}");
    }
}

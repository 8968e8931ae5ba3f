//! Checks of a stage's description and configuration, for every kind.

use std::fmt::Debug;

use boon::{CompileError, Compiler, Schemas, SchemeUrlLoader};
use serde_json::{Map, Value};

use crate::conformance::contract;
use crate::conformance::suite::{At, Checked, Problem, Suite};
use logship_runtime::stage::{Stage, StageError};

/// A setting that no stage knows.
const UNKNOWN: &str = "no-such-setting";

/// The members that descriptions of all kinds have.
pub(super) struct Description<'a> {
    pub(super) version: &'a str,
    /// Suffixes of keys.
    pub(super) suffixes: Vec<&'a str>,
    /// Names by which rules select the stage.
    pub(super) names: Vec<&'a str>,
    pub(super) schema: &'a str,
}

impl<'a> Description<'a> {
    pub(super) fn of(stage: &'a Stage) -> Self {
        let schema = stage.config_schema();
        // A pipeline joins the versions of its stages by `+`.
        let version = stage.identity().version().split('+').next().unwrap_or_default();
        let (suffixes, names): (Vec<&str>, Vec<&str>) = match stage {
            Stage::Encoder(stage) => {
                let about = stage.description();
                let inner = about.compressions.iter().map(|inner| (&*inner.suffix, &*inner.name));
                std::iter::once((&*about.suffix, &*about.format)).chain(inner).unzip()
            }
            Stage::Compressor(stage) => {
                let about = stage.description();
                (vec![&about.suffix], vec![&about.compression])
            }
            Stage::Pipeline(stage) => {
                let names = std::iter::once(stage.format()).chain(stage.compression());
                (vec![], names.collect())
            }
            Stage::RowEncoder(stage) => {
                (vec![], stage.description().protocols.iter().map(String::as_str).collect())
            }
            Stage::Renderer(_) | Stage::Formatter(_) | Stage::Transformer(_) => (vec![], vec![]),
        };
        Self { version, suffixes, names, schema }
    }

    fn check(&self) -> Checked {
        if let Err(error) = semver::Version::parse(self.version) {
            return Err(Problem::new(format!("version {:?}: {error}", self.version)));
        }
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        for suffix in &self.suffixes {
            if !(suffix.is_empty() || suffix.starts_with('.') && suffix.bytes().all(is_valid)) {
                let what = "is neither empty nor a dot followed by letters, digits, `.`, `-` or `_`";
                return Err(Problem::new(format!("suffix {suffix:?} {what}")));
            }
        }
        if let Some(name) = self.names.iter().find(|name| name.is_empty() || !name.bytes().all(is_valid)) {
            let what =
                "is the name in rules, and has other characters than letters, digits, `.`, `-` and `_`";
            return Err(Problem::new(format!("{name:?} {what}")));
        }
        Ok(format!("version {}", self.version))
    }
}

/// Checks that the description is valid, and the same at every call. `describe` asks an instance with an open
/// object.
pub(super) fn check(
    suite: &mut Suite,
    description: &Description<'_>,
    described: &dyn Debug,
    describe: impl FnOnce() -> Result<String, StageError>,
) {
    suite.check("describes-itself", contract::DESCRIPTION, || {
        let seen = description.check()?;
        let again = describe()?;
        let described = format!("{described:?}");
        if again != described {
            return Err(Problem::new(format!("first {described}, and then {again}")));
        }
        Ok(seen)
    });
}

/// Checks the configuration: its schema, that the stage accepts `config`, and that it rejects unknown
/// settings. `open` opens an object.
pub(super) fn check_config(
    suite: &mut Suite,
    schema: &str,
    config: &str,
    open: &dyn Fn(&str) -> Result<(), StageError>,
) {
    suite.check("takes-its-configuration", contract::CONFIG_TEXT, || {
        let input = || if config.is_empty() { "the empty configuration".into() } else { config.to_owned() };
        match open(config) {
            Err(error @ StageError::Config { .. }) if config.is_empty() => {
                Err(Problem::new(format!("{error}. If it needs a configuration, give one: --config '{{…}}'")))
            }
            other => other.at(input).map(|()| input()),
        }
    });
    suite.check("describes-its-configuration", contract::CONFIG_CHECKED, || schema_takes(schema, config));
    suite.check("refuses-an-unknown-setting", contract::CONFIG_CHECKED, || {
        let with = with_unknown(config);
        match open(&with) {
            Ok(()) => Err(Problem::new(format!("accepts {with}"))),
            Err(StageError::Config { path, reason, .. }) if format!("{path} {reason}").contains(UNKNOWN) => {
                Ok(reason)
            }
            Err(error @ StageError::Config { .. }) => {
                Err(Problem::new(format!("rejects {with} without naming {UNKNOWN}: {error}")))
            }
            Err(error) => Err(error).at(|| with),
        }
    });
    suite.check("refuses-what-is-no-json", contract::CONFIG_TEXT, || {
        for text in [config.trim_end().strip_suffix('}').unwrap_or("{").to_owned(), "no JSON".into()] {
            match open(&text) {
                Ok(()) => return Err(Problem::new(format!("accepts {text:?}"))),
                Err(StageError::Config { .. }) => {}
                Err(error) => return Err(error).at(|| format!("{text:?}")),
            }
        }
        Ok("by invalid-config".into())
    });
}

fn with_unknown(config: &str) -> String {
    with_member(config, UNKNOWN, 1)
}

/// Returns the configuration with one more setting.
pub(super) fn with_member(config: &str, key: &str, value: impl Into<Value>) -> String {
    let mut members: Map<String, Value> = serde_json::from_str(config).unwrap_or_default();
    members.insert(key.into(), value.into());
    Value::Object(members).to_string()
}

/// Checks that the text is a JSON Schema that accepts the configuration.
fn schema_takes(schema: &str, config: &str) -> Checked {
    let schema: Value = serde_json::from_str(schema).map_err(|error| Problem::new(error.to_string()))?;
    let config: Value =
        serde_json::from_str(if config.is_empty() { "{}" } else { config }).unwrap_or_default();
    const HERE: &str = "schema:config";
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    // An untrusted schema must not read files by reference.
    compiler.use_loader(Box::new(SchemeUrlLoader::new()));
    let wrong = |error: CompileError| Problem::new(format!("not a JSON Schema: {error:#}"));
    compiler.add_resource(HERE, schema).map_err(wrong)?;
    let compiled = compiler.compile(HERE, &mut schemas).map_err(wrong)?;
    match schemas.validate(&config, compiled) {
        Ok(()) => Ok("a JSON Schema, which the configuration fits".into()),
        Err(error) => {
            Err(Problem::new(format!("the stage accepts {config}, but its schema does not: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description<'a>(version: &'a str, suffix: &'a str, name: &'a str) -> Description<'a> {
        Description { version, suffixes: vec![suffix], names: vec![name], schema: "{}" }
    }

    #[test]
    fn reports_unusable_descriptions() {
        assert!(description("0.1.0", ".csv", "csv").check().is_ok());
        assert!(description("1.2.3-rc.1+x", "", "json").check().is_ok());
        for (version, suffix, name, expected) in [
            ("1.0", ".csv", "csv", "version \"1.0\""),
            ("1.0.0", "csv", "csv", "suffix \"csv\""),
            ("1.0.0", "./../csv", "csv", "suffix \"./../csv\""),
            ("1.0.0", ".csv", "", "\"\" is the name in rules"),
        ] {
            let problem = format!("{:?}", description(version, suffix, name).check().unwrap_err());
            assert!(problem.contains(&format!("{expected:?}")[1..expected.len()]), "{problem}");
        }
    }

    #[test]
    fn rejects_invalid_config_schema() {
        let is_valid =
            r#"{"type":"object","properties":{"level":{"type":"integer"}},"additionalProperties":false}"#;
        assert!(schema_takes(is_valid, "").is_ok());
        assert!(schema_takes(is_valid, r#"{"level":3}"#).is_ok());
        let expected =
            |schema: &str, config: &str| format!("{:?}", schema_takes(schema, config).unwrap_err());
        assert!(expected(is_valid, r#"{"level":"high"}"#).contains("its schema does not"));
        assert!(expected(r#"{"type":"objekt"}"#, "").contains("not a JSON Schema"));
        let elsewhere = r#"{"$ref":"file:///etc/hostname"}"#;
        assert!(expected(elsewhere, "").contains("not a JSON Schema"), "{}", expected(elsewhere, ""));
    }

    #[test]
    fn adds_unknown_setting_to_known_ones() {
        assert_eq!(with_unknown(""), r#"{"no-such-setting":1}"#);
        assert_eq!(with_unknown(r#"{"level": 3}"#), r#"{"level":3,"no-such-setting":1}"#);
    }
}

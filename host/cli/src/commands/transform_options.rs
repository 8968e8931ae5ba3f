use std::path::Path;

use clap::Args;
use serde_json::{Map, Value};

use super::Failure;
use logship_config::rule::StageSpec;

/// The transformers of a rule.
#[derive(Debug, Args)]
pub(super) struct TransformOptions {
    /// Transforms the logs with this stage, a name or a path; overrides the rule's transforms. Settings are JSON,
    /// or a JSON or TOML file: fields='{"drop":["cookie"]}', fields=@redact.toml, ./mine.wasm. Repeatable: applied
    /// in order.
    #[arg(long, value_name = "STAGE[=SETTINGS]")]
    transform: Vec<String>,
}

impl TransformOptions {
    /// Replaces a rule's transforms, if any were given.
    pub(super) fn apply_to(&self, transforms: &mut Vec<StageSpec>) -> Result<(), Failure> {
        if !self.transform.is_empty() {
            *transforms =
                self.transform.iter().map(|option| parse_transform(option)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

/// Parses `STAGE[=SETTINGS]`.
fn parse_transform(given: &str) -> Result<StageSpec, Failure> {
    // Searches for `={` and `=@`, because a path may contain `=`.
    let Some(separator) = given.find("={").or_else(|| given.find("=@")) else {
        return match given.split_once('=') {
            Some((name, _)) if !name.contains('/') => Err(format!(
                "--transform {given}: settings must be a JSON object or @FILE, such as {name}='{{\"drop\":[\"cookie\"]}}'"
            )
            .into()),
            _ => Ok(StageSpec::named(given)),
        };
    };
    let (name, settings) = (&given[..separator], &given[separator + 1..]);
    let settings = match settings.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None => serde_json::from_str(settings).map_err(|error| error.to_string()),
    };
    let settings = settings.map_err(|problem| format!("--transform {name}: {problem}"))?;
    Ok(StageSpec { name: name.to_owned(), settings })
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let failure = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| failure(&error))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| failure(&error));
    }
    toml::from_str(&text).map_err(|error| failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_stage_and_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (toml, json) =
            (file("a.toml", "drop = ['x']\n[mask]\nip = '\\d+'"), file("b", " {\"drop\": [\"x\"]}"));
        let shown = |given: &str| match parse_transform(given) {
            Ok(spec) => format!("{} {}", spec.name, Value::from(spec.settings)),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown("fields"), "fields {}");
        assert_eq!(shown("./a=b.wasm"), "./a=b.wasm {}");
        assert_eq!(shown(r#"./a=b.wasm={"c":"=@d"}"#), r#"./a=b.wasm {"c":"=@d"}"#);
        assert_eq!(shown(&format!("fields=@{toml}")), r#"fields {"drop":["x"],"mask":{"ip":"\\d+"}}"#);
        assert_eq!(shown(&format!("fields=@{json}")), r#"fields {"drop":["x"]}"#);
        assert!(shown("fields=drop").contains("settings must be a JSON object or @FILE"));
        assert!(shown("fields={").starts_with("--transform fields: EOF"));
        assert!(shown("fields=@missing.toml").starts_with("--transform fields: missing.toml: "));
        let broken = file("c.toml", "drop = ");
        assert!(shown(&format!("fields=@{broken}")).contains("c.toml: TOML parse error"));
    }
}

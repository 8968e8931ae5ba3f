use std::path::Path;

use clap::Args;
use serde_json::{Map, Value};

use super::Failure;
use crate::rule::Choice;

/// What transforms the logs.
#[derive(Debug, Args)]
pub(super) struct TransformOptions {
    /// Transforms the logs before all else, in place of what the rule has: a stage, by name or path, and its settings as
    /// JSON or from a file of JSON or TOML. fields='{"drop":["cookie"]}', fields=@redact.toml, ./mine.wasm. May come
    /// again: one after the other.
    #[arg(long, value_name = "STAGE[=SETTINGS]")]
    transform: Vec<String>,
}

impl TransformOptions {
    /// Puts those that were given into the place of others.
    pub(super) fn over(&self, transforms: &mut Vec<Choice>) -> Result<(), Failure> {
        if !self.transform.is_empty() {
            *transforms = self.transform.iter().map(|given| choice(given)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

fn choice(given: &str) -> Result<Choice, Failure> {
    // A path may have the sign in it.
    let Some(sign) = given.find("={").or_else(|| given.find("=@")) else {
        return match given.split_once('=') {
            Some((name, _)) if !name.contains('/') => Err(format!(
                "--transform {given}: settings are a JSON object or @FILE, as in {name}='{{\"drop\":[\"cookie\"]}}'"
            )
            .into()),
            _ => Ok(Choice::named(given)),
        };
    };
    let (name, settings) = (&given[..sign], &given[sign + 1..]);
    let settings = match settings.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None => serde_json::from_str(settings).map_err(|error| error.to_string()),
    };
    let settings = settings.map_err(|problem| format!("--transform {name}: {problem}"))?;
    Ok(Choice { name: name.to_owned(), settings })
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| wrong(&error));
    }
    toml::from_str(&text).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_is_a_stage_and_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (toml, json) =
            (file("a.toml", "drop = ['x']\n[mask]\nip = '\\d+'"), file("b", " {\"drop\": [\"x\"]}"));
        let shown = |given: &str| match choice(given) {
            Ok(choice) => format!("{} {}", choice.name, Value::from(choice.settings)),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown("fields"), "fields {}");
        assert_eq!(shown("./a=b.wasm"), "./a=b.wasm {}");
        assert_eq!(shown(r#"./a=b.wasm={"c":"=@d"}"#), r#"./a=b.wasm {"c":"=@d"}"#);
        assert_eq!(shown(&format!("fields=@{toml}")), r#"fields {"drop":["x"],"mask":{"ip":"\\d+"}}"#);
        assert_eq!(shown(&format!("fields=@{json}")), r#"fields {"drop":["x"]}"#);
        assert!(shown("fields=drop").contains("settings are a JSON object or @FILE"));
        assert!(shown("fields={").starts_with("--transform fields: EOF"));
        assert!(shown("fields=@missing.toml").starts_with("--transform fields: missing.toml: "));
        let broken = file("c.toml", "drop = ");
        assert!(shown(&format!("fields=@{broken}")).contains("c.toml: TOML parse error"));
    }
}

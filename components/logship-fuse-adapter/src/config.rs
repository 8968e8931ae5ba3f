use serde_json::{Map, Value};

use crate::TRANSFORM;

/// A split configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configs {
    /// The configuration of the adapter's transformer.
    pub transformer: String,
    /// The configuration of the stage after it.
    pub stage: String,
}

/// A problem in a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the invalid key; empty for the whole text.
    pub path: String,
    /// The problem, and how to fix it.
    pub reason: String,
}

impl Configs {
    /// Splits off the configuration of the first transformer.
    ///
    /// # Errors
    /// If the text is not a JSON object, or `transform` is not a list of objects.
    pub fn split(config: &str) -> Result<Self, Problem> {
        if config.is_empty() {
            return Ok(Self::default());
        }
        let problem = |path: &str, reason: String| Problem { path: path.to_owned(), reason };
        let mut settings: Map<String, Value> =
            serde_json::from_str(config).map_err(|error| problem("", error.to_string()))?;
        let transformer = match settings.remove(TRANSFORM) {
            None => String::new(),
            Some(Value::Array(mut list)) => {
                let first = if list.is_empty() { Value::Object(Map::new()) } else { list.remove(0) };
                if !first.is_object() {
                    return Err(problem(
                        "transform[0]",
                        "must be an object with the transformer's settings".into(),
                    ));
                }
                if !list.is_empty() {
                    settings.insert(TRANSFORM.into(), list.into());
                }
                first.to_string()
            }
            Some(_) => {
                let reason = "must be a list with the settings of each fused transformer, in order";
                return Err(problem(TRANSFORM, reason.into()));
            }
        };
        Ok(Self { transformer, stage: Value::Object(settings).to_string() })
    }
}

/// Converts a path in the transformer's configuration to a path in the fused configuration.
pub fn transformer_path(path: &str) -> String {
    if path.is_empty() { "transform[0]".into() } else { format!("transform[0].{path}") }
}

/// Converts a path in the stage's configuration to a path in the fused configuration. Increments the index of a
/// transformer.
pub fn stage_path(path: String) -> String {
    let inner = path.strip_prefix("transform[").and_then(|rest| rest.split_once(']'));
    match inner.and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest))) {
        Some((number, rest)) => format!("transform[{}]{rest}", number + 1),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_takes_first_transformer_and_passes_on_others() {
        let split = |config| Configs::split(config).unwrap();
        let first = split(r#"{"a":1,"transform":[{"x":1},{"y":2}]}"#);
        assert_eq!((&*first.transformer, &*first.stage), (r#"{"x":1}"#, r#"{"a":1,"transform":[{"y":2}]}"#));
        let rest = split(&first.stage);
        assert_eq!((&*rest.transformer, &*rest.stage), (r#"{"y":2}"#, r#"{"a":1}"#));
        assert_eq!(split(&rest.stage), Configs { transformer: String::new(), stage: r#"{"a":1}"#.into() });
        assert_eq!(split(""), Configs::default());
        assert_eq!(split(r#"{"transform":[]}"#), Configs { transformer: "{}".into(), stage: "{}".into() });
    }

    #[test]
    fn invalid_configuration_is_reported_with_its_path() {
        for (config, path) in [
            ("[]", ""),
            ("{", ""),
            (r#"{"transform":{}}"#, "transform"),
            (r#"{"transform":[1]}"#, "transform[0]"),
        ] {
            assert_eq!(Configs::split(config).unwrap_err().path, path, "{config}");
        }
        assert_eq!(transformer_path("mask.a"), "transform[0].mask.a");
        assert_eq!(transformer_path(""), "transform[0]");
        assert_eq!(stage_path("transform[0].mask".into()), "transform[1].mask");
        assert_eq!(stage_path("columns[2].type".into()), "columns[2].type");
        assert_eq!(stage_path("transformed".into()), "transformed");
    }
}

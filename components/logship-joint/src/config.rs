use serde_json::{Map, Value};

use crate::TRANSFORM;

/// A configuration, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configs {
    /// That of the transformer.
    pub transformer: String,
    /// That of the stage behind it.
    pub stage: String,
}

/// What is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the offending member; empty for the text as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Configs {
    /// Takes the first of the transformers' configurations out of the whole.
    ///
    /// # Errors
    /// When it is no JSON object, or `transform` no list of them.
    pub fn split(config: &str) -> Result<Self, Problem> {
        if config.is_empty() {
            return Ok(Self::default());
        }
        let problem = |path: &str, reason: String| Problem { path: path.to_owned(), reason };
        let mut members: Map<String, Value> =
            serde_json::from_str(config).map_err(|error| problem("", error.to_string()))?;
        let transformer = match members.remove(TRANSFORM) {
            None => String::new(),
            Some(Value::Array(mut list)) => {
                let first = if list.is_empty() { Value::Object(Map::new()) } else { list.remove(0) };
                if !first.is_object() {
                    return Err(problem("transform[0]", "is no object with settings".into()));
                }
                if !list.is_empty() {
                    members.insert(TRANSFORM.into(), list.into());
                }
                first.to_string()
            }
            Some(_) => {
                let reason =
                    "is no list: it has the settings of each transformer that was fused, in their order";
                return Err(problem(TRANSFORM, reason.into()));
            }
        };
        Ok(Self { transformer, stage: Value::Object(members).to_string() })
    }
}

/// Where something is in the whole that is at `path` of the transformer's configuration.
pub fn of_transformer(path: &str) -> String {
    if path.is_empty() { "transform[0]".into() } else { format!("transform[0].{path}") }
}

/// Where something is in the whole that is at `path` of the stage's configuration: of a transformer in it, one further.
pub fn of_stage(path: String) -> String {
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
    fn each_joint_takes_the_first_and_passes_on_the_rest() {
        let split = |config| Configs::split(config).unwrap();
        let whole = split(r#"{"a":1,"transform":[{"x":1},{"y":2}]}"#);
        assert_eq!((&*whole.transformer, &*whole.stage), (r#"{"x":1}"#, r#"{"a":1,"transform":[{"y":2}]}"#));
        let rest = split(&whole.stage);
        assert_eq!((&*rest.transformer, &*rest.stage), (r#"{"y":2}"#, r#"{"a":1}"#));
        assert_eq!(split(&rest.stage), Configs { transformer: String::new(), stage: r#"{"a":1}"#.into() });
        assert_eq!(split(""), Configs::default());
        assert_eq!(split(r#"{"transform":[]}"#), Configs { transformer: "{}".into(), stage: "{}".into() });
    }

    #[test]
    fn what_is_no_configuration_is_told_with_its_place() {
        for (config, path) in [
            ("[]", ""),
            ("{", ""),
            (r#"{"transform":{}}"#, "transform"),
            (r#"{"transform":[1]}"#, "transform[0]"),
        ] {
            assert_eq!(Configs::split(config).unwrap_err().path, path, "{config}");
        }
        assert_eq!(of_transformer("mask.a"), "transform[0].mask.a");
        assert_eq!(of_transformer(""), "transform[0]");
        assert_eq!(of_stage("transform[0].mask".into()), "transform[1].mask");
        assert_eq!(of_stage("columns[2].type".into()), "columns[2].type");
        assert_eq!(of_stage("transformed".into()), "transformed");
    }
}

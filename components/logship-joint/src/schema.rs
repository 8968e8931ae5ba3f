use serde_json::{Map, Value, json};

use crate::TRANSFORM;

/// The JSON Schema of the whole: that of the stage's configuration, with the transformer's before those that it has
/// already. `transformer` is its name, by which what its schema refers to inside itself is found in there.
///
/// A text that is no schema is left as it is: who asks sees what is wrong.
pub fn joined(transformer: &str, transformer_schema: &str, stage_schema: &str) -> String {
    let (Ok(first), Ok(mut whole)) = (
        serde_json::from_str::<Map<String, Value>>(transformer_schema),
        serde_json::from_str::<Map<String, Value>>(stage_schema),
    ) else {
        return stage_schema.to_owned();
    };
    let properties = whole.entry("properties").or_insert_with(|| json!({}));
    let behind = properties[TRANSFORM]["prefixItems"].as_array().cloned().unwrap_or_default();
    let first = identified(first, transformer, behind.len());
    let all: Vec<Value> = [first].into_iter().chain(behind).collect();
    properties[TRANSFORM] = json!({
        "type": "array",
        "description": "The settings of the transformers that the logs go through before, in their order.",
        "prefixItems": all,
        "items": false,
    });
    Value::Object(whole).to_string()
}

/// A schema in another, with a name of its own: `#/$defs/…` in it is in it, and not in the whole.
fn identified(mut schema: Map<String, Value>, name: &str, behind: usize) -> Value {
    schema.insert("$id".into(), format!("urn:logship:{name}:{behind}").into());
    schema.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transformers_stand_in_their_order() {
        let stage = r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#;
        let one = joined("second", r#"{"title":"second"}"#, stage);
        let both: Value = serde_json::from_str(&joined("first", r#"{"title":"first"}"#, &one)).unwrap();
        let titles: Vec<_> =
            both["properties"]["transform"]["prefixItems"].as_array().unwrap().iter().collect();
        assert_eq!((&titles[0]["title"], &titles[1]["title"]), (&json!("first"), &json!("second")));
        assert_ne!(titles[0]["$id"], titles[1]["$id"]);
        assert_eq!(both["properties"]["a"], json!({}));
        assert_eq!(joined("x", "no schema", stage), stage);
    }
}

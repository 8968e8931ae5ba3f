use serde_json::{Map, Value, json};

use crate::TRANSFORM;

/// Returns the JSON Schema of the fused configuration: the stage's schema with the transformer's schema as the first
/// entry of `transform`. References inside the transformer's schema are resolved by an `$id` made from the name
/// `transformer`.
///
/// Returns `stage_schema` unchanged if one of the texts is not a JSON object.
pub fn fused_schema(transformer: &str, transformer_schema: &str, stage_schema: &str) -> String {
    let (Ok(first), Ok(mut fused)) = (
        serde_json::from_str::<Map<String, Value>>(transformer_schema),
        serde_json::from_str::<Map<String, Value>>(stage_schema),
    ) else {
        return stage_schema.to_owned();
    };
    let properties = fused.entry("properties").or_insert_with(|| json!({}));
    let others = properties[TRANSFORM]["prefixItems"].as_array().cloned().unwrap_or_default();
    let first = with_id(first, transformer, others.len());
    let all: Vec<Value> = [first].into_iter().chain(others).collect();
    properties[TRANSFORM] = json!({
        "type": "array",
        "description": "The settings of the transformers that process the logs first, in order.",
        "prefixItems": all,
        "items": false,
    });
    Value::Object(fused).to_string()
}

/// Adds an `$id` to an embedded schema, so that its `#/$defs/…` references resolve within it.
fn with_id(mut schema: Map<String, Value>, name: &str, others: usize) -> Value {
    schema.insert("$id".into(), format!("urn:logship:{name}:{others}").into());
    schema.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transformers_keep_their_order() {
        let stage = r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#;
        let one = fused_schema("second", r#"{"title":"second"}"#, stage);
        let both: Value = serde_json::from_str(&fused_schema("first", r#"{"title":"first"}"#, &one)).unwrap();
        let titles: Vec<_> =
            both["properties"]["transform"]["prefixItems"].as_array().unwrap().iter().collect();
        assert_eq!((&titles[0]["title"], &titles[1]["title"]), (&json!("first"), &json!("second")));
        assert_ne!(titles[0]["$id"], titles[1]["$id"]);
        assert_eq!(both["properties"]["a"], json!({}));
        assert_eq!(fused_schema("x", "no schema", stage), stage);
    }
}

//! The specification of a rule's objects, for a call.

use logship_config::rule::Rule;
use serde_json::json;

use crate::pipeline::Pipeline;

/// Returns the specification of a rule's objects for a call: all settings that determine their keys and
/// bytes. ASCII JSON, so that it is a valid header value.
pub(crate) fn spec(rule: &Rule, pipeline: &Pipeline) -> String {
    let (format, compression) = pipeline.format_and_compression();
    let mut formatted = json!(rule.format.settings);
    formatted["type"] = format.into();
    let mut compressed = json!(rule.compression.settings);
    compressed["type"] = compression.unwrap_or(&rule.compression.name).into();
    let spec = json!({
        "prefix": rule.prefix,
        "partition": rule.partition,
        "time_zone": rule.time_zone,
        "format": formatted,
        "compression": compressed,
        "path": rule.path,
    });
    let mut ascii = String::new();
    for letter in spec.to_string().chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

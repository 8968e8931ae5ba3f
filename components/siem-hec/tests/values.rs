//! Each value of a log is in its event, in both formats, so that the formatter has no lost values to report.

use logship_stage::{Batch, BatchBuilder, Formatter as _};
use serde_json::Value;
use siem_hec::HecFormatter;

/// Fields with keys and values that formats find hard.
fn fields() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain", b"x".to_vec()),
        ("", b"empty key".to_vec()),
        ("empty value", b"".to_vec()),
        ("twice", b"first".to_vec()),
        ("__time__", b"reserved".to_vec()),
        ("a=b||c", b"||plain=forged".to_vec()),
        ("breaks\n", b"a\r\nb\0c\t\"\\".to_vec()),
        ("not UTF-8", b"a\xff\xfeb\xc3".to_vec()),
        ("json", br#"{"a":[1,null]}"#.to_vec()),
        ("number", b"1e400".to_vec()),
        ("\u{1f600}", "\u{e9}\u{1f600}\u{2028}".as_bytes().to_vec()),
        ("long", b"y".repeat(300_000)),
        ("twice", b"last".to_vec()),
    ]
}

fn batch() -> Batch {
    let fields = fields();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    BatchBuilder::new().log_bytes(7, &fields).build()
}

/// Returns the content of the only event.
fn event(config: &str) -> Value {
    let messages = HecFormatter::open(config).unwrap().push(&batch()).unwrap();
    let event: Value = serde_json::from_slice(&messages.bytes).unwrap();
    event["event"].clone()
}

#[test]
fn object_has_each_value() {
    for config in ["", r#"{"reserved":true,"tags":true}"#, r#"{"json-fields":{"*":["number","plain"]}}"#] {
        let event = event(config);
        for (key, value) in fields() {
            let key = if key == "__time__" { "__field__:__time__" } else { key };
            let value = Value::from(String::from_utf8_lossy(&value));
            let found = &event[key];
            let is_in = |found: &Value| {
                *found == value || found.as_array().is_some_and(|values| values.contains(&value))
            };
            assert!(is_in(found), "{config}: {key:?}: {found}");
        }
    }
}

#[test]
fn text_has_each_value_in_order() {
    let event = event(r#"{"format":"text"}"#);
    let mut text = event.as_str().unwrap();
    for (key, value) in fields() {
        let key = if key == "__time__" { "__field__:__time__" } else { key };
        let field = format!("{key}={}", String::from_utf8_lossy(&value));
        let place = text.find(&field).unwrap_or_else(|| panic!("{field:?} is not in {text:?}"));
        text = &text[place + field.len()..];
    }
}

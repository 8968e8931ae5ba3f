//! Each value of a log is in its message, so that the formatter has no lost values to report. Only a limit that the
//! settings ask for (`max-bytes`) truncates.

use logship_stage::{BatchBuilder, Formatter as _};
use siem_syslog::SyslogFormatter;

/// Fields with keys and values that formats find hard.
fn fields() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain", b"x".to_vec()),
        ("", b"empty key".to_vec()),
        ("empty value", b"".to_vec()),
        ("twice", b"first".to_vec()),
        ("a=b||c", b"||plain=forged".to_vec()),
        ("breaks\n", b"a\r\nb\0c\t\"\\]".to_vec()),
        ("not UTF-8", b"a\xff\xfeb\xc3".to_vec()),
        ("\u{1f600}", "\u{e9}\u{1f600}\u{2028}".as_bytes().to_vec()),
        ("long", b"y".repeat(300_000)),
        ("twice", b"last".to_vec()),
    ]
}

fn message(config: &str) -> String {
    let fields = fields();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    let batch = BatchBuilder::new().log_bytes(7, &fields).build();
    let messages = SyslogFormatter::open(config).unwrap().push(&batch).unwrap();
    String::from_utf8(messages.bytes).unwrap()
}

#[test]
fn message_has_each_value_in_order() {
    for config in [
        "",
        r#"{"rfc":3164,"tag-from":"long","hostname-from":"breaks\n"}"#,
        r#"{"structured-data":true,"bom":true,"msgid-from":"long","procid-from":"not UTF-8"}"#,
        r#"{"escape":"none","separator":"\n"}"#,
    ] {
        let message = message(config);
        let mut text = message.as_str();
        for (key, value) in fields() {
            let mut field = format!("{key}={}", String::from_utf8_lossy(&value));
            if !config.contains("none") {
                field = field.replace('\n', "\\n").replace('\r', "\\r").replace('\0', "\\0");
            }
            let place = text.find(&field).unwrap_or_else(|| panic!("{config}: {field:?} is not in {text:?}"));
            text = &text[place + field.len()..];
        }
    }
}

use std::borrow::Cow;

/// Text of a value. What is no UTF-8, and NUL, which ends strings in some receivers, is U+FFFD.
fn text(value: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(value) {
        text if text.contains('\0') => text.replace('\0', "\u{fffd}").into(),
        text => text,
    }
}

/// Appends a value of the header: it has one line.
pub(crate) fn push_header(out: &mut Vec<u8>, value: &[u8]) {
    for byte in text(value).bytes() {
        match byte {
            b'\\' | b'|' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' | b'\r' => out.push(b' '),
            byte => out.push(byte),
        }
    }
}

/// Appends a value of the extension.
pub(crate) fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    for byte in text(value).bytes() {
        match byte {
            b'\\' | b'=' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.push(byte),
        }
    }
}

/// A field's key as one of the extension.
pub(crate) fn key(name: &str) -> String {
    match name {
        "" => "_".into(),
        name => name.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_', "_"),
    }
}

use std::borrow::Cow;

/// Returns a value as text. Bytes that are not UTF-8, and NUL, which ends strings in some receivers, become U+FFFD.
fn text(value: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(value) {
        text if text.contains('\0') => text.replace('\0', "\u{fffd}").into(),
        text => text,
    }
}

/// Appends a header value; line breaks become spaces.
pub(crate) fn push_header(out: &mut Vec<u8>, value: &[u8]) {
    for byte in text(value).bytes() {
        match byte {
            b'\\' | b'|' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' | b'\r' => out.push(b' '),
            byte => out.push(byte),
        }
    }
}

/// Appends an extension value.
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

/// Returns a field's key as an extension key.
pub(crate) fn extension_key(name: &str) -> String {
    match name {
        "" => "_".into(),
        name => name.replace(|character: char| !character.is_ascii_alphanumeric() && character != '_', "_"),
    }
}

/// Appends a value of the header, as much of it as there is room for: it ends at a pipe, which has no escape.
pub(crate) fn push_header(out: &mut Vec<u8>, value: &[u8], most: usize) {
    let text: String = String::from_utf8_lossy(value).chars().take(most).collect();
    push_without(out, &text, '|');
}

/// Appends the value of an attribute, which ends at the delimiter.
pub(crate) fn push_attribute(out: &mut Vec<u8>, value: &[u8], delimiter: char) {
    push_without(out, &String::from_utf8_lossy(value), delimiter);
}

/// What would end a value, or the event, is a blank. NUL, which ends strings in some receivers, is U+FFFD as what is no
/// UTF-8 is.
fn push_without(out: &mut Vec<u8>, text: &str, end: char) {
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter == end || matches!(letter, '\n' | '\r' | '\0')) {
        let (before, behind) = rest.split_at(at);
        out.extend_from_slice(before.as_bytes());
        let letter = behind.chars().next().unwrap_or(end);
        out.extend_from_slice(if letter == '\0' { "\u{fffd}" } else { " " }.as_bytes());
        rest = &behind[letter.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// A field's key as one of an attribute.
pub(crate) fn key(name: &str) -> String {
    match name {
        "" => "_".into(),
        name => name.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_', "_"),
    }
}

/// Appends a header value of at most `max` characters, without pipes.
pub(crate) fn push_header(out: &mut Vec<u8>, value: &[u8], max: usize) {
    let text: String = String::from_utf8_lossy(value).chars().take(max).collect();
    push_without(out, &text, '|');
}

/// Appends the value of an attribute, without the delimiter.
pub(crate) fn push_attribute(out: &mut Vec<u8>, value: &[u8], delimiter: char) {
    push_without(out, &String::from_utf8_lossy(value), delimiter);
}

/// Appends a text. Characters that would end the value or the event become spaces. NUL, which ends strings in some
/// receivers, becomes U+FFFD.
fn push_without(out: &mut Vec<u8>, text: &str, end: char) {
    let mut rest = text;
    while let Some(at) =
        rest.find(|character: char| character == end || matches!(character, '\n' | '\r' | '\0'))
    {
        let (before, from_terminator) = rest.split_at(at);
        out.extend_from_slice(before.as_bytes());
        let character = from_terminator.chars().next().unwrap_or(end);
        out.extend_from_slice(if character == '\0' { "\u{fffd}" } else { " " }.as_bytes());
        rest = &from_terminator[character.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Returns a field's key as an attribute key.
pub(crate) fn attribute_key(name: &str) -> String {
    match name {
        "" => "_".into(),
        name => name.replace(|character: char| !character.is_ascii_alphanumeric() && character != '_', "_"),
    }
}

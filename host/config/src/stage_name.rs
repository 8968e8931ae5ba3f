//! Names and digests of stages, as rules and settings write them.

/// The prefix of a digest that names a component.
pub const DIGEST_PREFIX: &str = "sha256:";

/// Returns true if the text is a valid stage name: 1-63 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit.
pub fn is_name(name: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| is_alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
        && name.bytes().next().is_some_and(is_alphanumeric)
        && !name.ends_with(".wasm")
}

/// Returns true if the text is a digest and not a name, which is shorter. `GET /stages/DIGEST` of a project fetches a
/// component.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

//! Names and digests of stages, as rules and settings write them.

/// The prefix of a digest that names a component.
pub const DIGEST_PREFIX: &str = "sha256:";

/// The SHA-256 of a component: 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentDigest(String);

impl ComponentDigest {
    /// Parses 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        is_digest(digits).then(|| Self(digits.to_ascii_lowercase()))
    }

    /// Returns the digest that a stage name pins: `sha256:` and the digits. Other names pin none.
    pub fn pinned_by(name: &str) -> Option<Self> {
        name.strip_prefix(DIGEST_PREFIX).and_then(Self::parse)
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixed_digests_pin_components() {
        let digits = "0a".repeat(32);
        let pinned = ComponentDigest::pinned_by(&format!("{DIGEST_PREFIX}{}", digits.to_uppercase()));
        assert_eq!(pinned.as_ref().map(ComponentDigest::as_str), Some(digits.as_str()));
        for name in [digits.as_str(), "encode-json", "sha256:00", ""] {
            assert_eq!(ComponentDigest::pinned_by(name), None, "{name}");
        }
    }
}

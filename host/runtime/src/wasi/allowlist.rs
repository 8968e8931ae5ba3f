use std::collections::BTreeSet;

use logship_config::stage_name::DIGEST_PREFIX;

/// The stages that may import WASI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WasiAllowlist {
    /// No stage.
    #[default]
    None,
    /// The stages with these names and digests.
    Some(BTreeSet<String>),
    /// All stages, for commands whose user names the component.
    All,
}

impl WasiAllowlist {
    /// Creates an allowlist of stage names, and of digests with the prefix `sha256:`.
    pub fn of(allowed: impl IntoIterator<Item = String>) -> Self {
        let allowed: BTreeSet<String> = allowed.into_iter().collect();
        if allowed.is_empty() { Self::None } else { Self::Some(allowed) }
    }

    /// Returns true if the list allows any stage.
    pub fn allows_any(&self) -> bool {
        *self != Self::None
    }

    /// Returns true if the list allows stages with this name.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Some(allowed) => allowed.contains(name),
            Self::All => true,
        }
    }

    /// Returns true if the list allows the component with this digest, in hexadecimal.
    pub(crate) fn allows_digest(&self, digest: &str) -> bool {
        self.allows(&format!("{DIGEST_PREFIX}{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_names_and_digests() {
        let digest = "0".repeat(64);
        let some = WasiAllowlist::of(["redact".to_owned(), format!("{DIGEST_PREFIX}{digest}")]);
        assert!(some.allows_any() && some.allows("redact") && some.allows_digest(&digest));
        assert!(!some.allows("redact2") && !some.allows_digest("00"));
        assert!(WasiAllowlist::All.allows("any"));
        assert_eq!(WasiAllowlist::of([]), WasiAllowlist::None);
        assert!(!WasiAllowlist::None.allows(""));
    }
}

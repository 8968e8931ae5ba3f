use std::collections::BTreeSet;

use crate::registry::DIGEST;

/// Which stages may import WASI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowance {
    /// None.
    #[default]
    Nobody,
    /// Those of these names and digests.
    Some(BTreeSet<String>),
    /// All of a command that names them itself.
    Everybody,
}

impl Allowance {
    /// An allowance for names of stages, and for digests with `sha256:` in front.
    pub fn of(allowed: impl IntoIterator<Item = String>) -> Self {
        let allowed: BTreeSet<String> = allowed.into_iter().collect();
        if allowed.is_empty() { Self::Nobody } else { Self::Some(allowed) }
    }

    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        *self != Self::Nobody
    }

    /// Whether it is for a stage of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Some(allowed) => allowed.contains(name),
            Self::Everybody => true,
        }
    }

    /// Whether it is for the component of this digest, in hexadecimal.
    pub(crate) fn has_digest(&self, digest: &str) -> bool {
        self.has(&format!("{DIGEST}{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_for_names_and_digests() {
        let digest = "0".repeat(64);
        let some = Allowance::of(["redact".to_owned(), format!("{DIGEST}{digest}")]);
        assert!(some.is_some() && some.has("redact") && some.has_digest(&digest));
        assert!(!some.has("redact2") && !some.has_digest("00"));
        assert!(Allowance::Everybody.has("any"));
        assert_eq!(Allowance::of([]), Allowance::Nobody);
        assert!(!Allowance::Nobody.has(""));
    }
}

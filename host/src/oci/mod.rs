//! Components in OCI registries: `ghcr.io/acme/cef:1.2`.
//!
//! They are what the CNCF's guidance calls a wasm OCI artifact: a manifest with one layer, the component, and a
//! configuration that says what it exports. Other tools for components (`wkg oci pull`, `wkg oci push`) read and write
//! the same.
//!
//! # Layout
//! - This file: what can go wrong, and [`Place`], the name of an artifact.
//! - [`artifact`]: what an artifact is made of. [`remote`]: the registry that it is pulled from, and pushed to.

pub mod artifact;
pub mod remote;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use crate::registry::DIGEST;

/// Why something is not pulled or pushed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// It names no artifact.
    #[error("{text:?} is no REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST: {reason}")]
    Place {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry wants to know who asks, or does not let them.
    #[error(
        "{place}: the registry refuses {who}; give LOGSHIP_REGISTRY_USERNAME and LOGSHIP_REGISTRY_PASSWORD, or `docker login {registry}`"
    )]
    Unauthorized {
        /// The artifact.
        place: String,
        /// Its registry.
        registry: String,
        /// Who asked.
        who: String,
    },
    /// What the user's Docker configuration says of the registry can't be used.
    #[error("the credentials for {registry} in Docker's config.json can't be used: {reason}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why not.
        reason: String,
    },
    /// The registry was not reached, or the connection broke.
    #[error("{place}: {}", chain(.source))]
    Connection {
        /// The artifact.
        place: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The registry refused.
    #[error("{place}: the registry answered {status}: {message}")]
    Refused {
        /// The artifact.
        place: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// What came is not what was asked for.
    #[error("{place}: the {what} is not what its digest says: expected {expected}, and it is {found}")]
    Digest {
        /// The artifact.
        place: String,
        /// Manifest or layer.
        what: &'static str,
        /// The digest that it is to have.
        expected: String,
        /// The one that it has.
        found: String,
    },
    /// What is there is no component.
    #[error("{place} is {found}; a component has a layer of {LAYER} (`logship stage push` and `wkg oci push` write it)", LAYER = artifact::LAYER)]
    NoComponent {
        /// The artifact.
        place: String,
        /// What it is.
        found: String,
    },
    /// It is larger than a service takes.
    #[error("{place}: the {what} has more than {} MiB", limit >> 20)]
    TooLarge {
        /// The artifact.
        place: String,
        /// Manifest or layer.
        what: &'static str,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A component or a WIT package can't be read.
    #[error("{origin}: {reason}")]
    Unreadable {
        /// The file or folder.
        origin: String,
        /// Why not.
        reason: String,
    },
}

/// An error with its causes: reqwest shows only itself.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The name of an artifact, with its registry: `REGISTRY/NAME:TAG`, `REGISTRY/NAME@sha256:DIGEST`, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    registry: String,
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Bytes of a name in a registry, and of a tag, that all registries take.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

impl Place {
    /// Whether a text is meant as the name of an artifact, and not as that of a file: it begins with a host, as
    /// `ghcr.io/`, `localhost/` or `registry:5000/`, and no such file is there.
    pub fn is_meant(text: &str) -> bool {
        let begins_with_host = text.split_once('/').is_some_and(|(host, _)| is_host(host));
        begins_with_host && !text.ends_with(".wasm") && !Path::new(text).exists()
    }

    /// The host of the registry, with its port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// What its manifest is asked for by.
    fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or_default()
    }

    /// Whether the registry is on this machine.
    fn is_loopback(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// The same name, with the digest that was found there.
    pub fn at(&self, digest: &str) -> String {
        Self { digest: Some(digest.to_owned()), ..self.clone() }.to_string()
    }
}

impl FromStr for Place {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let refused = |reason: &str| OciError::Place { text: text.into(), reason: reason.into() };
        let (registry, rest) = text.split_once('/').ok_or_else(|| refused("it begins with no host"))?;
        if !is_host(registry) {
            return Err(refused("it begins with no host"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        if name.len() > LONGEST_NAME || !name.split('/').all(is_component) {
            return Err(refused(
                "names have lowercase letters and digits, with `.`, `_`, `-` and `/` between them",
            ));
        }
        if !tag.is_none_or(is_tag) {
            return Err(refused("tags have letters, digits, `.`, `_` and `-`"));
        }
        if !digest.is_none_or(is_digest) {
            return Err(refused("a digest is sha256: and 64 hexadecimal digits"));
        }
        if tag.is_none() && digest.is_none() {
            return Err(refused("a tag or a digest is missing"));
        }
        Ok(Self {
            registry: registry.into(),
            name: name.into(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether it is a host, and no folder: it has a dot or a port, or is this machine.
fn is_host(text: &str) -> bool {
    let is_lawful = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.starts_with('.')
        && text.bytes().all(is_lawful)
        && (text == "localhost" || text.contains(['.', ':']))
}

/// Whether it can stand between the slashes of a name.
fn is_component(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(is_plain))
        && text.bytes().all(|byte| is_plain(byte) || b"._-".contains(&byte))
}

fn is_tag(text: &str) -> bool {
    let is_lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_TAG).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(is_lawful)
}

fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(DIGEST).is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_of_artifacts_begin_with_a_host() {
        for text in ["ghcr.io/acme/cef:1.2", "localhost/cef:1", "registry:5000/a/b:c", "127.0.0.1:5000/a:1"] {
            assert!(Place::is_meant(text), "{text}");
            assert_eq!(place(text).to_string(), text);
        }
        for text in
            ["cef.wasm", "./cef", "../x.y/cef", "out/cef.wasm", "acme/cef", "/tmp/cef", "a.b/cef.wasm"]
        {
            assert!(!Place::is_meant(text), "{text}");
        }
    }

    #[test]
    fn a_name_without_tag_or_host_is_refused() {
        for (text, reason) in [
            ("ghcr.io/acme/cef", "a tag or a digest is missing"),
            ("acme/cef:1", "begins with no host"),
            ("ghcr.io/Acme/cef:1", "lowercase"),
            ("ghcr.io/acme/../cef:1", "lowercase"),
            ("ghcr.io/:1", "lowercase"),
            ("ghcr.io/acme/cef:a?b", "tags have"),
            ("ghcr.io/acme/cef@sha256:12", "64 hexadecimal digits"),
            ("user@ghcr.io/acme/cef:1", "begins with no host"),
        ] {
            let error = text.parse::<Place>().map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(reason)), "{text}: {error:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, expected) in [
            ("localhost:5000/a:1", true),
            ("localhost/a:1", true),
            ("127.0.0.1:5000/a:1", true),
            ("127.9.9.9/a:1", true),
            ("10.0.0.1:5000/a:1", false),
            ("127.0.0.1.example.com/a:1", false),
            ("localhost.example.com/a:1", false),
        ] {
            assert_eq!(place(text).is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn what_was_pulled_is_named_by_tag_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_tag = place("ghcr.io/acme/cef:1.2").at(&digest);
        assert_eq!(by_tag, format!("ghcr.io/acme/cef:1.2@{digest}"));
        // It is a name again.
        assert_eq!(place(&by_tag).to_string(), by_tag);
        let by_digest = format!("ghcr.io/acme/cef@{digest}");
        assert_eq!(place(&by_digest).at(&digest), by_digest);
    }
}

//! Components in OCI registries: `ghcr.io/acme/cef:1.2`.
//!
//! The format is the CNCF's wasm OCI artifact: a manifest with one layer, the component, and a configuration that lists
//! its exports. `wkg oci pull` and `wkg oci push` read and write the same format.
//!
//! # Layout
//! - This file: errors, and [`Reference`], the name of an artifact.
//! - [`artifact`]: the parts of an artifact. [`client`]: pulls from and pushes to a registry.

pub mod artifact;
pub mod client;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use logship_config::stage_name::DIGEST_PREFIX;

/// Why a pull or push failed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The text is not a reference.
    #[error("{text:?} is not a reference REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST: {reason}")]
    Reference {
        /// The text.
        text: String,
        /// The reason.
        reason: String,
    },
    /// The registry requires a login, or denies the user.
    #[error(
        "{reference}: the registry rejects {who}; set LOGSHIP_REGISTRY_USERNAME and LOGSHIP_REGISTRY_PASSWORD, or run `docker login {registry}`"
    )]
    Unauthorized {
        /// The artifact.
        reference: String,
        /// Its registry.
        registry: String,
        /// The user, or the lack of credentials.
        who: String,
    },
    /// The registry's credentials in the user's Docker configuration can't be used.
    #[error("the credentials for {registry} in Docker's config.json can't be used: {reason}")]
    Credentials {
        /// The registry.
        registry: String,
        /// The reason.
        reason: String,
    },
    /// The registry was not reached, or the connection broke.
    #[error("{reference}: {}", chain(.source))]
    Connection {
        /// The artifact.
        reference: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The registry returned an error.
    #[error("{reference}: the registry answered {status}: {message}")]
    Status {
        /// The artifact.
        reference: String,
        /// The HTTP status.
        status: u16,
        /// The registry's message.
        message: String,
    },
    /// The content does not match its digest.
    #[error("{reference}: the {part} does not match its digest: expected {expected}, got {found}")]
    Digest {
        /// The artifact.
        reference: String,
        /// Manifest or layer.
        part: &'static str,
        /// The expected digest.
        expected: String,
        /// The content's digest.
        found: String,
    },
    /// The artifact is not a component.
    #[error("{reference} is {found}, not a component with a layer of type {LAYER}; push it with `logship stage push` or `wkg oci push`", LAYER = artifact::LAYER)]
    NotAComponent {
        /// The artifact.
        reference: String,
        /// The type of artifact that was found.
        found: String,
    },
    /// The content exceeds a limit.
    #[error("{reference}: the {part} is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// The artifact.
        reference: String,
        /// Manifest or layer.
        part: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A component or a WIT package can't be read.
    #[error("{origin}: {reason}")]
    Unreadable {
        /// The file or folder.
        origin: String,
        /// The reason.
        reason: String,
    },
}

/// Joins an error and its causes. reqwest's errors display only themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The reference of an artifact: `REGISTRY/NAME:TAG`, `REGISTRY/NAME@sha256:DIGEST`, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// The longest name and tag that all registries accept, in bytes.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

impl Reference {
    /// Returns true if a text is a reference and not a file: it starts with a host, such as `ghcr.io/`, `localhost/` or
    /// `registry:5000/`, and no such file exists.
    pub fn looks_like_reference(text: &str) -> bool {
        let has_host = text.split_once('/').is_some_and(|(host, _)| is_host(host));
        has_host && !text.ends_with(".wasm") && !Path::new(text).exists()
    }

    /// The registry's host, with its port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The digest if there is one, otherwise the tag.
    fn digest_or_tag(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or_default()
    }

    /// Returns true if the registry is on this machine.
    fn is_loopback(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Returns the reference with a digest.
    pub fn with_digest(&self, digest: &str) -> String {
        Self { digest: Some(digest.to_owned()), ..self.clone() }.to_string()
    }
}

impl FromStr for Reference {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let invalid = |reason: &str| OciError::Reference { text: text.into(), reason: reason.into() };
        let (registry, rest) =
            text.split_once('/').ok_or_else(|| invalid("it does not start with a host"))?;
        if !is_host(registry) {
            return Err(invalid("it does not start with a host"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        if name.len() > MAX_NAME_BYTES || !name.split('/').all(is_name_segment) {
            return Err(invalid(
                "a name has lowercase letters and digits, separated by `.`, `_`, `-` and `/`",
            ));
        }
        if !tag.is_none_or(is_tag) {
            return Err(invalid("a tag has letters, digits, `.`, `_` and `-`"));
        }
        if !digest.is_none_or(is_digest) {
            return Err(invalid("a digest is sha256: and 64 hexadecimal digits"));
        }
        if tag.is_none() && digest.is_none() {
            return Err(invalid("a tag or digest is missing"));
        }
        Ok(Self {
            registry: registry.into(),
            name: name.into(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for Reference {
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

/// Returns true if the text is a host and not a folder: it has a dot or a port, or is `localhost`.
fn is_host(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.starts_with('.')
        && text.bytes().all(is_allowed)
        && (text == "localhost" || text.contains(['.', ':']))
}

/// Returns true if the text is a valid path segment of a name.
fn is_name_segment(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(is_alphanumeric))
        && text.bytes().all(|byte| is_alphanumeric(byte) || b"._-".contains(&byte))
}

fn is_tag(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_TAG_BYTES).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(is_allowed)
}

fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(DIGEST_PREFIX).is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn detects_references_by_host() {
        for text in ["ghcr.io/acme/cef:1.2", "localhost/cef:1", "registry:5000/a/b:c", "127.0.0.1:5000/a:1"] {
            assert!(Reference::looks_like_reference(text), "{text}");
            assert_eq!(reference(text).to_string(), text);
        }
        for text in
            ["cef.wasm", "./cef", "../x.y/cef", "out/cef.wasm", "acme/cef", "/tmp/cef", "a.b/cef.wasm"]
        {
            assert!(!Reference::looks_like_reference(text), "{text}");
        }
    }

    #[test]
    fn rejects_reference_without_tag_or_host() {
        for (text, reason) in [
            ("ghcr.io/acme/cef", "a tag or digest is missing"),
            ("acme/cef:1", "does not start with a host"),
            ("ghcr.io/Acme/cef:1", "lowercase"),
            ("ghcr.io/acme/../cef:1", "lowercase"),
            ("ghcr.io/:1", "lowercase"),
            ("ghcr.io/acme/cef:a?b", "a tag has"),
            ("ghcr.io/acme/cef@sha256:12", "64 hexadecimal digits"),
            ("user@ghcr.io/acme/cef:1", "does not start with a host"),
        ] {
            let error = text.parse::<Reference>().map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(reason)), "{text}: {error:?}");
        }
    }

    #[test]
    fn detects_loopback_registries() {
        for (text, expected) in [
            ("localhost:5000/a:1", true),
            ("localhost/a:1", true),
            ("127.0.0.1:5000/a:1", true),
            ("127.9.9.9/a:1", true),
            ("10.0.0.1:5000/a:1", false),
            ("127.0.0.1.example.com/a:1", false),
            ("localhost.example.com/a:1", false),
        ] {
            assert_eq!(reference(text).is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn adds_digest_to_reference() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_tag = reference("ghcr.io/acme/cef:1.2").with_digest(&digest);
        assert_eq!(by_tag, format!("ghcr.io/acme/cef:1.2@{digest}"));
        // The result parses again.
        assert_eq!(reference(&by_tag).to_string(), by_tag);
        let by_digest = format!("ghcr.io/acme/cef@{digest}");
        assert_eq!(reference(&by_digest).with_digest(&digest), by_digest);
    }
}

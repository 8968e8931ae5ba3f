//! The identity of a component.

use std::fmt::{self, Display};
use std::sync::Arc;

/// The identity of a component. Cheap to clone. Every error of a stage contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    name: String,
    version: String,
    digest: String,
    size: usize,
    imports: Vec<String>,
}

impl Identity {
    /// Creates the identity of a component with this digest, size in bytes, and imported WASI interfaces.
    pub(crate) fn new(name: &str, version: &str, digest: String, size: usize, imports: Vec<String>) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self(Arc::new(Inner { name, version, digest, size, imports }))
    }

    /// Returns the same component under the name and version of its description.
    pub(crate) fn renamed(&self, name: &str, version: &str) -> Self {
        Self::new(name, version, self.0.digest.clone(), self.0.size, self.0.imports.clone())
    }

    /// Returns the name in the stage's description. Before the description is read, the path or name of the
    /// component.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the version in the stage's description.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// Returns the SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Returns the size of the component in bytes.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Returns the imported WASI interfaces, usually none.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} (sha256:{})", self.0.name, &self.0.digest[..12])
    }
}

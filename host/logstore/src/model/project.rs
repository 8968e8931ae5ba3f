//! Projects: namespaces of logstores.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Logstore, StoredSource};
use crate::error::StoreError;

/// A project: a namespace of logstores.
#[derive(Debug)]
pub struct Project {
    /// The name.
    pub name: String,
    /// The description.
    pub description: String,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
    /// The logstores, by name.
    pub logstores: BTreeMap<String, Arc<Logstore>>,
    /// The data sources, by name.
    pub sources: BTreeMap<String, Arc<StoredSource>>,
}

impl Project {
    /// Returns the data source of this name.
    ///
    /// # Errors
    /// [`StoreError::NoSource`] without one.
    pub fn source(&self, name: &str) -> Result<&Arc<StoredSource>, StoreError> {
        self.sources.get(name).ok_or_else(|| StoreError::NoSource(name.into()))
    }
}

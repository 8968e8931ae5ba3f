//! Projects: namespaces of logstores.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Logstore;

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
}

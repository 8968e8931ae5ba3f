//! The catalog: a snapshot of all projects, logstores and shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Logstore, Project, Shard, StageAliases};
use crate::error::StoreError;

/// A snapshot of all projects, logstores and shards.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(crate) projects: BTreeMap<String, Arc<Project>>,
    pub(crate) stages: StageAliases,
    /// The shards of deleted logstores that still have logs to delete.
    pub(crate) orphans: Vec<Arc<Shard>>,
}

impl Catalog {
    /// Returns all projects, in the order of their names.
    pub fn projects(&self) -> impl Iterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    /// Returns the project of this name.
    pub fn project(&self, name: &str) -> Result<&Arc<Project>, StoreError> {
        self.projects.get(name).ok_or_else(|| StoreError::NoProject(name.into()))
    }

    /// Returns a logstore by its project and name.
    pub fn logstore(&self, project: &str, name: &str) -> Result<&Arc<Logstore>, StoreError> {
        self.project(project)?.logstores.get(name).ok_or_else(|| StoreError::NoLogstore(name.into()))
    }

    /// Returns the stage aliases.
    pub fn stages(&self) -> &StageAliases {
        &self.stages
    }

    /// Returns all logstores.
    pub fn logstores(&self) -> impl Iterator<Item = &Arc<Logstore>> {
        self.projects.values().flat_map(|project| project.logstores.values())
    }

    /// Returns all shards, including those of deleted logstores.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.logstores().flat_map(|logstore| &logstore.shards).chain(&self.orphans)
    }
}

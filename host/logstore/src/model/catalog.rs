//! The catalog: a snapshot of all projects, logstores and shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeletedLogstore, DeletedProject, Logstore, Project, Shard, StageAliases};
use crate::error::StoreError;

/// A snapshot of all projects, logstores and shards.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(crate) projects: BTreeMap<String, Arc<Project>>,
    pub(crate) stages: StageAliases,
    /// The shards of deleted logstores that still have logs to delete.
    pub(crate) orphans: Vec<Arc<Shard>>,
    pub(crate) deleted_logstores: Vec<DeletedLogstore>,
    pub(crate) deleted_projects: Vec<DeletedProject>,
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

    /// Returns all logstores, including the deleted ones that can be restored.
    pub fn kept_logstores(&self) -> impl Iterator<Item = &Arc<Logstore>> {
        self.logstores().chain(self.deleted_logstores.iter().map(|deleted| &deleted.logstore))
    }

    /// Returns the deleted logstores that can be restored.
    pub fn deleted_logstores(&self) -> &[DeletedLogstore] {
        &self.deleted_logstores
    }

    /// Returns the deleted projects that can be restored.
    pub fn deleted_projects(&self) -> &[DeletedProject] {
        &self.deleted_projects
    }

    /// Returns all shards, including those of deleted logstores.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.kept_logstores().flat_map(|logstore| &logstore.shards).chain(&self.orphans)
    }
}

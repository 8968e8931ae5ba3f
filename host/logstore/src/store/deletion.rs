//! Deletes logstores and projects so that they can be restored for some time.
//!
//! A deleted one keeps its row under a name that no client can choose, so its name is free at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::hold::check_not_held;
use super::logstore::drop_logstore;
use super::project::{drop_project, find_project};
use crate::error::StoreError;
use crate::model::{AuditRecord, Catalog, DeletedLogstore, DeletedProject, Logstore, POSITION_BITS, Project};

/// The time between searches for deletions to complete, in seconds.
const INTERVAL: u64 = 10;

impl Store {
    /// Deletes a logstore. It can be restored until the time of [`Options`](crate::Options) has passed.
    ///
    /// # Errors
    /// [`StoreError::DeletionNotConfirmed`] if it has logs, and the deletion is not confirmed.
    pub async fn retire_logstore(
        &self,
        project: &str,
        name: &str,
        confirmed: bool,
    ) -> Result<(), StoreError> {
        let id = self.catalog().logstore(project, name)?.id;
        let (name, now, keeps) = (name.to_owned(), self.now(), self.options.undo_seconds > 0);
        let job = move |connection: &Connection| {
            check_not_held(connection, "logstore.id = ?1", id)?;
            if !confirmed && has_logs(connection, "logstore = ?1", id)? {
                return Err(StoreError::DeletionNotConfirmed { kind: "logstore", name });
            }
            if !keeps {
                return drop_logstore(connection, id);
            }
            let renamed = connection.execute(
                "UPDATE logstore SET name = name || '#' || id WHERE id = ?1 AND name = ?2",
                params![id, name],
            )?;
            if renamed == 0 {
                return Err(StoreError::NoLogstore(name));
            }
            connection.execute("INSERT INTO deleted_logstore VALUES (?1, ?2, ?3)", params![id, name, now])?;
            Ok(())
        };
        self.writer.run(true, job).await
    }

    /// Deletes a project with all its logstores. It can be restored until the time of [`Options`](crate::Options) has
    /// passed.
    ///
    /// # Errors
    /// [`StoreError::DeletionNotConfirmed`] if it has logs, and the deletion is not confirmed.
    pub async fn retire_project(&self, name: &str, confirmed: bool) -> Result<(), StoreError> {
        let (name, now, keeps) = (name.to_owned(), self.now(), self.options.undo_seconds > 0);
        let job = move |connection: &Connection| {
            let id = find_project(connection, &name)?;
            check_not_held(connection, "project = ?1", id)?;
            let condition = "logstore IN (SELECT id FROM logstore WHERE project = ?1
                AND id NOT IN (SELECT logstore FROM deleted_logstore))";
            if !confirmed && has_logs(connection, condition, id)? {
                return Err(StoreError::DeletionNotConfirmed { kind: "project", name });
            }
            if !keeps {
                return drop_project(connection, id);
            }
            connection.execute("UPDATE project SET name = name || '#' || id WHERE id = ?1", [id])?;
            connection.execute("INSERT INTO deleted_project VALUES (?1, ?2, ?3)", params![id, name, now])?;
            Ok(())
        };
        self.writer.run(true, job).await
    }

    /// Restores the logstore of this name that was deleted last, under the same or a new name.
    pub async fn restore_logstore(
        &self,
        project: &str,
        name: &str,
        new_name: &str,
    ) -> Result<(), StoreError> {
        let (project, name, new_name) = (project.to_owned(), name.to_owned(), new_name.to_owned());
        let now = self.clock();
        let job = move |connection: &Connection| {
            let project = find_project(connection, &project)?;
            let found = connection.query_row(
                "SELECT logstore.id, deleted FROM deleted_logstore JOIN logstore ON logstore.id = logstore
                 WHERE project = ?1 AND deleted_logstore.name = ?2 ORDER BY deleted DESC, logstore.id DESC LIMIT 1",
                params![project, name],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?)),
            );
            let Some((id, deleted)) = found.optional()? else {
                return Err(StoreError::NotDeleted { kind: "logstore", name });
            };
            let renamed = connection
                .execute("UPDATE OR IGNORE logstore SET name = ?2 WHERE id = ?1", params![id, new_name])?;
            if renamed == 0 {
                return Err(StoreError::LogstoreExists(new_name));
            }
            connection.execute("DELETE FROM deleted_logstore WHERE logstore = ?1", [id])?;
            resume_tasks(connection, "logstore = ?3", id, deleted, now)
        };
        self.writer.run(true, job).await
    }

    /// Restores the project of this name that was deleted last, with the logstores that it had.
    pub async fn restore_project(&self, name: &str) -> Result<(), StoreError> {
        let (name, now) = (name.to_owned(), self.clock());
        let job = move |connection: &Connection| {
            let found = connection.query_row(
                "SELECT project, deleted FROM deleted_project WHERE name = ?1 ORDER BY deleted DESC, project DESC LIMIT 1",
                [&name],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?)),
            );
            let Some((id, deleted)) = found.optional()? else {
                return Err(StoreError::NotDeleted { kind: "project", name });
            };
            if connection
                .execute("UPDATE OR IGNORE project SET name = ?2 WHERE id = ?1", params![id, name])?
                == 0
            {
                return Err(StoreError::ProjectExists(name));
            }
            connection.execute("DELETE FROM deleted_project WHERE project = ?1", [id])?;
            let condition = "logstore IN (SELECT id FROM logstore WHERE project = ?3)";
            resume_tasks(connection, condition, id, deleted, now)
        };
        self.writer.run(true, job).await
    }
}

/// Returns true if shards that meet a condition have logs.
fn has_logs(connection: &Connection, condition: &str, id: i64) -> Result<bool, StoreError> {
    let query = format!(
        "SELECT 1 FROM shard WHERE {condition} AND EXISTS
             (SELECT 1 FROM log_group WHERE log_group.id >= shard.id << {POSITION_BITS}
                 AND log_group.id < (shard.id + 1) << {POSITION_BITS})"
    );
    Ok(connection.prepare_cached(&query)?.exists([id])?)
}

/// Retries the tasks that failed because their logstore was deleted.
fn resume_tasks(
    connection: &Connection,
    condition: &str,
    id: i64,
    deleted: u64,
    now: u64,
) -> Result<(), StoreError> {
    connection.execute(
        &format!(
            "UPDATE task SET next_try = ?1 WHERE status = 'fail' AND finished >= ?2
                 AND rule IN (SELECT id FROM rule WHERE deleted IS NULL AND {condition})"
        ),
        params![now, deleted * 1_000_000, id],
    )?;
    Ok(())
}

/// Completes deletions whose time to restore has passed.
#[derive(Debug)]
pub(super) struct Purge {
    undo_seconds: u64,
    next: u64,
}

impl Purge {
    pub(super) fn new(undo_seconds: u64) -> Self {
        Self { undo_seconds, next: 0 }
    }

    /// Returns a logstore or a project whose deletion can't be undone any more, at a time in Unix seconds.
    pub(super) fn due(&mut self, catalog: &Catalog, now: u64) -> Option<Due> {
        if now < self.next && self.next - now <= INTERVAL {
            return None;
        }
        let is_due = |deleted: u64| deleted <= now.saturating_sub(self.undo_seconds);
        let logstore = catalog.deleted_logstores().iter().find(|each| is_due(each.deleted));
        let project = catalog.deleted_projects().iter().find(|each| is_due(each.deleted));
        let due = match (logstore, project) {
            (Some(each), _) if !each.with_project => Some(Due {
                row: Row::Logstore(each.logstore.id),
                project: each.project.clone(),
                name: each.name.clone(),
            }),
            (_, Some(each)) => {
                Some(Due { row: Row::Project(each.row), project: each.name.clone(), name: String::new() })
            }
            _ => None,
        };
        self.next = now + if due.is_some() { 1 } else { INTERVAL };
        due
    }
}

/// A deletion to complete.
pub(super) struct Due {
    row: Row,
    project: String,
    /// The name of the logstore.
    name: String,
}

enum Row {
    Logstore(i64),
    Project(i64),
}

impl Due {
    /// Returns the record of the audit log.
    pub(super) fn record(&self) -> AuditRecord {
        AuditRecord {
            operation: "complete deletion".into(),
            outcome: "OK".into(),
            who: "service".into(),
            address: "local".into(),
            project: self.project.clone(),
            logstore: self.name.clone(),
            ..AuditRecord::default()
        }
    }

    pub(super) fn complete(&self, connection: &Connection) -> Result<(), StoreError> {
        match self.row {
            Row::Logstore(row) => drop_logstore(connection, row),
            Row::Project(row) => drop_project(connection, row),
        }
    }
}

/// The deleted logstores and projects of the database.
pub(super) struct Deletions {
    logstores: HashMap<i64, (String, u64)>,
    projects: HashMap<i64, (String, u64)>,
}

impl Deletions {
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let read = |query: &str| {
            let mut select = connection.prepare_cached(query)?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
            rows.collect::<Result<HashMap<_, _>, _>>()
        };
        Ok(Self {
            logstores: read("SELECT logstore, name, deleted FROM deleted_logstore")?,
            projects: read("SELECT project, name, deleted FROM deleted_project")?,
        })
    }

    /// Moves the deleted logstores of a project out of it. Returns them, and the project if it is deleted.
    pub(super) fn take(
        &self,
        id: i64,
        project: &Project,
        logstores: &mut BTreeMap<String, Arc<Logstore>>,
    ) -> (Vec<DeletedLogstore>, Option<DeletedProject>) {
        let deleted_project = self.projects.get(&id);
        let mut taken = vec![];
        logstores.retain(|_, logstore| {
            let mark = self.logstores.get(&logstore.id);
            let own = mark.map(|(name, deleted)| (name.clone(), *deleted));
            let inherited = deleted_project.map(|(_, deleted)| (logstore.name.clone(), *deleted));
            let Some((name, deleted)) = own.or(inherited) else { return true };
            for shard in &logstore.shards {
                shard.state.read_only.store(true, Ordering::Release);
            }
            taken.push(DeletedLogstore {
                project: deleted_project.map_or(&project.name, |(name, _)| name).clone(),
                name,
                deleted,
                with_project: deleted_project.is_some(),
                logstore: Arc::clone(logstore),
            });
            false
        });
        let project = deleted_project.map(|(name, deleted)| DeletedProject {
            row: id,
            name: name.clone(),
            deleted: *deleted,
        });
        (taken, project)
    }
}

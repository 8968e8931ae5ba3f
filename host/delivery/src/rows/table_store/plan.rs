//! The plans of rules of Table Store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logship_config::table_store_rule::{TableStoreRule, WriteMode};
use logship_logstore::{ObjectManifest, TaskId};
use logship_registry::Registry;
use logship_runtime::stage::{Identity, StageError};
use logship_sink::table_store::{Stop, TableStore, Write};
use logship_source::shard_reader::ShardReader;
use tokio::runtime::Handle;

use crate::dead_letter::{DeadLetters, Origin};
use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::{PlanError, TaskError};
use crate::engine::plan::Plan;
use crate::engine::work::{BatchPlan, Prepared};
use crate::rows::RowEncoding;
use crate::rows::table_store::encoding::{self, ShardName};
use crate::rows::table_store::table;
use crate::rows::table_store::write::{TaskRows, Written};

/// Concurrent requests of a task whose rows have keys of their own.
const REQUESTS: usize = 8;

/// A plan with its stages and its instance opened.
#[derive(Debug)]
pub(super) struct TablePlan {
    project: String,
    logstore: String,
    /// The rule, with stages pinned by digest.
    rule: TableStoreRule,
    registry: Registry,
    /// The stages of a shard, for checks and names.
    encoding: RowEncoding,
    sink: TableStore,
    dead_letters: Arc<DeadLetters>,
    runtime: Handle,
    /// The record as JSON.
    content: String,
    /// True once the table exists and has the rule's key.
    is_table_checked: AtomicBool,
}

impl TablePlan {
    pub(super) fn new(
        (project, logstore): (String, String),
        rule: TableStoreRule,
        content: String,
        (registry, encoding): (Registry, RowEncoding),
        sink: TableStore,
        dead_letters: Arc<DeadLetters>,
        runtime: Handle,
    ) -> Self {
        let is_table_checked = AtomicBool::new(false);
        Self {
            project,
            logstore,
            rule,
            registry,
            encoding,
            sink,
            dead_letters,
            runtime,
            content,
            is_table_checked,
        }
    }

    /// The name of the table for people.
    fn table_name(&self) -> String {
        format!("{}/{}", logship_sink::sink::Sink::name(&self.sink), self.rule.table)
    }

    /// Writes the rows of a task. Returns the number of filtered logs.
    fn write(&self, attempt: &Attempt<'_>) -> Result<u64, TaskError> {
        let stop = || attempt.is_stopping();
        if !self.is_table_checked.load(Ordering::Relaxed) {
            self.runtime.block_on(table::ensure(&self.sink, &self.rule, &stop))?;
            self.is_table_checked.store(true, Ordering::Relaxed);
        }
        let written = self.write_rows(attempt, &stop).inspect_err(|_| {
            // The table may have been deleted or replaced.
            self.is_table_checked.store(false, Ordering::Relaxed);
        })?;
        Step::Published.reached();
        let Written { rows, raw_bytes, stored_bytes, filtered, lost } = written;
        attempt.save_lost(lost)?;
        // There is no object, and so no digest.
        let manifest =
            ObjectManifest { rows, raw_bytes, stored_bytes, sha256: String::new(), objects: vec![] };
        attempt.save_manifest(attempt.task.end, manifest)?;
        attempt.count_shipped(rows, stored_bytes);
        Ok(filtered)
    }

    fn write_rows(&self, attempt: &Attempt<'_>, stop: Stop<'_>) -> Result<Written, TaskError> {
        let shard = attempt.task.shard;
        let name = ShardName { project: &self.project, logstore: &self.logstore, shard };
        let stages = (self.rule.encoder(), &self.rule.transform[..]);
        let encoding = encoding::open(&self.registry, stages, &self.rule, &name).map_err(PlanError::from)?;
        let has_default_key = self.rule.has_default_key();
        let to = Write {
            table: &self.rule.table,
            is_update: self.rule.write == WriteMode::Update,
            requests: if has_default_key { REQUESTS } else { 1 },
        };
        let origin = Origin {
            rule: self.rule.name.clone(),
            receiver: self.table_name(),
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard,
            work: None,
        };
        let rows = TaskRows {
            sink: &self.sink,
            to,
            has_default_key,
            dead_letters: &self.dead_letters,
            origin,
            runtime: &self.runtime,
        };
        rows.write(attempt, encoding.open(shard)?, stop)
    }
}

impl Plan for TablePlan {
    fn content(&self) -> &str {
        &self.content
    }

    fn stages(&self) -> Vec<&Identity> {
        self.encoding.stages().collect()
    }

    fn output_name(&self, _task: TaskId, _shard: u32) -> Result<String, StageError> {
        Ok(self.table_name())
    }
}

impl BatchPlan for TablePlan {
    fn prepare<'p>(&'p self, attempt: &Attempt<'_>, _: &mut ShardReader) -> Result<Prepared<'p>, TaskError> {
        let end = attempt.task.end;
        if attempt.task.manifest.is_some() {
            // All rows were written before.
            return Ok(Prepared { end, filtered: 0, is_called: false, deliver: None });
        }
        if !self.rule.has_default_key() {
            // The next task of the shard waits, because the last of several rows with the same key wins.
            let filtered = self.write(attempt)?;
            return Ok(Prepared { end, filtered, is_called: true, deliver: None });
        }
        let deliver = Box::new(|attempt: &Attempt<'_>| {
            let filtered = self.write(attempt)?;
            attempt.count_filtered(filtered);
            Ok(())
        });
        Ok(Prepared { end, filtered: 0, is_called: true, deliver: Some(deliver) })
    }
}

//! The operation on whose behalf the store is changed.
//!
//! The scope of an operation is a task-local value, like the span of a log line: the store's methods need no parameter
//! for it, and none can forget to pass it on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::AuditRecord;

tokio::task_local! {
    static SCOPE: Arc<AuditScope>;
}

/// An operation that the audit log records. The first change of the store within it writes its record, in the
/// transaction of the change.
#[derive(Debug)]
pub struct AuditScope {
    pub(crate) record: AuditRecord,
    is_recorded: AtomicBool,
}

impl AuditScope {
    /// Creates the scope of an operation. `record` has no outcome yet.
    pub fn new(record: AuditRecord) -> Arc<Self> {
        Arc::new(Self { record, is_recorded: AtomicBool::new(false) })
    }

    /// Runs a future within the scope.
    pub fn run<F: Future>(self: Arc<Self>, future: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, future)
    }

    /// Runs work on another thread within the scope of this task, if it has one.
    pub fn inherit<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let scope = Self::current();
        move || match scope {
            Some(scope) => SCOPE.sync_scope(scope, work),
            None => work(),
        }
    }

    /// Returns the scope of this task.
    pub(crate) fn current() -> Option<Arc<Self>> {
        SCOPE.try_with(Arc::clone).ok()
    }

    /// Returns the record of the operation.
    pub fn record(&self) -> &AuditRecord {
        &self.record
    }

    /// Returns true if a change of the store has written the record.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded.load(Ordering::Acquire)
    }

    pub(crate) fn set_recorded(&self) {
        self.is_recorded.store(true, Ordering::Release);
    }
}

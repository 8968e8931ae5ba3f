//! Errors of Table Store, as the engine records them.

use logship_sink::table_store::{Class, TableStoreError};

use crate::engine::error::{Failure, TaskError};

/// The table does not fit the rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableProblem {
    /// There is no such table.
    #[error("table {table} does not exist: create it, or set `create_table` in the rule")]
    Missing {
        /// The table.
        table: String,
    },
    /// The primary keys differ.
    #[error(
        "table {table} has the primary key ({found}), and the rule writes ({expected}): set `key` and `columns` in the rule, or use another table"
    )]
    Key {
        /// The table.
        table: String,
        /// The table's key.
        found: String,
        /// The rule's key.
        expected: String,
    },
    /// The server chooses a part of the key.
    #[error(
        "table {table} has an auto-increment column in its primary key, and a repeated request would write a row twice: use a table without one"
    )]
    AutoIncrement {
        /// The table.
        table: String,
    },
}

impl From<TableProblem> for Failure {
    fn from(problem: TableProblem) -> Self {
        let code = if matches!(problem, TableProblem::Missing { .. }) {
            "ConfigNotExist"
        } else {
            "ParameterInvalid"
        };
        let mut failure = Self::new(problem);
        (failure.code, failure.destination_failed) = (code, Some(true));
        failure
    }
}

impl From<TableProblem> for TaskError {
    fn from(problem: TableProblem) -> Self {
        Failure::from(problem).into()
    }
}

impl From<TableStoreError> for Failure {
    fn from(error: TableStoreError) -> Self {
        let code = error.log_service_code();
        let mut failure = Self::new(error);
        (failure.code, failure.destination_failed) = (code, Some(true));
        failure
    }
}

impl From<TableStoreError> for TaskError {
    fn from(error: TableStoreError) -> Self {
        match error.class {
            Class::Stopped => Self::Stopping,
            _ => Failure::from(error).into(),
        }
    }
}

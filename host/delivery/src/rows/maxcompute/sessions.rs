//! The upload sessions of a task, as they are stored with it.

use std::collections::BTreeMap;

use logship_sink::maxcompute::{TableRef, TableSchema};
use serde::{Deserialize, Serialize};

use super::error::RowError;
use crate::engine::batch::Attempt;
use crate::engine::error::TaskError;

/// The sessions of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sessions {
    /// The plan that made the blocks.
    #[serde(default)]
    pub(super) plan: i64,
    /// The schema that the blocks have.
    pub(super) schema: TableSchema,
    /// The sessions by partition. A table without partitions has one, of an empty text.
    pub(super) sessions: BTreeMap<String, SavedSession>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedSession {
    pub(super) id: String,
    pub(super) state: SessionState,
}

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SessionState {
    /// No commit was sent.
    Open,
    /// A commit was sent, perhaps.
    Committing,
    /// The rows are visible.
    Committed,
    /// The session is gone after its commit was sent. The next attempt is an operator's decision, as it may write the rows again.
    Unclear,
}

impl Sessions {
    /// Parses the stored form.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the stored form.
    pub(super) fn text(&self) -> String {
        // Texts and maps always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// True if the rows of a partition are visible.
    pub(super) fn is_committed(&self, partition: &str) -> bool {
        self.sessions.get(partition).is_some_and(|session| session.state == SessionState::Committed)
    }

    /// Sets the state of a partition's session.
    pub(super) fn set(&mut self, partition: &str, state: SessionState) {
        if let Some(session) = self.sessions.get_mut(partition) {
            session.state = state;
        }
    }
}

/// Returns the place of a partition of a table.
pub(super) fn of_partition(table: &TableRef, partition: &str) -> TableRef {
    let partition = Some(partition).filter(|text| !text.is_empty()).map(str::to_owned);
    TableRef { partition, ..table.clone() }
}

/// Records that it is not known whether the rows of a partition are visible. Returns the error that says so.
pub(super) fn unclear(
    attempt: &Attempt<'_>,
    sessions: &mut Sessions,
    place: &TableRef,
    partition: &str,
    why: &str,
) -> TaskError {
    let session = sessions.sessions.get(partition).map(|session| session.id.clone()).unwrap_or_default();
    sessions.set(partition, SessionState::Unclear);
    if let Err(error) = attempt.save_sessions(sessions.text()) {
        return error;
    }
    RowError::Unclear { place: place.place(), session, why: why.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_stays_readable() {
        let text = r#"{"plan":7,"schema":{"columns":[{"name":"a","type":"bigint","nullable":true}],"partitionKeys":[]},"sessions":{"pt=1":{"id":"x","state":"committing"}}}"#;
        let mut sessions = Sessions::parse(text).unwrap();
        assert_eq!(sessions.text(), text);
        assert!(!sessions.is_committed("pt=1"));
        sessions.set("pt=1", SessionState::Committed);
        assert!(sessions.is_committed("pt=1") && !sessions.is_committed("pt=2"));
    }
}

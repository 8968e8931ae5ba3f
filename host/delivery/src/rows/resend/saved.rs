//! The state of a resend to MaxCompute, as it is stored.

use std::collections::{BTreeMap, BTreeSet};

use logship_sink::maxcompute::TableRef;
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;
use crate::rows::maxcompute::SessionState;

/// How far the letters of an object are resent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The upload sessions.
    pub(super) sessions: Vec<SavedSession>,
    /// The letters that are dirty again, by index, once all sessions are committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rest: Option<BTreeMap<u32, DeadLetter>>,
}

/// An upload session of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedSession {
    pub(super) table: TableRef,
    pub(super) id: String,
    /// The indexes of its letters.
    pub(super) letters: Vec<u32>,
    pub(super) state: SessionState,
}

impl Saved {
    /// Parses the stored form.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the stored form.
    pub(super) fn text(&self) -> String {
        // Texts and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the letters whose rows are visible.
    pub(super) fn written(&self) -> BTreeSet<u32> {
        let committed = self.sessions.iter().filter(|session| session.state == SessionState::Committed);
        committed.flat_map(|session| &session.letters).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_stays_readable() {
        let table = r#"{"table":"t","partition":"pt=1","overwrite":false,"create_partition":true}"#;
        let text = format!(
            r#"{{"sessions":[{{"table":{table},"id":"x","letters":[0,2],"state":"committed"}},{{"table":{table},"id":"y","letters":[1],"state":"committing"}}]}}"#
        );
        let saved = Saved::parse(&text).unwrap();
        assert_eq!(saved.text(), text);
        assert_eq!(saved.written(), BTreeSet::from([0, 2]));
    }
}

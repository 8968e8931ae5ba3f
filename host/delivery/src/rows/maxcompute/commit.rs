//! Commits of the sessions of a task.

use logship_sink::maxcompute::{Class, CommitOutcome, MaxCompute, TableRef};

use super::error::{RowError, failure};
use super::sessions::{SavedSession, SessionState, Sessions, of_partition, unclear};
use crate::engine::Step;
use crate::engine::batch::Attempt;
use crate::engine::error::TaskError;

/// The number of blocks of a partition.
pub(super) type BlockCounts = Vec<(String, u32)>;

/// Commits the sessions of all partitions that have blocks, one after the other.
pub(super) fn commit_all(
    attempt: &Attempt<'_>,
    sink: &MaxCompute,
    table: &TableRef,
    mut sessions: Sessions,
    blocks: &BlockCounts,
) -> Result<(), TaskError> {
    let mut left = blocks.len();
    for (partition, count) in blocks {
        left -= 1;
        if !sessions.is_committed(partition) {
            commit(attempt, sink, table, &mut sessions, (partition, *count))?;
        }
        let step = if left == 0 { Step::Published } else { Step::PartlyPublished };
        step.reached();
    }
    Ok(())
}

fn commit(
    attempt: &Attempt<'_>,
    sink: &MaxCompute,
    table: &TableRef,
    sessions: &mut Sessions,
    (partition, count): (&str, u32),
) -> Result<(), TaskError> {
    let place = of_partition(table, partition);
    let Some(SavedSession { id, state }) = sessions.sessions.get(partition).cloned() else {
        return Err(RowError::Table(format!("{} has no upload session", place.place())).into());
    };
    sessions.set(partition, SessionState::Committing);
    attempt.save_sessions(sessions.text())?;
    Step::CommitSaved.reached();
    let blocks: Vec<u32> = (0..count).collect();
    match attempt.wait(sink.commit(&place, &id, &blocks))? {
        Ok(CommitOutcome::Committed) => {
            Step::Committed.reached();
            sessions.set(partition, SessionState::Committed);
            attempt.save_sessions(sessions.text())
        }
        Ok(CommitOutcome::Unknown { why, was_sent }) if was_sent || state == SessionState::Committing => {
            Err(unclear(attempt, sessions, &place, partition, &why))
        }
        // No commit was sent.
        Ok(CommitOutcome::Unknown { why, .. }) => {
            sessions.sessions.remove(partition);
            attempt.save_sessions(sessions.text())?;
            Err(RowError::Ended { place: place.place(), session: id, why }.into())
        }
        // The server has refused it, or the session has other blocks.
        Err(error) if matches!(error.class(), Class::NewSession | Class::SessionDone) => {
            sessions.sessions.remove(partition);
            attempt.save_sessions(sessions.text())?;
            Err(failure(error).into())
        }
        Err(error) => Err(failure(error).into()),
    }
}

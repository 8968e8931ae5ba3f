//! Appends the rows of dead letters to MaxCompute: an upload session for each partition.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use logship_logstore::ShippingRule;
use logship_sink::maxcompute::{Class, CommitOutcome, TableRef, TableSchema};

use super::encode::{PartitionRows, Transformed};
use super::error::ResendError;
use super::logs::{self, LetterLogs};
use super::saved::{Saved, SavedSession};
use super::step::ResendStep;
use super::{Letters, Outcome, Resender};
use crate::engine::work::RuleSpec;
use crate::pipeline::pieces::Piece;
use crate::rows::encode::{RowEncoding, select};
use crate::rows::jobs::RunError;
use crate::rows::jobs::destination::{Tables, opened};
use crate::rows::jobs::encoder::encoding;
use crate::rows::jobs::run_table::RunTable;
use crate::rows::maxcompute::SessionState;
use crate::rows::maxcompute::route::{Route, Routed};
use crate::rows::maxcompute::rule_table::RuleTable;

/// The number of the only block of a session.
const BLOCK: u32 = 0;

/// A table, and the stages that make its rows.
#[derive(Debug)]
pub(super) struct Place {
    encoding: RowEncoding,
    /// The partitions of logs. `None`: all have that of the table.
    route: Option<Route>,
    table: TableRef,
    schema: TableSchema,
    tables: Arc<dyn Tables>,
    /// The project and the Logstore of the logs, if they are in this service.
    logstore: Option<(String, String)>,
}

impl Place {
    /// Returns the place of the rows of a rule.
    pub(super) fn of_rule(
        resender: &Resender,
        letters: &Letters,
        rule: &ShippingRule,
    ) -> Result<Self, ResendError> {
        let (project, logstore) = (&letters.origin.project, &letters.origin.logstore);
        let spec = RuleSpec::of(project, logstore, rule);
        let deadline = Instant::now() + super::TIME_LIMIT;
        let found = resender.wait(deadline, resender.maxcompute.table_of_rule(spec))?;
        let RuleTable { encoding, route, table, schema, sink, protocol } = found;
        let (tables, logstore) = (opened(sink, protocol), Some((project.clone(), logstore.clone())));
        Ok(Self { encoding, route: Some(route), table, schema, tables, logstore })
    }

    /// Returns the place of the rows of a run; `None` if a later run has encoded the logs again.
    pub(super) fn of_run(
        resender: &Resender,
        letters: &Letters,
        run: i64,
    ) -> Result<Option<Self>, ResendError> {
        let origin = &letters.origin;
        let logs: Vec<_> =
            letters.lines.iter().map(|line| (origin.shard, line.letter.position.cursor)).collect();
        let deadline = Instant::now() + super::TIME_LIMIT;
        let found = resender.jobs.table_of_run(&origin.project, &origin.rule, (run, &logs));
        let Some(RunTable { plan, tables }) = resender.wait(deadline, found)? else { return Ok(None) };
        let encoding = encoding(&resender.registry, &plan)?;
        let logstore = plan.remote.is_none().then_some((plan.project, plan.logstore));
        Ok(Some(Self { encoding, route: None, table: plan.table, schema: plan.schema, tables, logstore }))
    }

    /// Returns the name of the table.
    pub(super) fn table_name(&self) -> &str {
        &self.table.table
    }

    /// Returns a partition of the table.
    fn partition(&self, partition: &str) -> TableRef {
        match partition {
            "" => self.table.clone(),
            partition => TableRef { partition: Some(partition.to_owned()), ..self.table.clone() },
        }
    }
}

/// Writes the rows of letters.
pub(super) fn write(
    resender: &Resender,
    letters: &Letters,
    place: Place,
    (saved, deadline): (Saved, Instant),
) -> Result<Outcome, ResendError> {
    let mut upload = Upload { resender, letters, place, saved, deadline };
    upload.resume()?;
    let before = upload.saved.written();
    let logstore = upload.place.logstore.clone();
    let logstore = logstore.as_ref().map(|(project, logstore)| (project.as_str(), logstore.as_str()));
    let logs = logs::read(&resender.store, logstore, letters, &before);
    let encoding = upload.place.encoding.clone();
    let mut made = Transformed::new(&encoding, letters, &logs)?;
    let mut written = 0;
    for (partition, pieces) in divide(&mut made, &mut upload.place) {
        let rows = encode(&mut made, &logs, &encoding, &pieces)?;
        if !rows.letters.is_empty() {
            written += rows.letters.len();
            upload.commit(&partition, rows)?;
        }
    }
    let outcome = made.outcome(written);
    // From here on, the letters are not encoded again: the new object may exist beside the old one.
    upload.saved.rest = Some(outcome.dirty.clone());
    upload.save()?;
    ResendStep::RestSaved.reached();
    Ok(Outcome { written: written + before.len(), ..outcome })
}

/// Finds the partitions of the logs.
fn divide(made: &mut Transformed<'_>, place: &mut Place) -> BTreeMap<String, Vec<Piece<'static>>> {
    let mut partitions: BTreeMap<String, Vec<Piece<'static>>> = BTreeMap::new();
    for piece in std::mem::take(&mut made.pieces) {
        let routed = match &mut place.route {
            Some(route) => route.route(&piece.batch),
            None => Routed::whole(piece.batch.len()),
        };
        made.add_dirty(&piece, &routed.dirty_values());
        for (partition, logs) in routed.partitions {
            let origins = logs.iter().map(|&log| piece.origin(log as usize)).collect();
            let batch = Cow::Owned(piece.batch.select(&logs));
            partitions.entry(partition).or_default().push(Piece { batch, origins: Some(origins) });
        }
    }
    partitions
}

/// Encodes the logs of a partition.
fn encode(
    made: &mut Transformed<'_>,
    logs: &LetterLogs,
    encoding: &RowEncoding,
    pieces: &[Piece<'_>],
) -> Result<PartitionRows, ResendError> {
    let (mut encoder, mut all) = (encoding.open_encoder()?, PartitionRows::default());
    for piece in pieces {
        let positions = select(&logs.positions, piece.origins.as_deref().unwrap_or_default());
        let rows = encoder.push(&piece.batch, &positions)?;
        made.add_dirty(piece, &rows.dirty);
        all.letters.extend((0..rows.count as usize).map(|row| made.letter(piece, &rows, row)));
        all.bytes.extend(rows.bytes);
    }
    all.bytes.extend(encoder.finish()?);
    Ok(all)
}

/// The sessions of a resend.
struct Upload<'r> {
    resender: &'r Resender,
    letters: &'r Letters,
    place: Place,
    saved: Saved,
    deadline: Instant,
}

impl Upload<'_> {
    /// Finds out what became of the sessions of a resend that was interrupted.
    fn resume(&mut self) -> Result<(), ResendError> {
        // Sessions without a commit end by themselves. Of unclear ones, the user has decided to write the rows again.
        self.saved
            .sessions
            .retain(|session| matches!(session.state, SessionState::Committing | SessionState::Committed));
        for index in 0..self.saved.sessions.len() {
            if self.saved.sessions[index].state == SessionState::Committing {
                self.commit_session(index, true)?;
            }
        }
        Ok(())
    }

    /// Uploads and commits the rows of a partition.
    fn commit(&mut self, partition: &str, rows: PartitionRows) -> Result<(), ResendError> {
        let PartitionRows { bytes, letters } = rows;
        let table = self.place.partition(partition);
        let tables = Arc::clone(&self.place.tables);
        let session = self.resender.wait(self.deadline, tables.create_session(&table))?;
        if session.columns() != self.place.schema.columns {
            return Err(ResendError::TableChanged(table.place()));
        }
        let (id, state) = (session.id, SessionState::Open);
        self.saved.sessions.push(SavedSession { table: table.clone(), id: id.clone(), letters, state });
        self.save()?;
        ResendStep::SessionSaved.reached();
        self.resender.wait(self.deadline, tables.put_block(&table, &id, BLOCK, bytes.into()))?;
        ResendStep::BlockUploaded.reached();
        self.commit_session(self.saved.sessions.len() - 1, false)
    }

    /// Commits a session. `was_sent` is true if a commit may have been sent before.
    fn commit_session(&mut self, index: usize, was_sent: bool) -> Result<(), ResendError> {
        self.set(index, SessionState::Committing)?;
        ResendStep::CommitBegun.reached();
        let SavedSession { table, id, letters, .. } = self.saved.sessions[index].clone();
        let tables = Arc::clone(&self.place.tables);
        match self.resender.wait(self.deadline, tables.commit(&table, &id, &[BLOCK])) {
            Ok(CommitOutcome::Committed) => {
                ResendStep::Committed.reached();
                self.set(index, SessionState::Committed)?;
                ResendStep::CommitSaved.reached();
                Ok(())
            }
            Ok(CommitOutcome::Unknown { why, was_sent: now }) if now || was_sent => {
                self.set(index, SessionState::Unclear)?;
                let (rows, place) = (letters.len(), table.place());
                Err(ResendError::Unclear { rows, place, session: id, why })
            }
            Ok(CommitOutcome::Unknown { why, .. }) => {
                self.forget(index)?;
                Err(ResendError::Ended(why))
            }
            Err(error) => {
                // Nothing was committed, and nothing can be.
                if is_refused(&error) {
                    self.forget(index)?;
                }
                Err(error)
            }
        }
    }

    fn set(&mut self, index: usize, state: SessionState) -> Result<(), ResendError> {
        self.saved.sessions[index].state = state;
        self.save()
    }

    fn forget(&mut self, index: usize) -> Result<(), ResendError> {
        self.saved.sessions.remove(index);
        self.save()
    }

    fn save(&self) -> Result<(), ResendError> {
        let Self { resender, letters, saved, .. } = self;
        Ok(resender.runtime.block_on(resender.store.save_resend(&letters.key, saved.text()))?)
    }
}

/// Returns true if the server has refused a commit for good.
fn is_refused(error: &ResendError) -> bool {
    let ResendError::Run(error) = error else { return false };
    matches!(&**error, RunError::Destination(error) if error.class() == Class::NewSession)
}

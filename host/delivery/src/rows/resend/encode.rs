//! Encodes the logs of dead letters. Those that are dirty again are collected with their new reason.

use std::collections::{BTreeMap, HashSet};

use logship_runtime::stage::{DirtyValue, Rows};

use super::error::ResendError;
use super::logs::LetterLogs;
use super::{Letters, Outcome};
use crate::dead_letter::{DIRTY, DeadLetter};
use crate::pipeline::pieces::{Piece, transform};
use crate::rows::dirty::reasons;
use crate::rows::encode::RowEncoding;

/// The logs of letters, transformed.
pub(super) struct Transformed<'l> {
    letters: &'l Letters,
    logs: &'l LetterLogs,
    pub(super) pieces: Vec<Piece<'l>>,
    /// By its letter, each log that is dirty again.
    dirty: BTreeMap<u32, DeadLetter>,
}

impl<'l> Transformed<'l> {
    /// Passes the logs through the transformers of a rule.
    pub(super) fn new(
        encoding: &RowEncoding,
        letters: &'l Letters,
        logs: &'l LetterLogs,
    ) -> Result<Self, ResendError> {
        let mut made = Self { letters, logs, pieces: vec![], dirty: BTreeMap::new() };
        let mut rejected = vec![];
        let mut reject = |piece: &Piece<'_>, log: usize, reason: &str| {
            rejected.push((piece.origin(log), reason.to_owned()));
        };
        made.pieces = transform(&mut encoding.open_transformers()?, &logs.batch, &mut reject)?;
        let mut seen = HashSet::new();
        let mut origins = made.pieces.iter().flat_map(|piece| {
            let logs = 0..piece.batch.len();
            logs.map(|log| piece.origin(log))
        });
        if !origins.all(|log| seen.insert(log)) || rejected.iter().any(|(log, _)| seen.contains(log)) {
            return Err(ResendError::Several);
        }
        rejected.into_iter().for_each(|(log, reason)| made.mark(log, ("rejected", reason), vec![]));
        Ok(made)
    }

    /// Returns the letter of a row of a piece.
    pub(super) fn letter(&self, piece: &Piece<'_>, rows: &Rows, row: usize) -> u32 {
        let log = rows.logs.get(row).map_or(row, |log| *log as usize);
        self.logs.letters[piece.origin(log) as usize]
    }

    /// Adds the values of a piece that do not convert.
    pub(super) fn add_dirty(&mut self, piece: &Piece<'_>, values: &[DirtyValue]) {
        for values in values.chunk_by(|one, next| one.log == next.log) {
            let columns = values.iter().map(|value| value.column.clone()).collect();
            self.mark(piece.origin(values[0].log as usize), (DIRTY, reasons(values)), columns);
        }
    }

    /// Marks the log of a letter as dirty again.
    fn mark(&mut self, log: u32, (code, reason): (&str, String), columns: Vec<String>) {
        self.refuse(self.logs.letters[log as usize], (code, reason), columns);
    }

    /// Marks a letter as dirty again.
    pub(super) fn refuse(&mut self, letter: u32, (code, reason): (&str, String), columns: Vec<String>) {
        let old = self.letters.lines[letter as usize].letter.clone();
        self.dirty.insert(letter, DeadLetter { code: code.to_owned(), reason, columns, ..old });
    }

    /// Returns the outcome for this many rows.
    pub(super) fn outcome(self, written: usize) -> Outcome {
        let filtered = self.logs.letters.len().saturating_sub(written + self.dirty.len());
        Outcome { written, filtered, dirty: self.dirty }
    }
}

/// The rows of a partition.
#[derive(Debug, Default)]
pub(super) struct PartitionRows {
    pub(super) bytes: Vec<u8>,
    pub(super) letters: Vec<u32>,
}

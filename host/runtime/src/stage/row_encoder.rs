use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::{
    Identity, Kind, Positions, RowEncoderDescription as Description, Rows, StageError, Table,
    checked_identity,
};
use crate::bindings::row_encoder::exports::logship::rows::row_encoder::Error;
use crate::bindings::row_encoder::{RowEncoder, RowEncoderPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// A row encoder, ready to be instantiated.
pub struct RowEncoderStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: RowEncoderPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl RowEncoderStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: RowEncoderPre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, encoder| encoder.logship_rows_row_encoder().call_describe(store))?;
        let Description { name, version, protocols, config_schema } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        if protocols.is_empty() || protocols.iter().any(String::is_empty) {
            let what = "its list of protocols is empty, or has an empty name".to_owned();
            return Err(StageError::Description { stage: identity, what });
        }
        let metrics = engine.metrics_of(&identity, Kind::RowEncoder);
        Ok(Self { engine: engine.clone(), identity, description, pre, metrics })
    }

    /// Returns the identity of the component.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the stage's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Opens a block, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], [`StageError::Table`], or any error of a call.
    pub fn open(&self, config: &str, table: &Table) -> Result<RowSession, StageError> {
        let mut instance = self.instance()?;
        let resource = instance.open(config, table)?;
        Ok(RowSession { instance, resource })
    }

    /// Takes an instance from the pool, without a block.
    pub fn instance(&self) -> Result<RowEncoderInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store));
        instance.map(RowEncoderInstance)
    }
}

impl fmt::Debug for RowEncoderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a row encoder. It can hold several open blocks. After a trap it is unusable.
pub struct RowEncoderInstance(Instance<RowEncoder>);

impl RowEncoderInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, encoder| encoder.logship_rows_row_encoder().call_describe(store))
    }

    /// Opens a resource with a configuration, for a table.
    ///
    /// # Errors
    /// If the stage rejects the configuration or the table, traps or exceeds a limit.
    pub fn open(&mut self, config: &str, table: &Table) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, encoder| {
                encoder.logship_rows_row_encoder().session().call_open(store, config, table)
            })?
            .map_err(|error| self.refusal(error))
    }

    /// Passes a chunk to an open resource. Returns its rows.
    ///
    /// # Errors
    /// If the stage rejects the chunk, returns invalid rows, traps or exceeds a limit.
    pub fn push(
        &mut self,
        session: ResourceAny,
        batch: &LogBatch,
        positions: &Positions,
    ) -> Result<Rows, StageError> {
        let rows = self
            .0
            .call(|store, encoder| {
                encoder.logship_rows_row_encoder().session().call_push(store, session, batch, positions)
            })?
            .map_err(|error| self.refusal(error))?;
        match problem(&rows, batch.len()) {
            None => {
                self.0.record_bytes(batch.bytes(), rows.bytes.len());
                Ok(rows)
            }
            Some(what) => {
                Err(self.0.record_failure(StageError::Rows { stage: self.0.stage().clone(), what }))
            }
        }
    }

    /// Ends a resource. Returns the last bytes of the block.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn finish(&mut self, session: ResourceAny) -> Result<Vec<u8>, StageError> {
        let bytes = self
            .0
            .call(|store, encoder| encoder.logship_rows_row_encoder().session().call_finish(store, session))?
            .map_err(|error| self.refusal(error))?;
        self.0.record_bytes(0, bytes.len());
        Ok(bytes)
    }

    /// Drops a resource that is not finished.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn discard(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.0.discard(session)
    }

    /// Returns the current size of the linear memory, in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    fn refusal(&self, error: Error) -> StageError {
        self.0.record_failure(refusal(self.0.stage(), error))
    }
}

/// A block that is being encoded. After an error it is unusable.
pub struct RowSession {
    instance: RowEncoderInstance,
    resource: ResourceAny,
}

impl RowSession {
    /// Encodes the next logs.
    ///
    /// # Errors
    /// Any error of a call.
    pub fn push(&mut self, batch: &LogBatch, positions: &Positions) -> Result<Rows, StageError> {
        self.instance.push(self.resource, batch, positions)
    }

    /// Finishes the block. Returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u8>, StageError> {
        self.instance.finish(self.resource)
    }
}

impl fmt::Debug for RowSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowSession of {}", self.instance.0.stage())
    }
}

/// Returns the violation of the contract by the rows for a batch of `logs` logs, if any.
fn problem(rows: &Rows, logs: usize) -> Option<&'static str> {
    let Rows { bytes, count, ends, key_ends, logs: origins, dirty } = rows;
    let count = *count as usize;
    if !ends.is_empty()
        && (ends.len() != count
            || !ends.is_sorted()
            || ends.last().is_some_and(|&end| end as usize != bytes.len()))
    {
        return Some("`ends` has not one element per row, or does not cover the bytes");
    }
    if !key_ends.is_empty() && !keys_in_rows(key_ends, ends) {
        return Some("a key of `key-ends` is not at the beginning of its row");
    }
    if !origins.is_empty()
        && (origins.len() != count
            || !(sorted_below(origins.iter().copied(), logs)
                && origins.windows(2).all(|pair| pair[0] < pair[1])))
    {
        return Some("`logs` has not one element per row, is not sorted, or has an index outside the batch");
    }
    let mut dirty: Vec<u32> = dirty.iter().map(|value| value.log).collect();
    if !sorted_below(dirty.iter().copied(), logs) {
        return Some("`dirty` is not sorted by log, or has an index outside the batch");
    }
    dirty.dedup();
    let apart = dirty.iter().all(|log| origins.binary_search(log).is_err());
    let (listed, all) = (!origins.is_empty() || count == 0, count + dirty.len() == logs);
    (!all || !apart || !listed && !dirty.is_empty())
        .then_some("a log has neither a row nor a dirty value, or it has both")
}

fn keys_in_rows(key_ends: &[u32], ends: &[u32]) -> bool {
    let begins = std::iter::once(&0).chain(ends);
    key_ends.len() == ends.len()
        && key_ends.iter().zip(ends).zip(begins).all(|((key, end), begin)| begin <= key && key <= end)
}

fn sorted_below(indexes: impl Iterator<Item = u32> + Clone, count: usize) -> bool {
    indexes.clone().is_sorted() && indexes.last().is_none_or(|last| (last as usize) < count)
}

fn refusal(stage: &Identity, error: Error) -> StageError {
    let stage = stage.clone();
    match error {
        Error::InvalidConfig(problem) => {
            StageError::Config { stage, path: problem.path, reason: problem.reason }
        }
        Error::InvalidTable(problem) => {
            StageError::Table { stage, column: problem.column, reason: problem.reason }
        }
        Error::InvalidBatch(invariant) => StageError::InvalidBatch { stage, invariant },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::DirtyValue;

    fn rows(bytes: &[u8], ends: &[u32], logs: &[u32], dirty: &[u32]) -> Rows {
        let dirty_value = |&log: &u32| DirtyValue { log, column: "c".into(), reason: "r".into() };
        Rows {
            bytes: bytes.to_vec(),
            count: ends.len() as u32,
            ends: ends.to_vec(),
            key_ends: vec![],
            logs: logs.to_vec(),
            dirty: dirty.iter().map(dirty_value).collect(),
        }
    }

    #[test]
    fn rejects_invalid_rows() {
        for (valid, found, logs) in [
            (true, rows(b"abc", &[1, 3], &[], &[]), 2),
            (true, rows(b"abc", &[1, 3], &[0, 2], &[1, 1]), 3),
            (true, rows(b"", &[], &[], &[]), 0),
            (true, Rows { count: 2, ..rows(b"abc", &[], &[], &[]) }, 2),
            (true, Rows { key_ends: vec![1, 2], ..rows(b"abc", &[1, 3], &[], &[]) }, 2),
            (false, Rows { key_ends: vec![0, 0], ..rows(b"abc", &[1, 3], &[], &[]) }, 2),
            (false, Rows { key_ends: vec![2, 2], ..rows(b"abc", &[1, 3], &[], &[]) }, 2),
            (false, Rows { key_ends: vec![1], ..rows(b"abc", &[1, 3], &[], &[]) }, 2),
            (false, Rows { count: 1, ..rows(b"abc", &[], &[], &[]) }, 2),
            (false, Rows { count: 3, ..rows(b"abc", &[1, 3], &[], &[]) }, 3),
            (true, rows(b"", &[], &[], &[0, 1, 1]), 2),
            (false, rows(b"abc", &[1, 3], &[], &[]), 3),
            (false, rows(b"abc", &[1, 3], &[], &[2]), 3),
            (false, rows(b"abc", &[1, 3], &[0, 1], &[1]), 3),
            (false, rows(b"abc", &[1, 3], &[0, 0], &[2]), 3),
            (false, rows(b"", &[], &[], &[0]), 2),
            (false, rows(b"abc", &[3, 1], &[], &[]), 2),
            (false, rows(b"abc", &[1, 2], &[], &[]), 2),
            (false, rows(b"abc", &[1, 3], &[2, 0], &[]), 3),
            (false, rows(b"abc", &[1, 3], &[0, 3], &[]), 3),
            (false, rows(b"abc", &[1, 3], &[0, 1], &[3]), 3),
            (false, rows(b"abc", &[1, 3], &[0, 1], &[2, 1]), 3),
        ] {
            assert_eq!(problem(&found, logs).is_none(), valid, "{found:?} of {logs}");
        }
    }
}

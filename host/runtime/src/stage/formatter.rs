use std::fmt;
use std::sync::Arc;

use logship_batch::batch::LogBatch;
use wasmtime::component::ResourceAny;

use super::{FormatterDescription as Description, Identity, Kind, Messages, StageError, checked_identity};
use crate::bindings::formatter::exports::logship::siem::formatter::Error;
use crate::bindings::formatter::{Formatter, FormatterPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// A formatter, ready to be instantiated.
pub struct FormatterStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: FormatterPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl FormatterStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: FormatterPre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, formatter| formatter.logship_siem_formatter().call_describe(store))?;
        let Description { name, version, config_schema, .. } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        let metrics = engine.metrics_of(&identity, Kind::Formatter);
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

    /// Opens a session, in an instance of its own from the pool.
    ///
    /// # Errors
    /// [`StageError::Config`], or any error of a call.
    pub fn open(self: &Arc<Self>, config: &str) -> Result<FormattingSession, StageError> {
        let (stage, config) = (Arc::clone(self), config.to_owned());
        let mut instance = self.instance()?;
        let resource = instance.open(&config)?;
        let memory = instance.memory();
        Ok(FormattingSession { stage, config, instance, resource, memory })
    }

    /// Takes an instance from the pool, without a session.
    pub fn instance(&self) -> Result<FormatterInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store));
        instance.map(FormatterInstance)
    }
}

impl fmt::Debug for FormatterStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a formatter. It can hold several open sessions. After a trap it is unusable.
pub struct FormatterInstance(Instance<Formatter>);

impl FormatterInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, formatter| formatter.logship_siem_formatter().call_describe(store))
    }

    /// Opens a resource with a configuration.
    ///
    /// # Errors
    /// If the stage rejects the configuration, traps or exceeds a limit.
    pub fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.0
            .call(|store, formatter| formatter.logship_siem_formatter().session().call_open(store, config))?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))
    }

    /// Passes a chunk to an open resource. Returns the output for it.
    ///
    /// # Errors
    /// If the stage rejects the chunk, traps or exceeds a limit.
    pub fn push(&mut self, session: ResourceAny, batch: &LogBatch) -> Result<Messages, StageError> {
        let messages = self
            .0
            .call(|store, formatter| {
                formatter.logship_siem_formatter().session().call_push(store, session, batch)
            })?
            .map_err(|error| self.0.record_failure(refusal(self.0.stage(), error)))?;
        match problem(&messages, batch.len()) {
            None => {
                self.0.record_bytes(batch.bytes(), messages.bytes.len());
                Ok(messages)
            }
            Some(what) => {
                Err(self.0.record_failure(StageError::Messages { stage: self.0.stage().clone(), what }))
            }
        }
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
}

/// A sequence of batches under one configuration. It survives a rejection, but not a trap. It moves to a new
/// instance when the old one has to be recycled: the contract allows a restart between any two batches.
pub struct FormattingSession {
    stage: Arc<FormatterStage>,
    config: String,
    instance: FormatterInstance,
    resource: ResourceAny,
    /// Memory of the instance at its start, in bytes.
    memory: usize,
}

impl FormattingSession {
    /// Formats the logs of a batch.
    ///
    /// # Errors
    /// If the stage rejects a log, or any error of a call.
    pub fn push(&mut self, batch: &LogBatch) -> Result<Messages, StageError> {
        if self.instance.0.should_recycle(self.memory) {
            *self = self.stage.open(&self.config)?;
        }
        self.instance.push(self.resource, batch)
    }
}

impl fmt::Debug for FormattingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FormattingSession of {}", self.instance.0.stage())
    }
}

/// Returns the violation of the contract by the messages for a batch of `logs` logs, if any.
fn problem(messages: &Messages, logs: usize) -> Option<&'static str> {
    let Messages { bytes, ends, logs: origins } = messages;
    if !ends.is_sorted() || ends.last().map_or(0, |&end| end as usize) != bytes.len() {
        return Some("ends do not cover their bytes");
    }
    match origins.last() {
        // No messages at all: the configuration filters these logs.
        None if !ends.is_empty() && ends.len() != logs => {
            Some("`logs` is empty, and the number of messages is not the number of logs")
        }
        None => None,
        Some(_) if origins.len() != ends.len() => Some("`logs` and `ends` differ in length"),
        Some(&last) if !origins.is_sorted() || last as usize >= logs => {
            Some("`logs` is not sorted, or has an index outside the batch")
        }
        Some(_) => None,
    }
}

fn refusal(stage: &Identity, error: Error) -> StageError {
    let stage = stage.clone();
    match error {
        Error::InvalidConfig(problem) => {
            StageError::Config { stage, path: problem.path, reason: problem.reason }
        }
        Error::InvalidBatch(invariant) => StageError::InvalidBatch { stage, invariant },
        Error::Rejected(rejection) => {
            StageError::Rejected { stage, log: rejection.log, reason: rejection.reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_messages() {
        let messages = |bytes: &[u8], ends: &[u32], logs: &[u32]| Messages {
            bytes: bytes.to_vec(),
            ends: ends.to_vec(),
            logs: logs.to_vec(),
        };
        for (valid, found, logs) in [
            (true, messages(b"abc", &[1, 3], &[]), 2),
            (true, messages(b"abc", &[1, 3], &[0, 4]), 5),
            (true, messages(b"", &[], &[]), 0),
            (false, messages(b"abc", &[1, 3], &[]), 3),
            (false, messages(b"abc", &[3, 1], &[]), 2),
            (false, messages(b"abc", &[1, 2], &[]), 2),
            (false, messages(b"abc", &[1, 3], &[4, 0]), 5),
            (false, messages(b"abc", &[1, 3], &[0, 5]), 5),
            (false, messages(b"abc", &[1, 3], &[0]), 5),
        ] {
            assert_eq!(problem(&found, logs).is_none(), valid, "{found:?} of {logs}");
        }
    }
}

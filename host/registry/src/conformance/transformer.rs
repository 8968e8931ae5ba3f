use std::io::Write;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::batches;
use crate::conformance::contract;
use crate::conformance::encoder::{refuses_broken, takes_hostile};
use crate::conformance::formatter::continues_after_rejection;
use crate::conformance::stream::{Baseline, Chunk, ChunkedInstance, Stream, same};
use crate::conformance::suite::Suite;
use logship_batch::batch::LogBatch;
use logship_runtime::stage::{StageError, TransformerInstance, TransformerStage};

impl ChunkedInstance for TransformerInstance {
    type Chunk = LogBatch;
    const CAN_RESTART: bool = true;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    /// Returns the logs as text, one line each, after the number of the source log. Indices of groups and
    /// keys are resolved, because their order is irrelevant.
    fn push(&mut self, session: ResourceAny, batch: &LogBatch, first: usize) -> Result<Vec<u8>, StageError> {
        let transformed = self.push(session, batch)?;
        let logs = &transformed.batch;
        let mut out = Vec::with_capacity(2 * logs.values.len());
        for log in 0..logs.len() {
            let from = transformed.logs.get(log).map_or(log, |&log| log as usize);
            let nanos = logs.nanos.get(log).copied().unwrap_or(0);
            let group = &logs.groups[logs.log_groups[log] as usize];
            let tags: Vec<_> = group.tags.iter().map(|tag| (&tag.key, &tag.value)).collect();
            let (topic, source) = (&group.topic, &group.source);
            write!(out, "{} {}.{nanos:09} {topic:?} {source:?} {tags:?}", first + from, logs.times[log])
                .expect("memory is written to");
            for (key, value) in logs.log_fields(log) {
                write!(out, " {key:?}=").expect("memory is written to");
                out.extend_from_slice(value);
            }
            out.push(b'\n');
        }
        Ok(out)
    }

    fn finish(&mut self, session: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        self.discard(session)?;
        Ok((vec![], vec![]))
    }

    fn discard(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.discard(session)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// Checks a transformer and compares it with a built-in one, if there is any.
pub(super) fn check(
    suite: &mut Suite,
    stage: &TransformerStage,
    config: &str,
    built_in: Option<&Arc<TransformerStage>>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let new_instance = || stage.instance();
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&chunks);
    stream.finishes_without_a_chunk();
    let all_logs = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    continues_after_rejection(&mut stream, &all_logs);
    transforms_logs_independently(&mut stream, &all_logs);
    stream.gives_the_same_bytes(all_logs.clone(), &[all_logs.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    if let Some(built_in) = built_in {
        let other = || built_in.instance();
        let baseline = Baseline { name: built_in.identity().name(), config: "", new_instance: &other };
        stream.is_fast(&chunks, &baseline, settings);
    }
}

/// Checks that the result of a log does not depend on the other logs or their order.
fn transforms_logs_independently(stream: &mut Stream<'_, TransformerInstance>, all_logs: &LogBatch) {
    let (config, new_instance) = (stream.config, stream.new_instance);
    stream.suite.check("looks-at-each-log-alone", contract::LOG_ALONE, || {
        let last = all_logs.len().saturating_sub(300);
        let logs = all_logs.slice(last..all_logs.len()).cut(1);
        let mut instance = new_instance()?;
        let session = instance.open(config)?;
        let forward: Vec<_> = logs
            .iter()
            .map(|log| ChunkedInstance::push(&mut instance, session, log, 0))
            .collect::<Result<_, _>>()?;
        let mut other = new_instance()?;
        let session = other.open(config)?;
        for (number, log) in logs.iter().enumerate().rev().step_by(2) {
            let alone = ChunkedInstance::push(&mut other, session, log, 0)?;
            same(&forward[number], &alone, || {
                format!(
                    "log {number} of {}, after all logs before it, and after some of the logs that follow",
                    logs.len()
                )
            })?;
        }
        Ok(format!("{} logs, forwards, and every other one backwards", logs.len()))
    });
}

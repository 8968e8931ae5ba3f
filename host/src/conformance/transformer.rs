use std::io::Write;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::Settings;
use super::batches;
use super::contract;
use super::encoder::{refuses_broken, takes_hostile};
use super::formatter::goes_on_after_a_refusal;
use super::stream::{Beside, Chunk, Running, Stream, same};
use super::suite::Suite;
use crate::batch::LogBatch;
use crate::stage::{StageError, TransformerInstance, TransformerStage};

impl Running for TransformerInstance {
    type Chunk = LogBatch;
    const MOVES: bool = true;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    /// Logs as text, a line each, behind the number of the log that each is from: where a group or a key stands in its
    /// dictionary means nothing.
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
        self.give_up(session)?;
        Ok((vec![], vec![]))
    }

    fn give_up(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.give_up(session)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// The checks of a transformer, beside a built-in one where there is any.
pub(super) fn check(
    suite: &mut Suite,
    stage: &TransformerStage,
    config: &str,
    built_in: Option<&Arc<TransformerStage>>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let fresh = || stage.instance();
    let mut stream = Stream::new(suite, config, &fresh);
    stream.keeps_to_its_room(&chunks);
    stream.takes_nothing();
    let whole = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    goes_on_after_a_refusal(&mut stream, &whole);
    looks_at_each_log_alone(&mut stream, &whole);
    stream.gives_the_same_bytes(whole.clone(), &[whole.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    if let Some(built_in) = built_in {
        let other = || built_in.instance();
        let beside = Beside { name: built_in.identity().name(), config: "", fresh: &other };
        stream.is_fast(&chunks, &beside, settings);
    }
}

/// The same of each log when the others come in another order, or not at all.
fn looks_at_each_log_alone(stream: &mut Stream<'_, TransformerInstance>, whole: &LogBatch) {
    let (config, fresh) = (stream.config, stream.fresh);
    stream.suite.check("looks-at-each-log-alone", contract::LOG_ALONE, || {
        let last = whole.len().saturating_sub(300);
        let logs = whole.part(last..whole.len()).cut(1);
        let mut instance = fresh()?;
        let session = instance.open(config)?;
        let forward: Vec<_> =
            logs.iter().map(|log| Running::push(&mut instance, session, log, 0)).collect::<Result<_, _>>()?;
        let mut other = fresh()?;
        let session = other.open(config)?;
        for (number, log) in logs.iter().enumerate().rev().step_by(2) {
            let alone = Running::push(&mut other, session, log, 0)?;
            same(&forward[number], &alone, || {
                format!(
                    "log {number} of {}, behind those before it, and behind some of those that follow",
                    logs.len()
                )
            })?;
        }
        Ok(format!("{} logs, forwards, and every other one backwards", logs.len()))
    });
}

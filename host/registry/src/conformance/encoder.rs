use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::batches;
use crate::conformance::batches::{Broken, COLUMNS, Hostile};
use crate::conformance::contract;
use crate::conformance::members;
use crate::conformance::stream::{Baseline, Chunk, ChunkedInstance, Stream};
use crate::conformance::suite::{At, Problem, Suite};
use logship_batch::batch::LogBatch;
use logship_runtime::stage::{EncoderInstance, EncoderStage, StageError};

impl Chunk for LogBatch {
    const UNIT: &'static str = "logs";

    fn units(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        let keys = self.field_keys.iter().map(|&key| self.keys[key as usize].len());
        keys.sum::<usize>() + self.values.len()
    }

    fn slice(&self, logs: Range<usize>) -> Self {
        batches::slice(self, logs)
    }
}

impl ChunkedInstance for EncoderInstance {
    type Chunk = LogBatch;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    fn push(&mut self, object: ResourceAny, batch: &LogBatch, _: usize) -> Result<Vec<u8>, StageError> {
        self.push(object, batch)
    }

    fn finish(&mut self, object: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        Ok((vec![], self.finish(object)?))
    }

    fn discard(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.discard(object)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// Returns a configuration that the encoder accepts, with columns if it requires them.
pub(super) fn config(schema: &str, takes: impl Fn(&str) -> bool) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let asks =
        schema["required"].as_array().is_some_and(|required| required.iter().any(|key| key == "columns"));
    if !asks {
        return String::new();
    }
    let plain = json!({ "columns": COLUMNS }).to_string();
    let typed: Vec<_> = COLUMNS.iter().map(|key| json!({ "key": key })).collect();
    if takes(&plain) { plain } else { json!({ "columns": typed }).to_string() }
}

/// Checks an encoder and compares it with a built-in one.
pub(super) fn check(
    suite: &mut Suite,
    stage: &EncoderStage,
    config: &str,
    json: &Arc<EncoderStage>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let (new_instance, other) = (|| stage.instance(), || json.instance());
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&chunks);
    stream.finishes_without_a_chunk();
    let all_logs = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    members::check(stream.suite, |batch| {
        let mut instance = stage.instance()?;
        let object = instance.open(config)?;
        let bytes = [instance.push(object, batch)?, instance.finish(object)?].concat();
        Ok(bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect())
    });
    stream.gives_the_same_bytes(all_logs.clone(), &[all_logs.len(), 1, 7, 1_000]);
    reports_its_size(&mut stream, &chunks, stage.description().compressions.is_empty());
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    let baseline = Baseline { name: json.identity().name(), config: "", new_instance: &other };
    stream.is_fast(&chunks, &baseline, settings);
}

/// Pushes each hostile batch on its own. Returns ordinary logs and all accepted ones in one batch.
pub(super) fn takes_hostile<R: ChunkedInstance<Chunk = LogBatch>>(stream: &mut Stream<'_, R>) -> LogBatch {
    let mut taken = vec![batches::access_logs(200)];
    for Hostile { check, what, batch } in batches::hostile() {
        if stream.takes(check, what, batch.clone()) {
            // The largest batches make every comparison slow and show nothing that smaller ones do not.
            taken.extend((batch.bytes() < 1 << 20).then_some(batch));
        }
    }
    batches::concat(&taken)
}

/// Checks that each violated invariant is rejected.
pub(super) fn refuses_broken<R: ChunkedInstance<Chunk = LogBatch>>(stream: &mut Stream<'_, R>) {
    let (config, new_instance) = (stream.config, stream.new_instance);
    for Broken { check, what, batch } in batches::broken() {
        stream.suite.check(check, contract::BROKEN, || {
            let mut instance = new_instance()?;
            let object = instance.open(config)?;
            match instance.push(object, &batch, 0) {
                Err(StageError::InvalidBatch { invariant, .. }) => Ok(invariant),
                Err(error) => Err(error).at(|| what.to_owned()),
                Ok(bytes) => {
                    Err(Problem::new(format!("{what}: taken, and answered by {} bytes", bytes.len())))
                }
            }
        });
    }
}

/// Compares `size` with the written bytes: never smaller, never decreasing, and exact if nothing is buffered.
/// Calling it must not change the object.
fn reports_its_size(stream: &mut Stream<'_, EncoderInstance>, chunks: &[LogBatch], is_uncompressed: bool) {
    let without_size_calls = stream.object(chunks);
    let (config, new_instance) = (stream.config, stream.new_instance);
    stream.suite.check("tells-its-size", contract::SIZE, || {
        let mut instance = new_instance()?;
        let object = instance.open(config)?;
        let (mut written, mut before, mut buffers) = (vec![], instance.size(object)?, false);
        for (number, chunk) in chunks.iter().enumerate() {
            let bytes = instance.push(object, chunk)?;
            buffers |= bytes.is_empty();
            written.extend(bytes);
            let size = instance.size(object)?;
            if size < before || size < written.len() as u64 {
                let so_far = written.len();
                let number = number + 1;
                return Err(Problem::new(format!(
                    "after chunk {number} of {} size says {size}; it said {before} before, and {so_far} bytes are written",
                    chunks.len()
                )));
            }
            before = size;
        }
        written.extend(instance.finish(object)?);
        let (all, exact) = (written.len() as u64, is_uncompressed && !buffers);
        if before < all || exact && before != all {
            return Err(Problem::new(format!("size says {before} before finish, and {all} bytes are written")));
        }
        crate::conformance::stream::same(&without_size_calls?, &written, || "an object with calls of size, and one without".into())?;
        Ok(if exact { format!("{all}, as are written") } else { format!("{before} for {all} that are written") })
    });
}

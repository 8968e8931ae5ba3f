use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmtime::component::ResourceAny;

use super::Settings;
use super::batches::{self, Broken, COLUMNS, Hostile};
use super::contract;
use super::stream::{Beside, Chunk, Running, Stream};
use super::suite::{At, Problem, Suite};
use crate::batch::LogBatch;
use crate::stage::{EncoderInstance, EncoderStage, StageError};

impl Chunk for LogBatch {
    const UNIT: &'static str = "logs";

    fn units(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        let keys = self.field_keys.iter().map(|&key| self.keys[key as usize].len());
        keys.sum::<usize>() + self.values.len()
    }

    fn part(&self, logs: Range<usize>) -> Self {
        batches::part(self, logs)
    }
}

impl Running for EncoderInstance {
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

    fn give_up(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.give_up(object)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// A configuration that the encoder takes: with columns, where it asks for them.
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

/// The checks of an encoder, beside a built-in one.
pub(super) fn check(
    suite: &mut Suite,
    stage: &EncoderStage,
    config: &str,
    json: &Arc<EncoderStage>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let (fresh, other) = (|| stage.instance(), || json.instance());
    let mut stream = Stream::new(suite, config, &fresh);
    stream.keeps_to_its_room(&chunks);
    stream.takes_nothing();
    let whole = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    stream.gives_the_same_bytes(whole.clone(), &[whole.len(), 1, 7, 1_000]);
    tells_its_size(&mut stream, &chunks, stage.description().compressions.is_empty());
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    let beside = Beside { name: json.identity().name(), config: "", fresh: &other };
    stream.is_fast(&chunks, &beside, settings);
}

/// Logs that are hard on it, each kind by itself; all that it takes, together with ordinary ones.
pub(super) fn takes_hostile<R: Running<Chunk = LogBatch>>(stream: &mut Stream<'_, R>) -> LogBatch {
    let mut taken = vec![batches::access_logs(200)];
    for Hostile { check, what, batch } in batches::hostile() {
        if stream.takes(check, what, batch.clone()) {
            // The largest cost time at every comparison, and show nothing that smaller ones do not.
            taken.extend((batch.bytes() < 1 << 20).then_some(batch));
        }
    }
    batches::joined(&taken)
}

/// Each invariant, broken.
pub(super) fn refuses_broken<R: Running<Chunk = LogBatch>>(stream: &mut Stream<'_, R>) {
    let (config, fresh) = (stream.config, stream.fresh);
    for Broken { check, what, batch } in batches::broken() {
        stream.suite.check(check, contract::BROKEN, || {
            let mut instance = fresh()?;
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

/// `size` against what is written: never less, never falling, and exact where nothing is held back. Asking does not
/// change the object.
fn tells_its_size(stream: &mut Stream<'_, EncoderInstance>, chunks: &[LogBatch], writes_plainly: bool) {
    let unasked = stream.object(chunks);
    let (config, fresh) = (stream.config, stream.fresh);
    stream.suite.check("tells-its-size", contract::SIZE, || {
        let mut instance = fresh()?;
        let object = instance.open(config)?;
        let (mut written, mut before, mut holds_back) = (vec![], instance.size(object)?, false);
        for (number, chunk) in chunks.iter().enumerate() {
            let bytes = instance.push(object, chunk)?;
            holds_back |= bytes.is_empty();
            written.extend(bytes);
            let size = instance.size(object)?;
            if size < before || size < written.len() as u64 {
                let so_far = written.len();
                let number = number + 1;
                return Err(Problem::new(format!(
                    "behind chunk {number} of {} size says {size}; it said {before} before, and {so_far} bytes are written",
                    chunks.len()
                )));
            }
            before = size;
        }
        written.extend(instance.finish(object)?);
        let (all, exact) = (written.len() as u64, writes_plainly && !holds_back);
        if before < all || exact && before != all {
            return Err(Problem::new(format!("size says {before} before finish, and {all} bytes are written")));
        }
        super::stream::same(&unasked?, &written, || "an object whose size was asked for, and one without".into())?;
        Ok(if exact { format!("{all}, as are written") } else { format!("{before} for {all} that are written") })
    });
}

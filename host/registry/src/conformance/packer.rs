use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::batches;
use crate::conformance::encoder::{refuses_broken, takes_hostile};
use crate::conformance::stream::{Chunk, ChunkedInstance, Stream};
use crate::conformance::suite::Suite;
use logship_batch::batch::LogBatch;
use logship_runtime::stage::{PackerInstance, PackerStage, StageError};

/// The compressor gets an empty configuration.
impl ChunkedInstance for PackerInstance {
    type Chunk = LogBatch;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config, "")
    }

    fn push(&mut self, object: ResourceAny, batch: &LogBatch, _: usize) -> Result<Vec<u8>, StageError> {
        self.push(object, batch)
    }

    fn finish(&mut self, object: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        let (ending, _) = self.finish(object)?;
        Ok((ending.header, ending.trailer))
    }

    fn discard(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.discard(object)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// Checks an encoder and a compressor in one component.
pub(super) fn check(suite: &mut Suite, stage: &PackerStage, config: &str, settings: &Settings) {
    let ordinary = batches::access_logs(16_000);
    let new_instance = || stage.instance();
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&ordinary.cut(2_000));
    stream.finishes_without_a_chunk();
    let all_logs = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    stream.gives_the_same_bytes(all_logs.clone(), &[all_logs.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
}

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::contract;
use crate::conformance::stream::{Baseline, Chunk, ChunkedInstance, Stream};
use crate::conformance::suite::{Problem, Suite};
use logship_runtime::stage::{CompressorInstance, CompressorStage, StageError};

impl Chunk for Vec<u8> {
    const UNIT: &'static str = "bytes";

    fn units(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.len()
    }

    fn slice(&self, bytes: Range<usize>) -> Self {
        self[bytes].to_vec()
    }
}

impl ChunkedInstance for CompressorInstance {
    type Chunk = Vec<u8>;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    fn push(&mut self, object: ResourceAny, bytes: &Vec<u8>, _: usize) -> Result<Vec<u8>, StageError> {
        self.push(object, bytes)
    }

    fn finish(&mut self, object: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        let ending = self.finish(object)?;
        Ok((ending.header, ending.trailer))
    }

    fn discard(&mut self, object: ResourceAny) -> Result<(), StageError> {
        self.discard(object)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// Checks a compressor and compares it with a built-in one.
pub(super) fn check(
    suite: &mut Suite,
    stage: &CompressorStage,
    config: &str,
    built_in: &Arc<CompressorStage>,
    settings: &Settings,
) {
    let text = text(4 << 20);
    let chunks = text.cut(512 << 10);
    let (new_instance, other) = (|| stage.instance(), || built_in.instance());
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&chunks);
    stream.finishes_without_a_chunk();
    stream.takes("takes-an-empty-chunk", "a chunk without bytes", vec![]);
    stream.takes("takes-one-byte", "a chunk of one byte", vec![b'x']);
    stream.takes("takes-noise", "300,000 incompressible bytes", noise(300_000));
    stream.takes("takes-a-chunk-of-16-mb", "a chunk of 16 MB", vec![b'x'; 16 << 20]);
    let all_bytes = [text.slice(0..700_000), noise(300_000), text.slice(0..500_000)].concat();
    compresses(&mut stream, &text);
    decompresses(&mut stream, &stage.description().compression, &all_bytes);
    stream.gives_the_same_bytes(all_bytes.clone(), &[all_bytes.len(), 1 << 16, 100_003, 1_000]);
    stream.keeps_memory_flat(&text, settings.chunks);
    let baseline = Baseline { name: built_in.identity().name(), config: "", new_instance: &other };
    stream.is_fast(&chunks, &baseline, settings);
}

/// Returns log lines of `bytes` bytes.
fn text(bytes: usize) -> Vec<u8> {
    let line = |number: usize| {
        let noise = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"__time__\":{},\"method\":\"GET\",\"path\":\"/api/v1/products/{}\",\"request_id\":\"{noise:016x}\"}}\n",
            1_760_000_000 + number / 300,
            noise % 5_003
        )
    };
    let mut text = (0..bytes / 80).map(line).collect::<String>().into_bytes();
    text.truncate(bytes);
    text
}

/// Returns pseudorandom bytes, the same at every call.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..bytes).map(next).collect()
}

/// Log lines must become smaller.
fn compresses(stream: &mut Stream<'_, CompressorInstance>, text: &Vec<u8>) {
    let made = stream.object(&text.cut(512 << 10));
    stream.suite.check("compresses", contract::FEWER, || {
        let made = made?.len();
        let seen = format!("{} bytes of log lines become {made}", text.len());
        if made >= text.len() { Err(Problem::new(seen)) } else { Ok(seen) }
    });
}

/// A stage with the name of a known compression must produce that compression.
fn decompresses(stream: &mut Stream<'_, CompressorInstance>, compression: &str, bytes: &Vec<u8>) {
    const CHECK: &str = "is-what-it-is-called";
    let Some(reader) = reader(compression) else {
        let reason = format!("logship has no reader of {compression} of its own");
        return stream.suite.skip(CHECK, contract::COMPRESSION, reason);
    };
    let made = stream.object(&bytes.cut(100_003));
    stream.suite.check(CHECK, contract::COMPRESSION, || {
        let made = made?;
        let failed = |what: String| Problem::new(format!("{} bytes of {compression}: {what}", made.len()));
        let read = reader(&made).map_err(|error| failed(format!("not readable: {error}")))?;
        crate::conformance::stream::same(bytes, &read, || {
            format!("what was pushed, and what a reader of {compression} gives")
        })?;
        Ok(format!("a reader of {compression} gives the {} bytes back", bytes.len()))
    });
}

type Reader = fn(&[u8]) -> Result<Vec<u8>, String>;

fn reader(compression: &str) -> Option<Reader> {
    fn all(mut from: impl Read) -> Result<Vec<u8>, String> {
        let mut bytes = vec![];
        from.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
    }
    match compression {
        "gzip" => Some(|bytes| all(flate2::read::MultiGzDecoder::new(bytes))),
        "zstd" => Some(|bytes| all(zstd::Decoder::new(bytes).map_err(|error| error.to_string())?)),
        "snappy" => {
            Some(|bytes| snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| error.to_string()))
        }
        _ => None,
    }
}

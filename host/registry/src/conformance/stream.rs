//! Checks of all stages that take chunks.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::contract;
use crate::conformance::suite::{At, Checked, Problem, Suite};
use logship_runtime::stage::StageError;

/// A chunk of logs or bytes.
pub(super) trait Chunk: Sized {
    /// Name of the unit, for messages.
    const UNIT: &'static str;
    fn units(&self) -> usize;
    fn bytes(&self) -> usize;
    fn slice(&self, units: Range<usize>) -> Self;

    /// Cuts the chunk into chunks of `units` units.
    fn cut(&self, units: usize) -> Vec<Self> {
        let firsts = (0..self.units()).step_by(units);
        firsts.map(|first| self.slice(first..(first + units).min(self.units()))).collect()
    }
}

/// An instance of a stage that takes chunks.
pub(super) trait ChunkedInstance {
    type Chunk: Chunk;
    /// True if the host may continue in a new instance between any two chunks.
    const CAN_RESTART: bool = false;
    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError>;
    /// Pushes a chunk and returns the answer in a comparable form. `first` is the number of units pushed
    /// before.
    fn push(&mut self, object: ResourceAny, chunk: &Self::Chunk, first: usize)
    -> Result<Vec<u8>, StageError>;
    /// Returns the bytes that precede and follow all others.
    fn finish(&mut self, object: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError>;
    fn discard(&mut self, object: ResourceAny) -> Result<(), StageError>;
    fn memory(&self) -> usize;
}

/// Target duration of the memory check. Slow stages get smaller chunks.
const TIME_BUDGET: Duration = Duration::from_secs(10);

/// Duration after which the memory check ends with fewer chunks.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Largest output, as a multiple of the input, plus a constant number of bytes.
const MAX_EXPANSION_RATIO: usize = 16;
const FIXED_OVERHEAD: usize = 64 << 10;

/// Maximum size of an object that is kept, in bytes.
const MAX_OBJECT_BYTES: usize = 1 << 30;

/// The checks of one stage.
pub(super) struct Stream<'a, R> {
    pub(super) suite: &'a mut Suite,
    pub(super) config: &'a str,
    /// Returns an unused instance.
    pub(super) new_instance: &'a dyn Fn() -> Result<R, StageError>,
    /// Measured speed, in bytes per second.
    speed: Cell<f64>,
}

impl<'a, R: ChunkedInstance> Stream<'a, R> {
    pub(super) fn new(
        suite: &'a mut Suite,
        config: &'a str,
        new_instance: &'a dyn Fn() -> Result<R, StageError>,
    ) -> Self {
        Self { suite, config, new_instance, speed: Cell::new(f64::INFINITY) }
    }

    /// Makes one object of these chunks, in an instance of its own.
    pub(super) fn object(&self, chunks: &[R::Chunk]) -> Result<Vec<u8>, Problem> {
        object(&mut (self.new_instance)()?, self.config, chunks)
    }

    /// Pushes ordinary chunks: memory, duration and size of the output must stay within their limits.
    pub(super) fn stays_within_limits(&mut self, chunks: &[R::Chunk]) {
        let (config, new_instance, speed) = (self.config, self.new_instance, &self.speed);
        let given: usize = chunks.iter().map(Chunk::bytes).sum();
        let answer = Cell::new(None);
        self.suite.check("keeps-to-its-room", contract::ROOM, || {
            let (mut slowest, mut written, mut first) = (Duration::ZERO, 0, 0);
            let started = Instant::now();
            let mut instance = new_instance()?;
            let object = instance.open(config)?;
            for (number, chunk) in chunks.iter().enumerate() {
                let called = Instant::now();
                written += instance
                    .push(object, chunk, first)
                    .at(|| format!("chunk {} of {} of ordinary ones", number + 1, chunks.len()))?
                    .len();
                slowest = slowest.max(called.elapsed());
                first += chunk.units();
            }
            let (front, back) = instance.finish(object).at(|| "finish".into())?;
            speed.set(given as f64 / started.elapsed().as_secs_f64());
            answer.set(Some(written + front.len() + back.len()));
            Ok(format!(
                "{:.2} MiB of memory, and {:.2} ms for the slowest of {} calls",
                instance.memory() as f64 / f64::from(1 << 20),
                slowest.as_secs_f64() * 1e3,
                chunks.len()
            ))
        });
        let Some(answer) = answer.get() else {
            let reason = "it did not stay within its limits";
            return self.suite.skip("answers-in-proportion", contract::IN_PROPORTION, reason);
        };
        self.suite.check("answers-in-proportion", contract::IN_PROPORTION, || {
            let seen = format!("{answer} bytes for {given}");
            let too_much = "its output is far too large, as reported above";
            if answer > MAX_EXPANSION_RATIO * given + FIXED_OVERHEAD {
                Err(Problem::fatal(seen, too_much))
            } else {
                Ok(seen)
            }
        });
    }

    /// Finishes an object without any chunk.
    pub(super) fn finishes_without_a_chunk(&mut self) {
        let (config, new_instance) = (self.config, self.new_instance);
        self.suite.check("finishes-without-a-chunk", contract::CHUNKS, || {
            let object =
                object(&mut new_instance()?, config, &[]).at(|| "open, and finish at once".into())?;
            Ok(format!("an object of {} bytes", object.len()))
        });
    }

    /// Pushes a hostile chunk. Returns true if the stage accepts it, and false if it rejects it or fails.
    pub(super) fn takes(&mut self, check: &'static str, what: &str, chunk: R::Chunk) -> bool {
        let (config, new_instance) = (self.config, self.new_instance);
        let mut taken = false;
        self.suite.check(check, contract::NO_PANIC, || {
            let mut instance = new_instance()?;
            let object = instance.open(config)?;
            match instance.push(object, &chunk, 0) {
                Ok(bytes) => {
                    let (front, back) = instance.finish(object).at(|| format!("finish after {what}"))?;
                    taken = true;
                    Ok(format!("{} bytes", bytes.len() + front.len() + back.len()))
                }
                Err(error @ (StageError::Rejected { .. } | StageError::TooLarge { .. })) => {
                    Ok(format!("rejected: {error}"))
                }
                Err(error) => Err(error).at(|| what.to_owned()),
            }
        });
        taken
    }

    /// Checks that the same chunks give the same bytes: in other instances, in a reused one, next to another
    /// open object, after a discarded one, and with other chunk sizes. `whole` is a single chunk.
    pub(super) fn gives_the_same_bytes(&mut self, whole: R::Chunk, cuts: &[usize]) {
        let (config, new_instance) = (self.config, self.new_instance);
        let chunks = whole.cut(whole.units().div_ceil(3).max(1));
        let all = || format!("{} {} in {} chunks", whole.units(), R::Chunk::UNIT, chunks.len());
        let mut expected = vec![];
        self.suite.check("gives-the-same-bytes-again", contract::PURITY, || {
            let mut instance = new_instance()?;
            expected = object(&mut instance, config, &chunks).at(all)?;
            let again = object(&mut new_instance()?, config, &chunks).at(all)?;
            same(&expected, &again, || format!("{} in two instances", all()))?;
            let reused = object(&mut instance, config, &chunks).at(all)?;
            same(&expected, &reused, || format!("{} twice in one instance", all()))?;
            Ok(format!("{} bytes of {}, in two instances and again in the first", expected.len(), all()))
        });
        if !self.suite.passed("gives-the-same-bytes-again") {
            let reason = "there are no bytes to compare with";
            self.suite.skip("gives-the-same-bytes-for-other-cuts", contract::PURITY, reason);
            self.suite.skip("keeps-objects-apart", contract::SEVERAL_OBJECTS, reason);
            return self.suite.skip("goes-on-when-one-is-given-up", contract::DISCARD, reason);
        }
        self.suite.check("gives-the-same-bytes-for-other-cuts", contract::PURITY, || {
            for &units in cuts {
                let input = || format!("{} {} in chunks of {units}", whole.units(), R::Chunk::UNIT);
                let again = object(&mut new_instance()?, config, &whole.cut(units)).at(input)?;
                same(&expected, &again, || format!("{}, and in {}", all(), input()))?;
            }
            let mut gaps = whole.cut(whole.units().div_ceil(2).max(1));
            gaps.insert(1, whole.slice(0..0));
            let again =
                object(&mut new_instance()?, config, &gaps).at(|| "with an empty chunk between".into())?;
            same(&expected, &again, || format!("{}, and with an empty chunk between", all()))?;
            let cuts: Vec<_> = cuts.iter().map(usize::to_string).collect();
            Ok(format!("chunks of {}, and with an empty one between", cuts.join(", ")))
        });
        self.suite.check("keeps-objects-apart", contract::SEVERAL_OBJECTS, || {
            let (one, other) = side_by_side(&mut new_instance()?, config, &chunks).at(all)?;
            same(&expected, &one, || format!("{}, and with another object open beside it", all()))?;
            same(&expected, &other, || format!("{}, and as the second of two open objects", all()))?;
            Ok("two objects at a time in one instance".into())
        });
        self.suite.check("goes-on-when-one-is-given-up", contract::DISCARD, || {
            let mut instance = new_instance()?;
            let lost = instance.open(config)?;
            instance.push(lost, &chunks[0], 0).at(all)?;
            instance.discard(lost).at(|| "dropped without finish".into())?;
            let next = object(&mut instance, config, &chunks).at(|| "after a discarded one".into())?;
            same(&expected, &next, || format!("{}, and after a discarded object", all()))?;
            Ok("an object dropped without finish, and another in the same instance".into())
        });
    }

    /// Checks that memory does not grow with the pushed chunks.
    pub(super) fn keeps_memory_flat(&mut self, ordinary: &R::Chunk, chunks: usize) {
        let (config, new_instance) = (self.config, self.new_instance);
        let unit = ordinary.bytes() / ordinary.units();
        let budget = self.speed.get() * TIME_BUDGET.as_secs_f64() / chunks as f64;
        let bytes = (budget as usize).clamp(1 << 10, 25_000);
        let chunk = ordinary.slice(0..(bytes / unit).clamp(1, ordinary.units()));
        self.suite.check("keeps-memory-flat", contract::BOUNDED_MEMORY, || {
            let mut instance = new_instance()?;
            let object = instance.open(config)?;
            let (mut memory, mut moved, started) = (vec![], chunk.bytes(), Instant::now());
            while memory.len() < chunks && (memory.len() < 2 || started.elapsed() < MAX_TIME) {
                let number = memory.len();
                let answer = instance
                    .push(object, &chunk, number * chunk.units())
                    .at(|| format!("chunk {} of {chunks}, each of {} bytes", number + 1, chunk.bytes()))?;
                moved = moved.max(answer.len());
                memory.push(instance.memory());
            }
            // A leak of returned bytes is harmless if the host recycles the instance.
            let retained = if R::CAN_RESTART { moved + RETAINED_OVERHEAD } else { 0 };
            flat(&memory, retained).at(|| format!("chunks of {} bytes in one object", chunk.bytes()))
        });
    }

    /// Measures the speed relative to a built-in stage, and fails below the minimum if there is one.
    pub(super) fn is_fast<B: ChunkedInstance<Chunk = R::Chunk>>(
        &mut self,
        chunks: &[R::Chunk],
        built_in: &Baseline<'_, B>,
        settings: &Settings,
    ) {
        let bytes: usize = chunks.iter().map(Chunk::bytes).sum();
        let new_instance = self.new_instance;
        let own = || object(&mut new_instance()?, self.config, chunks);
        let other = || object(&mut (built_in.new_instance)()?, built_in.config, chunks);
        let timed = |run: &dyn Fn() -> Result<Vec<u8>, Problem>| {
            let started = Instant::now();
            run().map(|_| bytes as f64 / started.elapsed().as_secs_f64() / 1e6)
        };
        crate::conformance::speed::check(self.suite, "MB/s", built_in.name, settings, || {
            Ok((timed(&own)?, timed(&other)?))
        });
    }
}

/// The built-in stage of the same kind.
pub(super) struct Baseline<'a, R> {
    pub(super) name: &'a str,
    pub(super) config: &'a str,
    pub(super) new_instance: &'a dyn Fn() -> Result<R, StageError>,
}

/// Checks that memory at the end is the same as half-way. `memory` has the bytes after each call. A language
/// runtime may add a little, and retain `retained` bytes per call.
pub(super) fn flat(memory: &[usize], retained: usize) -> Checked {
    let (half, end) = (memory[memory.len() / 2], memory[memory.len() - 1]);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let seen =
        format!("{:.2} MiB half-way through {} calls, {:.2} at the end", mib(half), memory.len(), mib(end));
    let little = (half / 10).max(1 << 20);
    if end <= half + little {
        return Ok(seen);
    }
    let calls = memory.len() - memory.len() / 2;
    if end > half + little.max(retained * calls) {
        Err(Problem::new(seen))
    } else {
        Ok(format!("{seen}: {BOUNDED_LEAK}"))
    }
}

/// The bytes that a language runtime may retain per call, besides the returned bytes: lists of them, and the overhead of its
/// allocator.
const RETAINED_OVERHEAD: usize = 1 << 10;

/// Note for a stage with a harmless leak.
const BOUNDED_LEAK: &str =
    "it grows by no more than its input and output, and the host recycles the instance in time";

fn object<R: ChunkedInstance>(
    instance: &mut R,
    config: &str,
    chunks: &[R::Chunk],
) -> Result<Vec<u8>, Problem> {
    let object = instance.open(config)?;
    let (mut body, mut first) = (vec![], 0);
    for chunk in chunks {
        body.extend(instance.push(object, chunk, first)?);
        first += chunk.units();
        if body.len() > MAX_OBJECT_BYTES {
            let seen = format!("more than {MAX_OBJECT_BYTES} bytes for {first} {}", R::Chunk::UNIT);
            return Err(Problem::fatal(seen, "its output is too large, as reported above"));
        }
    }
    let (front, back) = instance.finish(object)?;
    Ok([front, body, back].concat())
}

/// Makes two objects of the same chunks, pushed to both alternately.
fn side_by_side<R: ChunkedInstance>(
    instance: &mut R,
    config: &str,
    chunks: &[R::Chunk],
) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let objects = [instance.open(config)?, instance.open(config)?];
    let (mut bodies, mut first) = ([vec![], vec![]], 0);
    for chunk in chunks {
        for (object, body) in objects.iter().zip(&mut bodies) {
            body.extend(instance.push(*object, chunk, first)?);
        }
        first += chunk.units();
    }
    let [one, other] = bodies;
    let mut end = |object, body| {
        let (front, back) = instance.finish(object)?;
        Ok::<_, Problem>([front, body, back].concat())
    };
    Ok((end(objects[0], one)?, end(objects[1], other)?))
}

/// Compares two outputs. The error shows the first difference.
pub(super) fn same(one: &[u8], other: &[u8], input: impl FnOnce() -> String) -> Result<(), Problem> {
    if one == other {
        return Ok(());
    }
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        let text = &bytes[at.saturating_sub(16)..bytes.len().min(at + 16)];
        format!("\"{}\"", text.escape_ascii())
    };
    Err(Problem::new(format!(
        "{}: {} bytes and {}, which differ from byte {at} on: {} and {}",
        input(),
        one.len(),
        other.len(),
        near(one),
        near(other)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_first_difference() {
        assert!(same(b"abc", b"abc", || unreachable!("they are the same")).is_ok());
        let problem = same(b"time=1 n=5\n", b"time=1 n=6", || "twice".into()).unwrap_err();
        assert_eq!(
            format!("{problem:?}"),
            r#"Problem { text: "twice: 11 bytes and 10, which differ from byte 9 on: \"time=1 n=5\\n\" and \"time=1 n=6\"", stop_reason: None }"#
        );
    }

    #[test]
    fn small_growth_counts_as_flat() {
        const MIB: usize = 1 << 20;
        let memory = |half: usize, end: usize| [0, half * MIB, half * MIB, end * MIB];
        let is_flat = |half: usize, end: usize| flat(&memory(half, end), 0).is_ok();
        assert!(is_flat(2, 3) && is_flat(30, 33));
        assert!(!is_flat(2, 4) && !is_flat(30, 34));
        assert!(flat(&memory(2, 4), MIB).unwrap().ends_with(BOUNDED_LEAK));
        assert!(flat(&memory(2, 5), MIB).is_err());
    }
}

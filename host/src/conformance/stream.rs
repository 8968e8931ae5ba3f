//! Checks of stages that are given chunks, whatever their kind.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceAny;

use super::Settings;
use super::contract;
use super::suite::{At, Checked, Problem, Suite};
use crate::stage::StageError;

/// What a chunk is made of: logs, or bytes.
pub(super) trait Chunk: Sized {
    /// What it is made of, in words.
    const UNIT: &'static str;
    fn units(&self) -> usize;
    fn bytes(&self) -> usize;
    fn part(&self, units: Range<usize>) -> Self;

    /// The same in chunks of so many units.
    fn cut(&self, units: usize) -> Vec<Self> {
        let firsts = (0..self.units()).step_by(units);
        firsts.map(|first| self.part(first..(first + units).min(self.units()))).collect()
    }
}

/// An instance of a stage that is given chunks.
pub(super) trait Running {
    type Chunk: Chunk;
    /// Whether the host may begin anew between any two chunks, in another instance.
    const MOVES: bool = false;
    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError>;
    /// What the stage answers, in a form that can be compared. `first` is how many units were pushed before.
    fn push(&mut self, object: ResourceAny, chunk: &Self::Chunk, first: usize)
    -> Result<Vec<u8>, StageError>;
    /// What belongs before all, and what behind it.
    fn finish(&mut self, object: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError>;
    fn give_up(&mut self, object: ResourceAny) -> Result<(), StageError>;
    fn memory(&self) -> usize;
}

/// How long memory is watched about: the chunks of a slow stage are smaller.
const PATIENCE: Duration = Duration::from_secs(10);

/// When it ends with fewer chunks.
const END_OF_PATIENCE: Duration = Duration::from_secs(60);

/// How much larger than what was given an answer may be, and what may be added once.
const PROPORTION: usize = 16;
const ONCE: usize = 64 << 10;

/// Bytes of an object that are kept at most.
const MOST: usize = 1 << 30;

/// The checks of one stage.
pub(super) struct Stream<'a, R> {
    pub(super) suite: &'a mut Suite,
    pub(super) config: &'a str,
    /// An instance that nothing was done with.
    pub(super) fresh: &'a dyn Fn() -> Result<R, StageError>,
    /// Bytes a second, once it was seen.
    speed: Cell<f64>,
}

impl<'a, R: Running> Stream<'a, R> {
    pub(super) fn new(
        suite: &'a mut Suite,
        config: &'a str,
        fresh: &'a dyn Fn() -> Result<R, StageError>,
    ) -> Self {
        Self { suite, config, fresh, speed: Cell::new(f64::INFINITY) }
    }

    /// One object of these chunks, in an instance of its own.
    pub(super) fn object(&self, chunks: &[R::Chunk]) -> Result<Vec<u8>, Problem> {
        object(&mut (self.fresh)()?, self.config, chunks)
    }

    /// Ordinary chunks: within memory and deadline, and in proportion.
    pub(super) fn keeps_to_its_room(&mut self, chunks: &[R::Chunk]) {
        let (config, fresh, speed) = (self.config, self.fresh, &self.speed);
        let given: usize = chunks.iter().map(Chunk::bytes).sum();
        let answer = Cell::new(None);
        self.suite.check("keeps-to-its-room", contract::ROOM, || {
            let (mut slowest, mut written, mut first) = (Duration::ZERO, 0, 0);
            let begun = Instant::now();
            let mut instance = fresh()?;
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
            speed.set(given as f64 / begun.elapsed().as_secs_f64());
            answer.set(Some(written + front.len() + back.len()));
            Ok(format!(
                "{:.2} MiB of memory, and {:.2} ms for the slowest of {} calls",
                instance.memory() as f64 / f64::from(1 << 20),
                slowest.as_secs_f64() * 1e3,
                chunks.len()
            ))
        });
        let Some(answer) = answer.get() else {
            let reason = "it did not keep to its room";
            return self.suite.skip("answers-in-proportion", contract::IN_PROPORTION, reason);
        };
        self.suite.check("answers-in-proportion", contract::IN_PROPORTION, || {
            let seen = format!("{answer} bytes for {given}");
            let too_much = "its answers are out of all proportion, as told above";
            if answer > PROPORTION * given + ONCE { Err(Problem::last(seen, too_much)) } else { Ok(seen) }
        });
    }

    /// Nothing pushed at all, and nothing but an empty chunk.
    pub(super) fn takes_nothing(&mut self) {
        let (config, fresh) = (self.config, self.fresh);
        self.suite.check("finishes-without-a-chunk", contract::CHUNKS, || {
            let object = object(&mut fresh()?, config, &[]).at(|| "open, and finish at once".into())?;
            Ok(format!("an object of {} bytes", object.len()))
        });
    }

    /// A chunk that is hard on it: `true` where it takes it, and does not refuse it.
    pub(super) fn takes(&mut self, check: &'static str, what: &str, chunk: R::Chunk) -> bool {
        let (config, fresh) = (self.config, self.fresh);
        let mut taken = false;
        self.suite.check(check, contract::NO_PANIC, || {
            let mut instance = fresh()?;
            let object = instance.open(config)?;
            match instance.push(object, &chunk, 0) {
                Ok(bytes) => {
                    let (front, back) = instance.finish(object).at(|| format!("finish behind {what}"))?;
                    taken = true;
                    Ok(format!("{} bytes", bytes.len() + front.len() + back.len()))
                }
                Err(error @ (StageError::Rejected { .. } | StageError::TooLarge { .. })) => {
                    Ok(format!("refused: {error}"))
                }
                Err(error) => Err(error).at(|| what.to_owned()),
            }
        });
        taken
    }

    /// The same bytes for the same chunks: in other instances, in one that was used before, beside another
    /// object, behind one that was given up, and for other cuts. `whole` is one chunk.
    pub(super) fn gives_the_same_bytes(&mut self, whole: R::Chunk, cuts: &[usize]) {
        let (config, fresh) = (self.config, self.fresh);
        let chunks = whole.cut(whole.units().div_ceil(3).max(1));
        let all = || format!("{} {} in {} chunks", whole.units(), R::Chunk::UNIT, chunks.len());
        let mut expected = vec![];
        self.suite.check("gives-the-same-bytes-again", contract::PURITY, || {
            let mut instance = fresh()?;
            expected = object(&mut instance, config, &chunks).at(all)?;
            let again = object(&mut fresh()?, config, &chunks).at(all)?;
            same(&expected, &again, || format!("{} in two instances", all()))?;
            let reused = object(&mut instance, config, &chunks).at(all)?;
            same(&expected, &reused, || format!("{} twice in one instance", all()))?;
            Ok(format!("{} bytes of {}, in two instances and again in the first", expected.len(), all()))
        });
        if !self.suite.passed("gives-the-same-bytes-again") {
            let reason = "there are no bytes to compare with";
            self.suite.skip("gives-the-same-bytes-for-other-cuts", contract::PURITY, reason);
            self.suite.skip("keeps-objects-apart", contract::SEVERAL_OBJECTS, reason);
            return self.suite.skip("goes-on-when-one-is-given-up", contract::GIVEN_UP, reason);
        }
        self.suite.check("gives-the-same-bytes-for-other-cuts", contract::PURITY, || {
            for &units in cuts {
                let input = || format!("{} {} in chunks of {units}", whole.units(), R::Chunk::UNIT);
                let again = object(&mut fresh()?, config, &whole.cut(units)).at(input)?;
                same(&expected, &again, || format!("{}, and in {}", all(), input()))?;
            }
            let mut gaps = whole.cut(whole.units().div_ceil(2).max(1));
            gaps.insert(1, whole.part(0..0));
            let again = object(&mut fresh()?, config, &gaps).at(|| "with an empty chunk between".into())?;
            same(&expected, &again, || format!("{}, and with an empty chunk between", all()))?;
            let cuts: Vec<_> = cuts.iter().map(usize::to_string).collect();
            Ok(format!("chunks of {}, and with an empty one between", cuts.join(", ")))
        });
        self.suite.check("keeps-objects-apart", contract::SEVERAL_OBJECTS, || {
            let (one, other) = side_by_side(&mut fresh()?, config, &chunks).at(all)?;
            same(&expected, &one, || format!("{}, and with another object open beside it", all()))?;
            same(&expected, &other, || format!("{}, and as the second of two open objects", all()))?;
            Ok("two objects at a time in one instance".into())
        });
        self.suite.check("goes-on-when-one-is-given-up", contract::GIVEN_UP, || {
            let mut instance = fresh()?;
            let lost = instance.open(config)?;
            instance.push(lost, &chunks[0], 0).at(all)?;
            instance.give_up(lost).at(|| "dropped without finish".into())?;
            let next = object(&mut instance, config, &chunks).at(|| "behind one given up".into())?;
            same(&expected, &next, || format!("{}, and behind an object that was given up", all()))?;
            Ok("an object dropped without finish, and another in the same instance".into())
        });
    }

    /// Memory does not grow with what was pushed.
    pub(super) fn keeps_memory_flat(&mut self, ordinary: &R::Chunk, chunks: usize) {
        let (config, fresh) = (self.config, self.fresh);
        let unit = ordinary.bytes() / ordinary.units();
        let budget = self.speed.get() * PATIENCE.as_secs_f64() / chunks as f64;
        let bytes = (budget as usize).clamp(1 << 10, 25_000);
        let chunk = ordinary.part(0..(bytes / unit).clamp(1, ordinary.units()));
        self.suite.check("keeps-memory-flat", contract::BOUNDED_MEMORY, || {
            let mut instance = fresh()?;
            let object = instance.open(config)?;
            let (mut memory, mut moved, begun) = (vec![], chunk.bytes(), Instant::now());
            while memory.len() < chunks && (memory.len() < 2 || begun.elapsed() < END_OF_PATIENCE) {
                let number = memory.len();
                let answer = instance
                    .push(object, &chunk, number * chunk.units())
                    .at(|| format!("chunk {} of {chunks}, each of {} bytes", number + 1, chunk.bytes()))?;
                moved = moved.max(answer.len());
                memory.push(instance.memory());
            }
            // What a runtime never frees of its answers does no harm where the host leaves an instance that is worn.
            let kept = if R::MOVES { moved } else { 0 };
            flat(&memory, kept).at(|| format!("chunks of {} bytes in one object", chunk.bytes()))
        });
    }

    /// How fast it is beside a built-in stage: told, and judged where that is asked for.
    pub(super) fn is_fast<B: Running<Chunk = R::Chunk>>(
        &mut self,
        chunks: &[R::Chunk],
        built_in: &Beside<'_, B>,
        settings: &Settings,
    ) {
        let bytes: usize = chunks.iter().map(Chunk::bytes).sum();
        let fresh = self.fresh;
        let own = || object(&mut fresh()?, self.config, chunks);
        let other = || object(&mut (built_in.fresh)()?, built_in.config, chunks);
        let timed = |run: &dyn Fn() -> Result<Vec<u8>, Problem>| {
            let begun = Instant::now();
            run().map(|_| bytes as f64 / begun.elapsed().as_secs_f64() / 1e6)
        };
        super::speed::check(self.suite, "MB/s", built_in.name, settings, || {
            Ok((timed(&own)?, timed(&other)?))
        });
    }
}

/// The built-in stage of the same kind.
pub(super) struct Beside<'a, R> {
    pub(super) name: &'a str,
    pub(super) config: &'a str,
    pub(super) fresh: &'a dyn Fn() -> Result<R, StageError>,
}

/// Whether memory, in bytes behind each call, is at the end what it was half-way. The runtime of a language may add a
/// little, and keep so many bytes of each call.
pub(super) fn flat(memory: &[usize], kept: usize) -> Checked {
    let (half, end) = (memory[memory.len() / 2], memory[memory.len() - 1]);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let seen =
        format!("{:.2} MiB half-way through {} calls, {:.2} at the end", mib(half), memory.len(), mib(end));
    let little = (half / 10).max(1 << 20);
    if end <= half + little {
        return Ok(seen);
    }
    let calls = memory.len() - memory.len() / 2;
    if end > half + little.max(kept * calls) {
        Err(Problem::new(seen))
    } else {
        Ok(format!("{seen}: {LEAKS}"))
    }
}

/// What is said of a stage that does no harm and is no model.
const LEAKS: &str = "it grows by no more than goes through it, and the host leaves its instance in time";

fn object<R: Running>(instance: &mut R, config: &str, chunks: &[R::Chunk]) -> Result<Vec<u8>, Problem> {
    let object = instance.open(config)?;
    let (mut body, mut first) = (vec![], 0);
    for chunk in chunks {
        body.extend(instance.push(object, chunk, first)?);
        first += chunk.units();
        if body.len() > MOST {
            let seen = format!("more than {MOST} bytes for {first} {}", R::Chunk::UNIT);
            return Err(Problem::last(seen, "it gives more bytes than there is room for, as told above"));
        }
    }
    let (front, back) = instance.finish(object)?;
    Ok([front, body, back].concat())
}

/// Two objects of the same chunks, which are pushed to both in turns.
fn side_by_side<R: Running>(
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

/// Refuses two outputs that differ, and shows where.
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
    fn a_difference_is_shown_where_it_begins() {
        assert!(same(b"abc", b"abc", || unreachable!("they are the same")).is_ok());
        let problem = same(b"time=1 n=5\n", b"time=1 n=6", || "twice".into()).unwrap_err();
        assert_eq!(
            format!("{problem:?}"),
            r#"Problem { text: "twice: 11 bytes and 10, which differ from byte 9 on: \"time=1 n=5\\n\" and \"time=1 n=6\"", stops: None }"#
        );
    }

    #[test]
    fn memory_is_flat_where_it_hardly_grows() {
        const MIB: usize = 1 << 20;
        let memory = |half: usize, end: usize| [0, half * MIB, half * MIB, end * MIB];
        let is_flat = |half: usize, end: usize| flat(&memory(half, end), 0).is_ok();
        assert!(is_flat(2, 3) && is_flat(30, 33));
        assert!(!is_flat(2, 4) && !is_flat(30, 34));
        assert!(flat(&memory(2, 4), MIB).unwrap().ends_with(LEAKS));
        assert!(flat(&memory(2, 5), MIB).is_err());
    }
}

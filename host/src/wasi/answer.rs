//! What the functions of the empty WASI answer.

use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentFunc, Type};
use wasmtime::component::{Resource, Val};

use super::Nothing;
use crate::guest::Guest;

/// Bytes that can be written at once.
const ROOM: u64 = 64 << 10;

/// Random bytes that can be had at once.
const MOST_RANDOM: u64 = 1 << 20;

/// What errors of WASI call it where something is not allowed.
const REFUSALS: [&str; 3] = ["not-permitted", "access-denied", "access"];

/// What a function answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Nothing, where it has no result.
    Done,
    /// Always the same.
    Value(Val),
    /// A resource, behind which nothing is.
    Handle,
    /// That all that is asked for is ready.
    AllReady,
    /// That it is written, which is to the trace log.
    Written,
    /// The next random number of the call.
    Random,
    /// That it is not allowed; where that can't be said, a trap that names the function.
    Refused,
}

impl Answer {
    /// What a function of an interface answers.
    pub(super) fn of(interface: &str, function: &str) -> Self {
        let interface = interface.split('@').next().unwrap_or_default();
        let ok = |value| Val::Result(Ok(value));
        let closed = || Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None)))));
        let record = |members: [(&str, Val); 2]| {
            Val::Record(members.map(|(name, value)| (name.to_owned(), value)).into())
        };
        match (interface, function) {
            ("wasi:cli/environment", "get-environment" | "get-arguments")
            | ("wasi:filesystem/preopens", "get-directories") => Self::Value(Val::List(vec![])),
            ("wasi:cli/environment", "initial-cwd") => Self::Value(Val::Option(None)),
            (terminal, _) if terminal.starts_with("wasi:cli/terminal-") => Self::Value(Val::Option(None)),
            ("wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr", _)
            | ("wasi:sockets/instance-network", _) => Self::Handle,
            ("wasi:io/streams", function) => match function.split('.').next_back().unwrap_or_default() {
                "subscribe" => Self::Handle,
                "read" | "blocking-read" | "skip" | "blocking-skip" | "splice" | "blocking-splice" => {
                    Self::Value(closed())
                }
                "check-write" => Self::Value(ok(Some(Box::new(Val::U64(ROOM))))),
                "write" | "blocking-write-and-flush" => Self::Written,
                "write-zeroes" | "blocking-write-zeroes-and-flush" | "flush" | "blocking-flush" => {
                    Self::Value(ok(None))
                }
                _ => Self::Refused,
            },
            ("wasi:io/poll", "[method]pollable.ready") => Self::Value(Val::Bool(true)),
            ("wasi:io/poll", "[method]pollable.block") => Self::Done,
            ("wasi:io/poll", "poll") => Self::AllReady,
            // Go takes a monotonic clock at 0 for a broken one.
            ("wasi:clocks/monotonic-clock", "now") => Self::Value(Val::U64(1)),
            ("wasi:clocks/monotonic-clock", "resolution") => Self::Value(Val::U64(1)),
            ("wasi:clocks/monotonic-clock", _) => Self::Handle,
            ("wasi:clocks/wall-clock", "now") => {
                Self::Value(record([("seconds", Val::U64(0)), ("nanoseconds", Val::U32(0))]))
            }
            ("wasi:clocks/wall-clock", "resolution") => {
                Self::Value(record([("seconds", Val::U64(0)), ("nanoseconds", Val::U32(1))]))
            }
            ("wasi:random/random", "get-random-u64")
            | ("wasi:random/insecure", "get-insecure-random-u64") => Self::Random,
            ("wasi:random/insecure-seed", _) => Self::Value(Val::Tuple(vec![Val::U64(1), Val::U64(2)])),
            _ => Self::Refused,
        }
    }

    /// Answers a call of the function at `place`.
    pub(super) fn give(
        &self,
        place: &str,
        mut store: StoreContextMut<'_, Guest>,
        function: &ComponentFunc,
        given: &[Val],
        answered: &mut [Val],
    ) -> wasmtime::Result<()> {
        give_back(&mut store, given)?;
        let value = match self {
            Self::Done => return Ok(()),
            Self::Value(value) => value.clone(),
            Self::Handle => Val::Resource(Resource::<Nothing>::new_own(0).try_into_resource_any(store)?),
            Self::AllReady => match given {
                [Val::List(asked)] => Val::List((0..).take(asked.len()).map(Val::U32).collect()),
                _ => Val::List(vec![]),
            },
            Self::Random => Val::U64(store.data_mut().random().u64(..)),
            Self::Written => {
                trace(given);
                Val::Result(Ok(None))
            }
            Self::Refused => match refusal(function) {
                Some(refusal) => refusal,
                None => wasmtime::bail!("{place} was called, and the WASI of stages is empty"),
            },
        };
        if let [answered] = answered {
            *answered = value;
        }
        Ok(())
    }
}

/// Lets go of the resources that a call was given: lent ones have to be given back before it ends.
fn give_back(store: &mut StoreContextMut<'_, Guest>, given: &[Val]) -> wasmtime::Result<()> {
    given.iter().try_for_each(|value| match value {
        Val::Resource(resource) => resource.resource_drop(&mut *store),
        Val::List(values) if matches!(values.first(), Some(Val::Resource(_))) => give_back(store, values),
        _ => Ok(()),
    })
}

/// What a function says where something is not allowed, if it can.
fn refusal(function: &ComponentFunc) -> Option<Val> {
    let Type::Result(result) = function.results().next()? else { return None };
    let Type::Enum(errors) = result.err()? else { return None };
    let refusal = REFUSALS.into_iter().find(|refusal| errors.names().any(|name| name == *refusal))?;
    Some(Val::Result(Err(Some(Box::new(Val::Enum(refusal.into()))))))
}

/// Shows what a stage printed: as a rule, why its runtime gave up.
fn trace(given: &[Val]) {
    let Some(Val::List(bytes)) = given.get(1) else { return };
    let bytes: Vec<u8> =
        bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    tracing::trace!(printed = %bytes.escape_ascii(), "a stage");
}

/// Whether a function gives random bytes.
pub(super) fn is_random_bytes(interface: &str, function: &str) -> bool {
    interface.starts_with("wasi:random/")
        && matches!(function, "get-random-bytes" | "get-insecure-random-bytes")
}

/// The next random bytes of a call.
///
/// # Errors
/// When there are too many.
pub(super) fn random_bytes(guest: &mut Guest, length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MOST_RANDOM {
        wasmtime::bail!("{length} random bytes were asked for, and there are {MOST_RANDOM} at most");
    }
    let mut bytes = vec![0; length as usize];
    guest.random().fill(&mut bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_an_empty_world_in_every_version() {
        for version in ["0.2.0", "0.2.12"] {
            let of = |interface: &str, function| Answer::of(&format!("wasi:{interface}@{version}"), function);
            assert!(
                matches!(of("cli/environment", "get-environment"), Answer::Value(Val::List(all)) if all.is_empty())
            );
            assert!(matches!(of("clocks/monotonic-clock", "now"), Answer::Value(Val::U64(1))));
            assert!(matches!(of("clocks/monotonic-clock", "subscribe-duration"), Answer::Handle));
            assert!(matches!(of("io/streams", "[method]output-stream.write"), Answer::Written));
            let read = of("io/streams", "[method]input-stream.blocking-read");
            assert!(matches!(read, Answer::Value(Val::Result(Err(_)))));
            for (interface, function) in [
                ("filesystem/types", "[method]descriptor.open-at"),
                ("sockets/tcp-create-socket", "create-tcp-socket"),
                ("http/outgoing-handler", "handle"),
                ("cli/exit", "exit"),
                ("keyvalue/store", "open"),
            ] {
                assert!(matches!(of(interface, function), Answer::Refused), "{interface} {function}");
            }
        }
    }

    #[test]
    fn random_bytes_are_not_without_end() {
        let mut guest = Guest::new(1 << 20);
        let bytes = random_bytes(&mut guest, 1_000).unwrap();
        // Who asks until it gets another one must get another one.
        assert_ne!(bytes, random_bytes(&mut guest, 1_000).unwrap());
        assert_eq!(bytes, random_bytes(&mut Guest::new(1 << 20), 1_000).unwrap());
        assert!(random_bytes(&mut guest, u64::MAX).unwrap_err().to_string().contains("at most"));
    }
}

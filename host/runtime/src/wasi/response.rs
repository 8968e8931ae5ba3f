//! The responses of the empty WASI's functions.

use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentFunc, Type};
use wasmtime::component::{Resource, Val};

use super::EmptyResource;
use crate::guest::Guest;

/// The bytes that a stage may write at once.
const WRITE_LIMIT: u64 = 64 << 10;

/// The most random bytes per call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// The names of WASI's "permission denied" errors.
const DENIED_ERRORS: [&str; 3] = ["not-permitted", "access-denied", "access"];

/// The response of a function.
#[derive(Debug, Clone)]
pub(super) enum Response {
    /// The function returns no result.
    NoResult,
    /// A constant value.
    Value(Val),
    /// A handle of an empty resource.
    Handle,
    /// All polled resources are ready.
    AllReady,
    /// The bytes are written to the trace log.
    Written,
    /// The next pseudorandom number of the call.
    Random,
    /// A "permission denied" error, or a trap that names the function if its type has no such error.
    Denied,
}

impl Response {
    /// Returns the response of a function of an interface.
    pub(super) fn of(interface: &str, function: &str) -> Self {
        let interface = interface.split('@').next().unwrap_or_default();
        let ok = |value| Val::Result(Ok(value));
        let closed = || Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None)))));
        let record = |fields: [(&str, Val); 2]| {
            Val::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
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
                "check-write" => Self::Value(ok(Some(Box::new(Val::U64(WRITE_LIMIT))))),
                "write" | "blocking-write-and-flush" => Self::Written,
                "write-zeroes" | "blocking-write-zeroes-and-flush" | "flush" | "blocking-flush" => {
                    Self::Value(ok(None))
                }
                _ => Self::Denied,
            },
            ("wasi:io/poll", "[method]pollable.ready") => Self::Value(Val::Bool(true)),
            ("wasi:io/poll", "[method]pollable.block") => Self::NoResult,
            ("wasi:io/poll", "poll") => Self::AllReady,
            // Go treats a monotonic clock at 0 as broken.
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
            _ => Self::Denied,
        }
    }

    /// Runs a call of the function `path`.
    pub(super) fn respond(
        &self,
        path: &str,
        mut store: StoreContextMut<'_, Guest>,
        function: &ComponentFunc,
        arguments: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        drop_resources(&mut store, arguments)?;
        let value = match self {
            Self::NoResult => return Ok(()),
            Self::Value(value) => value.clone(),
            Self::Handle => {
                Val::Resource(Resource::<EmptyResource>::new_own(0).try_into_resource_any(store)?)
            }
            Self::AllReady => match arguments {
                [Val::List(polled)] => Val::List((0..).take(polled.len()).map(Val::U32).collect()),
                _ => Val::List(vec![]),
            },
            Self::Random => Val::U64(store.data_mut().random().u64(..)),
            Self::Written => {
                trace(arguments);
                Val::Result(Ok(None))
            }
            Self::Denied => match denied(function) {
                Some(error) => error,
                None => wasmtime::bail!(
                    "the stage called {path}, but stages have no access to the system (empty WASI)"
                ),
            },
        };
        if let [result] = results {
            *result = value;
        }
        Ok(())
    }
}

/// Drops the resources among a call's arguments. Borrowed resources must be dropped before the call returns.
fn drop_resources(store: &mut StoreContextMut<'_, Guest>, arguments: &[Val]) -> wasmtime::Result<()> {
    arguments.iter().try_for_each(|value| match value {
        Val::Resource(resource) => resource.resource_drop(&mut *store),
        Val::List(values) if matches!(values.first(), Some(Val::Resource(_))) => {
            drop_resources(store, values)
        }
        _ => Ok(()),
    })
}

/// Returns the "permission denied" error of a function's result type, or none if the type has no such error.
fn denied(function: &ComponentFunc) -> Option<Val> {
    let Type::Result(result) = function.results().next()? else { return None };
    let Type::Enum(errors) = result.err()? else { return None };
    let error = DENIED_ERRORS.into_iter().find(|error| errors.names().any(|name| name == *error))?;
    Some(Val::Result(Err(Some(Box::new(Val::Enum(error.into()))))))
}

/// Logs the output of a stage, usually the panic message of its runtime.
fn trace(arguments: &[Val]) {
    let Some(Val::List(bytes)) = arguments.get(1) else { return };
    let bytes: Vec<u8> =
        bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    tracing::trace!(printed = %bytes.escape_ascii(), "a stage");
}

/// Returns true if a function returns random bytes.
pub(super) fn is_random_bytes(interface: &str, function: &str) -> bool {
    interface.starts_with("wasi:random/")
        && matches!(function, "get-random-bytes" | "get-insecure-random-bytes")
}

/// Returns the next pseudorandom bytes of a call.
///
/// # Errors
/// Fails if `length` is too large.
pub(super) fn random_bytes(guest: &mut Guest, length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_RANDOM_BYTES {
        wasmtime::bail!(
            "the stage requested {length} random bytes; a call may request at most {MAX_RANDOM_BYTES}"
        );
    }
    let mut bytes = vec![0; length as usize];
    guest.random().fill(&mut bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_the_same_in_every_version() {
        for version in ["0.2.0", "0.2.12"] {
            let response =
                |interface: &str, function| Response::of(&format!("wasi:{interface}@{version}"), function);
            assert!(
                matches!(response("cli/environment", "get-environment"), Response::Value(Val::List(all)) if all.is_empty())
            );
            assert!(matches!(response("clocks/monotonic-clock", "now"), Response::Value(Val::U64(1))));
            assert!(matches!(response("clocks/monotonic-clock", "subscribe-duration"), Response::Handle));
            assert!(matches!(response("io/streams", "[method]output-stream.write"), Response::Written));
            let read = response("io/streams", "[method]input-stream.blocking-read");
            assert!(matches!(read, Response::Value(Val::Result(Err(_)))));
            for (interface, function) in [
                ("filesystem/types", "[method]descriptor.open-at"),
                ("sockets/tcp-create-socket", "create-tcp-socket"),
                ("http/outgoing-handler", "handle"),
                ("cli/exit", "exit"),
                ("keyvalue/store", "open"),
            ] {
                assert!(matches!(response(interface, function), Response::Denied), "{interface} {function}");
            }
        }
    }

    #[test]
    fn limits_random_bytes() {
        let mut guest = Guest::new(1 << 20);
        let bytes = random_bytes(&mut guest, 1_000).unwrap();
        // A stage that retries until it gets other bytes must terminate.
        assert_ne!(bytes, random_bytes(&mut guest, 1_000).unwrap());
        assert_eq!(bytes, random_bytes(&mut Guest::new(1 << 20), 1_000).unwrap());
        assert!(random_bytes(&mut guest, u64::MAX).unwrap_err().to_string().contains("at most"));
    }
}

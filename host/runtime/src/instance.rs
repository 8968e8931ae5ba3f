//! An instance of a stage, and its calls.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceAny;
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::engine::Engine;
use crate::error::StageError;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::metrics::StageMetrics;

/// An instance of a stage. Every call goes through it: it enforces the deadline, explains traps and records
/// metrics. After an error it must not be called again.
pub(crate) struct Instance<B> {
    engine: Engine,
    stage: Identity,
    metrics: Arc<StageMetrics>,
    store: Store<Guest>,
    bindings: B,
}

impl<B> Instance<B> {
    /// Takes an instance from the pool.
    pub(crate) fn new(
        engine: &Engine,
        stage: &Identity,
        metrics: &Arc<StageMetrics>,
        instantiate: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<B>,
    ) -> Result<Self, StageError> {
        let mut store = engine.store();
        let (instantiated, timed_out) = engine.call_with_deadline(&mut store, instantiate);
        match instantiated {
            Ok(bindings) => {
                let (engine, stage, metrics) = (engine.clone(), stage.clone(), Arc::clone(metrics));
                Ok(Self { engine, stage, metrics, store, bindings })
            }
            Err(error) => {
                let error = failure(engine, stage, &store, &error, timed_out);
                metrics.record_failure(&error);
                Err(error)
            }
        }
    }

    /// Returns the stage of this instance.
    pub(crate) fn stage(&self) -> &Identity {
        &self.stage
    }

    /// Returns the size of its linear memories in bytes. They never shrink.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().used
    }

    /// True if the instance should be replaced by a new one. This holds if it uses more than half of its
    /// memory cap, and has grown by more than a quarter of the cap since it had `first` bytes. Language
    /// runtimes that never free what they return get there.
    pub(crate) fn should_recycle(&self, first: usize) -> bool {
        let Guest { cap, used, .. } = *self.store.data();
        used > cap / 2 && used.saturating_sub(first) > cap / 4
    }

    /// Drops a resource of the stage, for example an abandoned object.
    pub(crate) fn discard(&mut self, resource: ResourceAny) -> Result<(), StageError> {
        self.call(|store, _| resource.resource_drop(store))
    }

    /// Calls the stage under the deadline and records the call.
    pub(crate) fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Store<Guest>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, StageError> {
        self.store.data_mut().begin();
        let started = Instant::now();
        let (result, timed_out) =
            self.engine.call_with_deadline(&mut self.store, |store| call(store, &self.bindings));
        self.metrics.record_call(started.elapsed(), self.store.data().used);
        result.map_err(|error| {
            self.record_failure(failure(&self.engine, &self.stage, &self.store, &error, timed_out))
        })
    }

    /// Records a failed call and returns its error.
    pub(crate) fn record_failure(&self, error: StageError) -> StageError {
        self.metrics.record_failure(&error);
        error
    }

    /// Records the bytes passed to a call and returned by it.
    pub(crate) fn record_bytes(&self, bytes_in: usize, bytes_out: usize) {
        self.metrics.record_bytes(bytes_in, bytes_out);
    }
}

/// Converts an error of wasmtime to a [`StageError`] that tells the user what to do.
fn failure(
    engine: &Engine,
    stage: &Identity,
    store: &Store<Guest>,
    error: &wasmtime::Error,
    timed_out: bool,
) -> StageError {
    let stage = stage.clone();
    let Guest { cap, denied, .. } = *store.data();
    let trap = error.downcast_ref::<Trap>();
    match (trap, denied) {
        _ if trap == Some(&Trap::Interrupt) || timed_out && trap.is_some() => {
            StageError::Deadline { stage, seconds: engine.limits().deadline.as_secs_f64() }
        }
        (_, Some(asked)) => StageError::OutOfMemory { stage, asked: asked.div_ceil(1 << 20), cap: cap >> 20 },
        _ => StageError::Trap { stage, cause: cause(error) },
    }
}

/// Returns the trap and the stage's function that caused it. Skips the frames of the panic machinery.
fn cause(error: &wasmtime::Error) -> String {
    let machinery =
        ["__rust", "rust_panic", "rust_begin_unwind", "core[", "core::", "std[", "std::", "alloc"];
    let names = error.downcast_ref::<WasmBacktrace>().into_iter().flat_map(WasmBacktrace::frames);
    let names = names.filter_map(|frame| Some(demangled(frame.func_name()?)));
    let place = names.into_iter().find(|name| !machinery.iter().any(|start| name.starts_with(start)));
    let place = place.map(|name| format!(" in {name}")).unwrap_or_default();
    let trap = error.root_cause().to_string();
    format!("{}{place}", trap.strip_prefix("wasm trap: ").unwrap_or(&trap))
}

/// Demangles a function's name and removes Rust's hash.
fn demangled(name: &str) -> String {
    let name = rustc_demangle::demangle(name).to_string();
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            path.into()
        }
        _ => name,
    }
}

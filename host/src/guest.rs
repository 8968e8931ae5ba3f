use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use wasmtime::component::ResourceAny;
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use crate::engine::Engine;
use crate::stage::{Identity, StageError, Tally};

/// What random numbers begin with.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the host knows of a running instance: its memory, in bytes. A component may have several linear
/// memories; the cap is for all of them together.
#[derive(Debug)]
pub(crate) struct Guest {
    cap: usize,
    used: usize,
    /// What it asked for beyond the cap.
    denied: Option<usize>,
    /// The random numbers of a stage that is allowed WASI.
    random: Rng,
}

impl Guest {
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap, used: 0, denied: None, random: Rng::with_seed(SEED) }
    }

    /// Begins a call. Its random numbers are those of any other, so that an instance that was used gives what a new one
    /// does.
    fn begin(&mut self) {
        self.denied = None;
        self.random = Rng::with_seed(SEED);
    }

    /// Random numbers that are none: the same in every call.
    pub(crate) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        now: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the maximum that the memory itself has, it would not grow whatever is answered.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let asked = self.used.saturating_add(desired.saturating_sub(now));
        if asked > self.cap {
            self.denied = Some(asked);
            return Ok(false);
        }
        self.used = asked;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 1 << 20)
    }
}

/// An instance of a stage, and the one way to call it: under a deadline, with the cause of a trap
/// told in words, and counted. After an error it must not be called again.
pub(crate) struct Instance<B> {
    engine: Engine,
    stage: Identity,
    tally: Arc<Tally>,
    store: Store<Guest>,
    bindings: B,
}

impl<B> Instance<B> {
    /// Instantiates from the pool.
    pub(crate) fn new(
        engine: &Engine,
        stage: &Identity,
        tally: &Arc<Tally>,
        instantiate: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<B>,
    ) -> Result<Self, StageError> {
        let mut store = engine.store();
        let (instantiated, is_stopped) = engine.bounded(&mut store, instantiate);
        match instantiated {
            Ok(bindings) => {
                let (engine, stage, tally) = (engine.clone(), stage.clone(), Arc::clone(tally));
                Ok(Self { engine, stage, tally, store, bindings })
            }
            Err(error) => {
                let error = failure(engine, stage, &store, &error, is_stopped);
                tally.failed(&error);
                Err(error)
            }
        }
    }

    /// Which stage it is of.
    pub(crate) fn stage(&self) -> &Identity {
        &self.stage
    }

    /// Bytes of its linear memories, which never shrink.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().used
    }

    /// Whether most of its memory is taken, far more than the `first` bytes with which its work began. A runtime that
    /// does not free what it returns gets there, and an instance that can be left for a new one is left then.
    pub(crate) fn is_worn(&self, first: usize) -> bool {
        let Guest { cap, used, .. } = *self.store.data();
        used > cap / 2 && used.saturating_sub(first) > cap / 4
    }

    /// Drops a resource of the stage, as when an object is given up.
    pub(crate) fn give_up(&mut self, resource: ResourceAny) -> Result<(), StageError> {
        self.call(|store, _| resource.resource_drop(store))
    }

    /// Calls the stage.
    pub(crate) fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Store<Guest>, &B) -> wasmtime::Result<R>,
    ) -> Result<R, StageError> {
        self.store.data_mut().begin();
        let begun = Instant::now();
        let (result, is_stopped) = self.engine.bounded(&mut self.store, |store| call(store, &self.bindings));
        self.tally.called(begun.elapsed(), self.store.data().used);
        result
            .map_err(|error| self.failed(failure(&self.engine, &self.stage, &self.store, &error, is_stopped)))
    }

    /// Counts a call that gave an error, and gives that back.
    pub(crate) fn failed(&self, error: StageError) -> StageError {
        self.tally.failed(&error);
        error
    }

    /// Counts bytes that went in with a call, and came out of it.
    pub(crate) fn moved(&self, bytes_in: usize, bytes_out: usize) {
        self.tally.moved(bytes_in, bytes_out);
    }
}

/// What went wrong in the guest, told so that its user knows what to do.
fn failure(
    engine: &Engine,
    stage: &Identity,
    store: &Store<Guest>,
    error: &wasmtime::Error,
    is_stopped: bool,
) -> StageError {
    let stage = stage.clone();
    let Guest { cap, denied, .. } = *store.data();
    let trap = error.downcast_ref::<Trap>();
    match (trap, denied) {
        _ if trap == Some(&Trap::Interrupt) || is_stopped && trap.is_some() => {
            StageError::Deadline { stage, seconds: engine.limits().deadline.as_secs_f64() }
        }
        (_, Some(asked)) => StageError::OutOfMemory { stage, asked: asked.div_ceil(1 << 20), cap: cap >> 20 },
        _ => StageError::Trap { stage, cause: cause(error) },
    }
}

/// The trap, and the function of the stage that it came from: frames of the panic machinery above
/// it say nothing.
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

/// A function's name without the hash that Rust puts behind it.
fn demangled(name: &str) -> String {
    let name = rustc_demangle::demangle(name).to_string();
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            path.into()
        }
        _ => name,
    }
}

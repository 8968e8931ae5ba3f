//! Stores for new instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use logship_wasm::ticker::Running;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::limits::Limits;
use crate::outbound::Outbound;
use crate::output::Output;
use crate::state::State;

/// The configuration of a function's instances.
#[derive(Clone)]
pub(crate) struct InstanceConfig {
    pub(crate) engine: Engine,
    pub(crate) outbound: Outbound,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
    pub(crate) limits: Limits,
    pub(crate) output: Option<[Output; 2]>,
}

impl InstanceConfig {
    /// Creates a store for one instance.
    pub(crate) fn store(&self) -> Store<State> {
        let limits =
            StoreLimitsBuilder::new().memory_size(self.limits.memory).trap_on_grow_failure(true).build();
        let mut wasi = WasiCtx::builder();
        match &self.output {
            Some([stdout, stderr]) => wasi.stdout(stdout.clone()).stderr(stderr.clone()),
            None => wasi.inherit_stdout().inherit_stderr(),
        };
        let state = State {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            outbound: self.outbound.clone(),
            variables: Arc::clone(&self.variables),
            limits,
            notes: None,
            _ticking: Running::begin(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        // Limits data passed to imports to the size of the memory.
        store.set_hostcall_fuel(self.limits.memory);
        store.set_epoch_deadline(1);
        // Yields at each epoch, so that the call's timeout is checked.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }
}

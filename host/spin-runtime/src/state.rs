//! The state of an instance.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use logship_wasm::ticker::Running;
use wasmtime::StoreLimits;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::outbound::Outbound;

/// The state of an instance.
pub struct State {
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) table: ResourceTable,
    pub(crate) outbound: Outbound,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
    pub(crate) limits: StoreLimits,
    /// What the host's imports keep for the instance.
    pub(crate) notes: Option<Box<dyn Any + Send>>,
    /// Interrupts the instance's code at each tick, also after its calls.
    pub(crate) _ticking: Running,
}

impl State {
    /// Returns the instance's resources, including those of its imports.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Returns what the host's imports keep for the instance. All imports use the same type.
    pub fn notes<T: Default + Send + 'static>(&mut self) -> &mut T {
        let kept = self.notes.take().and_then(|notes| notes.downcast::<T>().ok()).unwrap_or_default();
        let notes = self.notes.insert(kept);
        notes.downcast_mut().unwrap_or_else(|| unreachable!("the type was inserted"))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

//! An empty WASI, for stages whose language runtime imports WASI.
//!
//! It gives no capability: no files, arguments, environment or network. Standard input is empty, and output goes to the
//! trace log. Clocks stand still, and random numbers are the same in every call of the stage. So a stage with this WASI
//! is as deterministic as one without imports, and a retry makes the same bytes.
//!
//! # Layout
//! - This file: defines a component's WASI imports. `response`: the response of each function.
//! - [`WasiAllowlist`]: the stages that may import WASI.

mod allowlist;
mod response;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

pub use allowlist::WasiAllowlist;
use response::Response;

use crate::guest::Guest;

/// The host type of every resource.
struct EmptyResource;

/// Returns true if an import belongs to a WASI version that a stage may import. WASI 0.3 is excluded, because it is
/// asynchronous and stages are not.
pub(crate) fn is_wasi(import: &str) -> bool {
    let version = import.strip_prefix("wasi:").and_then(|import| import.split_once('@'));
    version.is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Defines the WASI functions that a component imports.
///
/// # Errors
/// Fails if it imports a function twice.
pub(crate) fn link(
    linker: &mut Linker<Guest>,
    engine: &wasmtime::Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    for (interface, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        if !is_wasi(interface) {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<EmptyResource>(), |_, _| Ok(()))?;
                }
                // A dynamic `Val` takes 30 times the memory of a byte, so random bytes have a typed function.
                ComponentItem::ComponentFunc(_) if response::is_random_bytes(interface, name) => {
                    linked.func_wrap(name, |mut store, (length,): (u64,)| {
                        Ok((response::random_bytes(store.data_mut(), length)?,))
                    })?;
                }
                ComponentItem::ComponentFunc(_) => {
                    let response = Response::of(interface, name);
                    let path = format!("{interface}#{name}");
                    linked.func_new(name, move |store, function, arguments, results| {
                        response.respond(&path, store, &function, arguments, results)
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

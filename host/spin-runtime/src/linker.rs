//! The interfaces of the platform: WASI, variables, and the types of Redis.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Accessor, Component, ComponentType, Lift, Linker, Lower, ResourceType};

use crate::state::State;

/// The interface of Spin's variables. [`VariableError`] mirrors its errors.
const VARIABLES: &str = "spin:variables/variables@3.0.0";

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// Creates a linker for a component.
pub(crate) fn linker(engine: &Engine, component: &Component) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    linker.instance(VARIABLES)?.func_wrap_concurrent(
        "get",
        |accessor: &Accessor<State>, (name,): (String,)| {
            Box::pin(async move {
                let value = accessor.with(|mut state| state.get().variables.get(&name).cloned());
                Ok((value.ok_or_else(|| VariableError::Undefined(format!("no variable {name}"))),))
            })
        },
    )?;
    // A subscriber imports only types of Redis. One of them is a connection resource that is never opened.
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        if let ComponentItem::ComponentInstance(instance) = item.ty
            && name.starts_with("spin:redis/")
        {
            let mut into = linker.instance(name)?;
            for (name, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::Resource(_)) {
                    into.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
            }
        }
    }
    Ok(linker)
}

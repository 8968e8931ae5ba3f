//! An empty WASI, for stages whose language brings a runtime that imports it.
//!
//! It gives no capability: there are no files, no arguments, no environment and no network, standard input is at its
//! end, what is printed goes to the trace log, clocks stand, and random numbers are the same in every call of the stage. So a
//! stage that has it is as pure as one that imports nothing, and a retry makes the same bytes.
//!
//! # Layout
//! - This file: what of a component's imports is defined. `answer`: what each function answers.
//! - [`Allowance`]: which stages may have it.

mod allowance;
mod answer;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

pub use allowance::Allowance;
use answer::Answer;

use crate::guest::Guest;

/// What stands behind every resource of this WASI: nothing.
struct Nothing;

/// Whether an import is of the WASI that stages can be allowed. That of version 0.3 waits, and stages do not.
pub(crate) fn is_wasi(import: &str) -> bool {
    let version = import.strip_prefix("wasi:").and_then(|import| import.split_once('@'));
    version.is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Defines what a component imports of WASI, and nothing else.
///
/// # Errors
/// When it imports a function twice.
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
                    linked.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
                }
                // A list of bytes is a list of values to those below, each 30 times as large.
                ComponentItem::ComponentFunc(_) if answer::is_random_bytes(interface, name) => {
                    linked.func_wrap(name, |mut store, (length,): (u64,)| {
                        Ok((answer::random_bytes(store.data_mut(), length)?,))
                    })?;
                }
                ComponentItem::ComponentFunc(_) => {
                    let answer = Answer::of(interface, name);
                    let place = format!("{interface}#{name}");
                    linked.func_new(name, move |store, function, given, answered| {
                        answer.give(&place, store, &function, given, answered)
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

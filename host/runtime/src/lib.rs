//! Runs stages.
//!
//! A **stage** is a WebAssembly component that turns logs into bytes and has no imports. `wit/` has the contract.
//!
//! # Layout
//! - [`engine`]: the wasmtime engine, the limits of stages and the cache of their compiled code.
//! - [`stage`]: components that are compiled and checked, one file per kind.
//! - `guest`: an instance of a component. `deadline`: calls that exceed their time. `code`: addresses of compiled code.
//! - [`wasi`]: an empty WASI, for stages that may import it. [`componentize`]: components made from core modules.
//! - [`contract`]: the files of `wit/`. `bindings`: what wasmtime generates from them.

pub mod bindings;
mod code;
pub mod componentize;
pub mod contract;
mod deadline;
pub mod engine;
mod guest;
pub mod stage;
pub mod wasi;

//! Runs stages.
//!
//! A **stage** is a WebAssembly component that turns logs into bytes and has no imports. `wit/` has the contract.
//!
//! # Layout
//! Each module imports only modules below it.
//!
//! | module | content |
//! |---|---|
//! | [`stage`] | components that are compiled and checked, one file for each kind |
//! | [`componentize`] | components made from core modules |
//! | `instance` | an instance of a component: calls it, explains its traps, records its metrics |
//! | [`engine`] | the wasmtime engine and the limits of stages |
//! | `deadline`, `code` | ends calls that exceed their CPU time; addresses of compiled code |
//! | [`wasi`] | an empty WASI, for stages that may import it |
//! | `guest` | the host's state of an instance: its memory and its random numbers |
//! | `metrics` | calls, durations, bytes, memory and failures of each component |
//! | `error` | [`StageError`](stage::StageError) |
//! | `identity`, `kind` | the identity of a component; the kinds of stages and their interfaces |
//! | [`contract`], [`bindings`] | the files of `wit/`; the code that wasmtime generates from them |

pub mod bindings;
mod code;
pub mod componentize;
pub mod contract;
mod deadline;
pub mod engine;
mod error;
mod guest;
mod identity;
mod instance;
mod kind;
mod metrics;
pub mod stage;
pub mod wasi;

//! Guards components against loops and allocations without an end, in any host.
//!
//! The host of the stages limits a call by wasmtime's epochs, and each memory by its store. Other hosts have neither: in
//! Spin, a loop burns a core for ever. So [`Guard::component`] writes both limits into the component itself:
//!
//! - **A budget of instructions for each call.** Each function and each loop subtracts its instructions from a counter,
//!   and traps when the counter is below zero. Calls from outside reset the counter.
//! - **A maximum for each memory.** `memory.grow` then fails inside, and the stage's allocator sees it.
//!
//! Why no crate does it: `wasm-instrument` and `finite-wasm` know core modules of blockchains only, without SIMD or
//! components, and count exactly. Exact counts cost more, as each branch pays. A guard may charge both arms of an `if`.
//!
//! # Layout
//! Each module imports only modules below it.
//!
//! | module | content |
//! |---|---|
//! | [`component`] | [`Guard`]: rewrites the core modules of a component, and connects them with its counter |
//! | `entries` | the core functions that calls from outside enter |
//! | `module` | rewrites a core module: the imported counter, the guarded functions, the entries |
//! | `body` | rewrites a function: subtracts the charges |
//! | `charges` | the charges of a function, and their places |
//! | `totals` | the number of memories, tables and instances |
//! | `sections` | the sections of components, and the parts of a core module |
//! | `memory` | the maximum of memories and tables |
//! | [`error`] | [`GuardError`] |

mod body;
mod charges;
pub mod component;
mod entries;
pub mod error;
mod memory;
mod module;
mod sections;
mod totals;

pub use component::Guard;
pub use error::GuardError;

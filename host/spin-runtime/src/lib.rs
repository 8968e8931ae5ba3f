//! Runs the functions of a serverless application on one machine, from a `spin.toml`, without Spin.
//!
//! - [`manifest`]: the application in `spin.toml`.
//! - [`check`]: all problems of an application, before it starts; `shape`: those of the manifest's form; `lines`: their
//!   lines; [`report`]: the result.
//! - [`compose`]: composition of a component with its dependencies.
//! - [`environment`]: Spin's variables from the environment, for hosts without Spin.
//! - [`fuse`]: fusion of stages to a pipeline component.
//! - [`application`]: callable functions, with linked imports.
//! - `linker`: the interfaces that a component may import.
//! - [`outbound`]: the hosts that a component may connect to.
//! - [`output`]: what functions print.
//! - [`runtime`]: compiled components.
//! - [`function`]: calls of a component; `pool`: its instances; `queue`: calls that wait for one; `worker`: an instance
//!   and its calls; [`limits`]: their limits; [`error`]: failed calls.
//! - `instance`: stores of instances; `state`: their state.
//! - [`server`]: HTTP triggers; `body`: their bodies; [`subscriber`]: Redis triggers.
//!
//! It is a separate crate, as stages have no imports and don't need WASI 0.3 and its engine.

pub mod application;
mod body;
pub mod check;
pub mod compose;
pub mod environment;
pub mod error;
pub mod function;
pub mod fuse;
mod instance;
pub mod limits;
mod lines;
mod linker;
pub mod manifest;
pub mod outbound;
pub mod output;
mod pool;
mod queue;
pub mod report;
pub mod runtime;
pub mod server;
mod shape;
mod state;
pub mod subscriber;
mod worker;

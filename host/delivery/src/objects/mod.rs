//! Objects: what rules write to directories and buckets.
//!
//! - [`object`]: one object. [`open_objects`]: several, one for each partition by log time. [`task_objects`]: all of a task.
//! - `rule`: rules that write objects, as a kind of work of the engine. `plan`, `destination`, `own_destination`: their plans.
//! - `make`: objects made in this process. `call`: objects made by a function. `provenance`: their metadata.
//! - `preview`: objects of past tasks, made with another stage. `error`: errors as the engine records them.

mod call;
mod destination;
mod error;
mod make;
pub mod object;
pub mod open_objects;
mod own_destination;
mod plan;
mod preview;
mod provenance;
pub mod rule;
pub mod task_objects;

pub use rule::Objects;

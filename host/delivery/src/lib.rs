//! The delivery engine: it turns the logs of shards into objects and events, exactly once.
//!
//! # Layout
//! - [`pipeline`]: the stages of a rule, put together.
//! - [`executor`]: where the stages run: in this process, or in a function.
//! - [`objects`]: the objects that a task makes.
//! - [`engine`]: tasks of rules that write objects: scheduling, plans, manifests, retries, circuit breakers.
//! - [`events`]: tasks of rules that send events, and members of consumer groups.
//! - [`preview`]: what past tasks would have made with another stage.

pub mod engine;
pub mod events;
pub mod executor;
pub mod objects;
pub mod pipeline;
pub mod preview;

//! The delivery engine: it turns the logs of shards into objects and events, exactly once.
//!
//! # Layout
//! A module imports only modules above it in this list.
//! - [`pipeline`]: the stages of a rule, put together.
//! - [`executor`]: where the stages run: in this process, or in a function.
//! - [`engine`]: tasks, plans, manifests, retries, circuit breakers and scheduling, for every kind of work.
//! - [`preview`]: what past tasks would have made with another stage.
//! - [`dead_letter`]: rejected events and dirty rows, stored with the reason.
//! - [`rows`]: tables of rows, and the data sources that rules and jobs name.
//! - [`objects`]: work that makes objects. [`events`]: work that sends events, and members of consumer groups.

pub mod dead_letter;
pub mod engine;
pub mod events;
pub mod executor;
pub mod objects;
pub mod pipeline;
pub mod preview;
pub mod rows;

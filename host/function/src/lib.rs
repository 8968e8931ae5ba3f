//! Runs the functions of a serverless application: what Spin does with `spin.toml`, on one machine, for who has no Spin.
//!
//! - [`manifest`]: the application, as `spin.toml` has it.
//! - [`compose`]: a component and what serves its imports, as one component.
//! - [`fuse`]: stages as one component, a pipeline.
//! - [`application`]: the components of an application, ready, with what serves their imports.
//! - [`outbound`]: which hosts a component may reach.
//! - [`runtime`]: components that are ready to be called, an instance for each call.
//! - [`server`]: HTTP triggers; [`subscriber`]: Redis triggers.
//!
//! It is a crate of its own because WASI 0.3, and the engine with it, is of no use to the stages: these have no imports.

pub mod application;
pub mod compose;
pub mod fuse;
pub mod manifest;
pub mod outbound;
pub mod runtime;
pub mod server;
pub mod subscriber;

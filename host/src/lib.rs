//! The host of logship: runs stages, and ships logs through them.
//!
//! A **stage** is a WebAssembly component that turns logs into bytes and can touch nothing else;
//! `wit/` has the contract. This crate does the rest.
//!
//! # Layout
//! - [`engine`]: the wasmtime engine, the limits of stages and the cache of their compiled code; `deadline`: calls that
//!   take too long; `code`: where compiled code lies.
//! - [`stage`]: components that were read, checked and made ready; one file for each kind.
//! - [`registry`]: which component serves a name, and how that changes while a service runs.
//! - [`oci`]: components in OCI registries, pulled and pushed.
//! - [`conformance`]: whether a component keeps the contract.
//! - [`batch`]: the logs that a stage works on, and how they are built; [`partition`]: the hour or day that each is of.
//! - [`rule`]: how logs become objects, and where these go; [`pipeline`]: the rule's stages together;
//!   [`transforms`]: those that come before all others.
//! - [`destination`]: where objects go; [`directory`], [`bucket`], [`function`]: the kinds; [`part`]: an object on its way.
//! - [`object`]: an object in the making; `open_objects`: several, of a rule that partitions by the time of logs; `task_objects`:
//!   all of a task; `shard`: a shard's logs, cut into objects.
//! - [`input`], [`ndjson`], [`time`], [`infer`], [`rejects`]: from files of lines to batches.
//! - [`ship`]: all of it, on as many threads as asked for.
//! - [`service`]: the Logstore service, `logship serve`; [`client`]: what speaks to one.
//! - [`log_group`]: batches from log groups, and log groups from batches; [`source`]: shards as batches; `group_list`:
//!   shards as lists of groups.
//! - [`shipping`]: the rules of a Logstore, and the tasks that ship it; [`target`]: rules as its clients set them.
//! - [`siem`]: what brings the logs of a Logstore to Splunk or a syslog receiver, `logship consume` and the rules of it.
//! - [`trial`]: what would change if a stage took the place of another.
//! - [`link`]: stages that serve the imports of functions.
//! - [`wasi`]: an empty WASI, for stages that are allowed one; [`componentize`]: components of core modules, with one within;
//!   `contract`: what is in `wit/`.
//! - [`cli`]: the program.

mod bindings;
pub mod bucket;
pub mod cli;
pub mod client;
mod code;
pub mod componentize;
pub mod conformance;
mod contract;
mod deadline;
pub mod destination;
pub mod directory;
pub mod engine;
pub mod function;
mod group_list;
mod guest;
pub mod infer;
pub mod input;
pub mod link;
pub mod object;
pub mod oci;
mod open_objects;
pub mod part;
pub mod pipeline;
pub mod registry;
pub mod rejects;
pub mod rule;
pub mod service;
mod shard;
pub mod ship;
pub mod shipping;
pub mod siem;
pub mod source;
pub mod stage;
mod table;
pub mod target;
mod task_objects;
pub mod transforms;
pub mod trial;
pub mod wasi;

pub use logship_core::{batch, log_group, ndjson, partition, time};

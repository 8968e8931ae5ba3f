//! The host of logship: runs stages and ships logs through them.
//!
//! A **stage** is a WebAssembly component that processes logs and has no access to anything else. `wit/` defines
//! the contract.
//!
//! # Layout
//!
//! Stages:
//! - [`engine`]: the wasmtime engine, the limits of stages and the compilation cache; `deadline`: deadlines of
//!   calls; `code`: memory for compiled code.
//! - [`stage`]: loaded and checked components, one file per kind; `guest`, `bindings`: calls of components.
//! - [`registry`]: the stage catalog, with names, versions and aliases; [`oci`]: components in OCI registries.
//! - [`conformance`]: checks of the contract; `contract`: the files of `wit/`.
//! - [`wasi`]: an empty WASI for stages that may import it; [`componentize`]: core modules as components.
//! - [`link`]: stages that serve the imports of functions.
//!
//! Logs:
//! - [`batch`]: batches of logs; [`log_group`]: conversion to and from log groups; [`partition`]: hours and days.
//! - [`input`], [`ndjson`], [`time`], [`infer`], [`rejects`]: batches from files of lines.
//! - [`source`], `group_list`: batches and log groups from shards.
//!
//! Shipping:
//! - [`rule`]: shipping rules; [`shipper_config`]: their wire form.
//! - [`pipeline`]: a rule's stages; [`transforms`]: its transformers.
//! - [`destination`]: settings of destinations; [`sink`]: the trait of object stores; [`directory`], [`bucket`]:
//!   the sinks; [`executor`]: shipping by functions.
//! - [`staged_file`]: objects on local disk before upload.
//! - [`object`]: one object; `open_objects`: the open objects of partitions; `task_objects`: the objects of a task;
//!   `shard`: the objects of a shard.
//! - [`ship`]: `logship ship`, multi-threaded.
//! - [`shipping`]: rules and tasks of a Logstore.
//! - [`siem`]: delivery to Splunk and syslog receivers, by `logship consume` and by rules.
//! - [`preview`]: comparison of a rule's output with another stage.
//!
//! Programs:
//! - [`service`]: the Logstore service, `logship serve`; [`client`]: its client.
//! - [`cli`]: the `logship` program.

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
pub mod executor;
mod group_list;
mod guest;
pub mod infer;
pub mod input;
pub mod link;
pub mod object;
pub mod oci;
mod open_objects;
pub mod pipeline;
pub mod preview;
pub mod registry;
pub mod rejects;
pub mod rule;
pub mod service;
mod shard;
pub mod ship;
pub mod shipper_config;
pub mod shipping;
pub mod sink;
pub mod siem;
pub mod source;
pub mod stage;
pub mod staged_file;
mod table;
mod task_objects;
pub mod transforms;
pub mod wasi;

pub use logship_core::{batch, log_group, ndjson, partition, time};

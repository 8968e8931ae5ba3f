//! Everything that a user writes in a file or sends to a service, as structs: rules, destinations, receivers, settings.
//!
//! The structs parse and check themselves. They do no I/O and run no stages.
//!
//! # Layout
//! - [`service`]: all settings of a service, the file of `logship serve --config`. [`shipping`] and [`dead_letter`]: parts
//!   of it.
//! - [`rule`]: rules that write objects. [`siem_rule`]: rules that send events. [`maxcompute_rule`] and
//!   [`table_store_rule`]: rules that write rows. [`rule_file`]: the file of
//!   `logship rule apply`. [`shipper_config`]: the wire form of rules, as clients of Log Service send them.
//!   [`rule_secrets`]: their secrets.
//! - [`destination`]: the destinations of objects: [`object_store`] and [`function`].
//! - [`maxcompute`]: a project of MaxCompute.
//! - [`table_store`]: an instance of Table Store.
//! - [`receiver`]: the receivers of events: [`hec`] and [`syslog`].
//! - [`data_source`]: the connections that jobs and rules name: [`log_hub`]. [`endpoint`]: checks of
//!   their settings.
//! - [`column_mapping`]: the values of a table's columns, for rules and jobs that write rows.
//! - [`scope`]: the rules that may use a destination or a receiver.
//! - [`key`]: access keys and their grants. [`policy`]: their policies. [`quota`]: their quotas.
//! - [`job`]: synchronization jobs, and their scripts.
//! - [`stage_name`]: names and digests of stages.
//! - [`limit`]: limits of numbers, for checks and schemas. [`schema`]: JSON Schemas. [`secret`]: secrets, and their masked
//!   form.
//!
//! `docs/settings.md` is generated from these structs and their doc comments, by `tests/settings_reference.rs`.

pub mod column_mapping;
mod column_names;
pub mod data_source;
pub mod dead_letter;
pub mod destination;
pub mod endpoint;
pub mod error;
pub mod function;
pub mod hec;
pub mod job;
pub mod key;
pub mod limit;
pub mod log_hub;
pub mod maxcompute;
pub mod maxcompute_rule;
pub mod object_store;
pub mod policy;
pub mod quota;
pub mod receiver;
pub mod rule;
pub mod rule_file;
pub mod rule_secrets;
pub mod schema;
pub mod scope;
pub mod secret;
pub mod service;
pub mod shipper_config;
pub mod shipping;
pub mod siem_rule;
pub mod stage_name;
pub mod syslog;
pub mod table_store;
pub mod table_store_rule;

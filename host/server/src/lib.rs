//! The Logstore service: the API of Log Service with its own store.
//!
//! # Layout
//! A request passes these modules in order:
//! - [`server`]: connections, shutdown; `tls`: certificates. The crate `listener` limits connections.
//! - `dispatch`: answers requests; `call`, `credentials`: authenticate them; `body`: receives them; [`keys`]: access keys.
//! - [`operation`]: the operations of the API as data: requests, names, permissions. `authorization`: decides by them.
//! - Handlers, a module per noun: `manage` (projects, logstores, shards), `deletion` (deletes and restores them), `put`, `put_id` and `ingest` (write logs), `pull` (cursors,
//!   read logs), `groups` (consumer groups), `shippers` (rules), `sources` (data sources), `jobs` (and their runs), `dead_letters` (of rows), `tasks`, `stages`, `previews` (of a stage), `store` (its
//!   generations and backups), `monitor` (health, metrics).
//! - `reply`: responses.
//!
//! They share:
//! - `service`: the state of the service. [`Service::open`] is where it begins.
//! - `fair_budget`: the memory of bodies and replies, by key and project; `memory_budget`: the memory of decompressed bodies.
//! - `quotas`: what a key may put and pull; `consumer_stats`: statistics of the members of consumer groups.
//! - `audit`: the records of the audit log; `refusals`: limits those of failed attempts; `key_audit`:
//!   records changes of keys, which `key_changes` announces.
//! - [`backup`]: backups of the data directory, and their restore; `backup_state`: the last one.
//! - `rule_checker`: checks rules before the stage catalog changes.
//! - `metrics`: metrics for Prometheus; [`metrics_endpoint`]: serves them for programs without a service.
//!
//! # A new operation
//! Add a line to `operations!` in [`operation`], an arm to `dispatch::perform`, and a handler. Then
//! `BLESS=1 cargo test -p logship-server operation` renews the table in `docs/service.md`.

mod audit;
mod authorization;
pub mod backup;
mod backup_state;
mod body;
mod call;
mod consumer_stats;
mod credentials;
mod dead_letters;
mod deletion;
mod dispatch;
mod fair_budget;
mod groups;
mod ingest;
mod jobs;
mod key_audit;
mod key_changes;
pub mod keys;
mod manage;
mod memory_budget;
mod metrics;
pub mod metrics_endpoint;
mod monitor;
pub mod operation;
mod previews;
mod pull;
mod put;
mod put_id;
mod quotas;
mod refusals;
mod reply;
mod rule_checker;
pub mod server;
mod service;
mod shippers;
mod sources;
mod stages;
mod store;
mod tasks;
mod tls;

pub use call::MAX_COMPONENT_BYTES;
pub use keys::ALL_PROJECTS;
use service::blocking;
pub use service::{Service, ServiceError};

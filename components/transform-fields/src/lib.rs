//! The stage `transform-fields`: filters logs, redacts and reshapes their fields.
//!
//! ```toml
//! [[transform]]
//! type = "fields"
//! unless = { user_agent = { matches = '^kube-probe/' } }
//! parse = { message = "json" }
//! rename = { msg = "text" }
//! set = { env = "prod", host = { from = "__tag__:__hostname__" } }
//! mask = { "*" = '\b\d{13,16}\b', client_ip = { matches = '\d+$', with = "0" } }
//! hash = ["user", "__source__"]
//! hash_key = "…"
//! drop = ["cookie"]
//! ```
//! The settings apply in this order, which is the order of [`Config`]. Each setting sees the result of those before
//! it. For another order, chain several transforms.
//!
//! Settings name values by the key of a field, `__topic__`, `__source__` or `__tag__:KEY`. Values may be any bytes:
//! patterns skip bytes that are not UTF-8. If a log repeats a key, conditions test the last value; other settings apply
//! to all values.
//!
//! - [`config`](Config): the settings.
//! - `filter`: decides which logs to keep. `pattern`: compiles patterns, also for `redact`.
//! - `parse`: parses values into fields.
//! - `redact`: masks and hashes values.
//! - `reshape`: renames, sets, redacts and drops fields. `group`: does the same for topic, source and tags.
//! - `shape`: settings with a short form.
//! - [`transformer`](FieldsTransformer): applies all settings.

mod config;
mod filter;
mod group;
mod parse;
mod pattern;
mod redact;
mod reshape;
mod shape;
mod transformer;

pub use config::{Condition, Conditions, Config, Format, Mask, Parse, Value};
pub use shape::{Either, Short};
pub use transformer::FieldsTransformer;

logship_stage::export_transformer!(FieldsTransformer);

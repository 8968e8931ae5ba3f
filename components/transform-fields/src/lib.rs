//! The stage `transform-fields`: logs filtered, their fields redacted and reshaped, by a configuration.
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
//! It is done in this order, which is that of the members of [`Config`]: what stands further down sees what the
//! members above it made. For another order, transforms are chained.
//!
//! A value is the one of the key of a field, `__topic__`, `__source__` or `__tag__:KEY`. Values may be any bytes: patterns
//! pass over what is not UTF-8. A key that a log has twice is filtered by its last value; all else is done to both.
//!
//! - [`config`](Config): the members.
//! - `filter`: which logs stay. `pattern`: patterns, for it and for `redact`.
//! - `parse`: fields in the value of a field.
//! - `redact`: values that nobody is to see.
//! - `reshape`: fields renamed, set, redacted and left out; `group`: the same of topic, source and tags.
//! - `shape`: members of the configuration that have a short form.
//! - [`transformer`](FieldsTransformer): all of it.

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

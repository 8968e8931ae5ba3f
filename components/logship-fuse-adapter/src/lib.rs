//! Shared code of the fuse adapters that put a transformer before another stage in a fused component.
//!
//! The configuration of such a component is the stage's configuration with one additional key, `transform`: a list of
//! the configurations of the transformers, in the order in which logs pass them. An adapter has one transformer, and
//! the stage after it may be an adapter again. So each adapter takes the first entry of the list and passes on the
//! other entries.
//!
//! - `config`: splits the configuration; maps the paths of errors.
//! - `schema`: merges the JSON Schemas.
//! - `reserved`: renames fields that would pass for a property of the log.
//! - `origin`: maps output logs and messages to input logs.

mod config;
mod origin;
mod reserved;
mod schema;

pub use config::{Configs, Problem, stage_path, transformer_path};
pub use origin::{first_filtered_or_split, input_logs};
pub use reserved::rename_reserved_fields;
pub use schema::fused_schema;

/// The configuration key of the transformers' configurations.
pub const TRANSFORM: &str = "transform";

/// Returns the name of the fused stage: the transformer's name and the stage's name, cut at 63 bytes.
pub fn fused_name(transformer: &str, stage: &str) -> String {
    let mut name = format!("{transformer}-{stage}");
    name.truncate(63);
    name
}

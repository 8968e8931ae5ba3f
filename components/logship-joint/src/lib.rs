//! What the joints share that put a transformer before another stage, in a component fused of both.
//!
//! The configuration of such a component is that of the stage, with one member more: `transform`, a list of the
//! configurations of the transformers before it, in the order in which they see a log. A joint has one transformer, and
//! what stands behind it may be a joint again: so each takes the first of the list, and passes on the rest.
//!
//! - `config`: the two configurations; where in them something is wrong.
//! - `schema`: the JSON Schema of both.
//! - `origin`: which log of a batch something is from that comes out of the stage.

mod config;
mod origin;
mod schema;

pub use config::{Configs, Problem, of_stage, of_transformer};
pub use origin::{first_that_is_not_one, origins};
pub use schema::joined;

/// The member with the transformers' configurations.
pub const TRANSFORM: &str = "transform";

/// The name of the whole: that of the transformer and that of the stage, as far as names go.
pub fn name(transformer: &str, stage: &str) -> String {
    let mut name = format!("{transformer}-{stage}");
    name.truncate(63);
    name
}

//! A renderer that returns the key of its configuration for every object.

use logship_stage::object_path::{Description, Request};
use logship_stage::{JsonSchema, Renderer, Result, config};

/// The renderer.
pub struct Constant;

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// The key.
    key: String,
}

impl Renderer for Constant {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn render(text: &str, _: &Request) -> Result<String> {
        Ok(config::parse::<Config>(text)?.key)
    }
}

logship_stage::export_renderer!(Constant);

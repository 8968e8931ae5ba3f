//! A stage of a rule: its name and settings.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The name of the compression that leaves bytes as they are.
pub const NONE: &str = "none";

/// A format, compression or transform: a name alone, or a table with settings (`{ type = "csv", columns = […] }`).
#[derive(Debug, Clone, PartialEq)]
pub struct StageSpec {
    /// The name of the stage, such as `json`.
    pub name: String,
    /// The configuration of the stage.
    pub settings: Map<String, Value>,
}

impl StageSpec {
    /// Creates a spec without settings.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), settings: Map::new() }
    }
}

impl Serialize for StageSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.settings.is_empty() {
            return self.name.serialize(serializer);
        }
        let mut table = Map::from_iter([("type".to_owned(), Value::from(self.name.clone()))]);
        table.extend(self.settings.clone());
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StageSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a name, or a table with `type`")]
        enum Shape {
            Name(String),
            Table {
                #[serde(rename = "type")]
                name: String,
                #[serde(flatten)]
                settings: Map<String, Value>,
            },
        }
        Ok(match Shape::deserialize(deserializer)? {
            Shape::Name(name) => Self::named(name),
            Shape::Table { name, settings } => Self { name, settings },
        })
    }
}

//! JSON Schemas: for editors, for the reference pages, and to find secrets.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Returns the JSON Schema of a type. Draft 7 is the one that most editors support.
pub fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<T>()
}

/// The schema of a type of another crate, to keep that crate free of schemas.
macro_rules! foreign_schema {
    ($(#[doc = $doc:literal])+ $schema:ident, $name:literal, $content:tt) => {
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub(crate) struct $schema;

        impl JsonSchema for $schema {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($content)
            }
        }
    };
}

foreign_schema!(
    /// The schema of [`StageSpec`](crate::rule::StageSpec).
    StageSpecSchema,
    "StageSpec",
    {
        "anyOf": [
            { "type": "string", "description": "The name of a stage." },
            {
                "type": "object",
                "description": "A stage with its settings.",
                "properties": { "type": { "type": "string", "description": "The name of the stage." } },
                "required": ["type"]
            }
        ]
    }
);

foreign_schema!(
    /// The schema of [`TimeZone`](crate::rule::TimeZone).
    TimeZoneSchema,
    "TimeZone",
    { "type": "string", "examples": ["Asia/Shanghai", "+08:00"] }
);

foreign_schema!(
    /// The schema of [`PartitionBy`](crate::rule::PartitionBy).
    PartitionBySchema,
    "PartitionBy",
    {
        "oneOf": [
            { "const": "created", "type": "string", "description": "The creation time of the task." },
            { "const": "hour", "type": "string", "description": "The hour of each log's own time." },
            { "const": "day", "type": "string", "description": "The day of each log's own time." }
        ]
    }
);

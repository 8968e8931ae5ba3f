//! The sections of the page: each is a table of the file, with its struct and an example.

use std::fmt;

use logship_config::dead_letter::DeadLetterConfig;
use logship_config::destination::DestinationConfig;
use logship_config::function::FunctionConfig;
use logship_config::hec::HecConfig;
use logship_config::key::{Grant, Key};
use logship_config::log_hub::LogHubConfig;
use logship_config::maxcompute::MaxComputeConfig;
use logship_config::maxcompute_rule::MaxComputeRule;
use logship_config::object_store::ObjectStoreConfig;
use logship_config::rule::Rule;
use logship_config::schema;
use logship_config::service::{self, Config, Limits, Tls};
use logship_config::shipping::Shipping;
use logship_config::siem_rule::SiemRule;
use logship_config::syslog::SyslogConfig;
use logship_config::table_store::TableStoreConfig;
use logship_config::table_store_rule::TableStoreRule;
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::Value;

/// A table of a file.
pub(crate) struct Section {
    /// The heading: the table's name.
    pub(crate) heading: &'static str,
    /// The JSON Schema of the table.
    pub(crate) schema: Value,
    /// The names of the settings, in the struct's order.
    pub(crate) order: Vec<&'static str>,
    /// An example in TOML.
    pub(crate) example: &'static str,
}

fn section<'de, T: JsonSchema + Deserialize<'de>>(heading: &'static str, example: &'static str) -> Section {
    let mut order: &[&str] = &[];
    // Fails, because there is no content.
    let _ = T::deserialize(FieldNames(&mut order));
    Section { heading, schema: schema::of::<T>().to_value(), order: order.to_vec(), example }
}

/// Returns the section of a directory, which has no struct of its own.
fn directory() -> Section {
    let mut schema = schema::of::<DestinationConfig>().to_value();
    let variants = schema["oneOf"].as_array().unwrap();
    let directory = variants.iter().find(|variant| variant["properties"]["type"]["const"] == "directory");
    schema = directory.unwrap().clone();
    schema["properties"].as_object_mut().unwrap().remove("type");
    Section {
        heading: "`[destinations.NAME]`, type `directory`",
        schema,
        order: vec!["path"],
        example: include_str!("examples/directory.toml"),
    }
}

/// Returns the tables of the settings file.
pub(crate) fn settings() -> Vec<Section> {
    vec![
        section::<Config>("Top level", include_str!("examples/settings.toml")),
        section::<Tls>("`[tls]`", include_str!("examples/tls.toml")),
        section::<Limits>("`[limits]`", include_str!("examples/limits.toml")),
        section::<Shipping>("`[shipping]`", include_str!("examples/shipping.toml")),
        section::<service::Retention>("`[retention]`", include_str!("examples/retention.toml")),
        section::<service::Stages>("`[stages]`", include_str!("examples/stages.toml")),
        directory(),
        section::<ObjectStoreConfig>(
            "`[destinations.NAME]`, type `s3` or `oss`",
            include_str!("examples/object-store.toml"),
        ),
        section::<FunctionConfig>(
            "`[destinations.NAME]`, type `function`",
            include_str!("examples/function.toml"),
        ),
        section::<HecConfig>("`[receivers.NAME]`, type `hec`", include_str!("examples/hec.toml")),
        section::<SyslogConfig>("`[receivers.NAME]`, type `syslog`", include_str!("examples/syslog.toml")),
        section::<LogHubConfig>("`[sources.NAME]`, type `loghub`", include_str!("examples/log-hub.toml")),
        section::<MaxComputeConfig>(
            "`[sources.NAME]`, type `odps`",
            include_str!("examples/maxcompute.toml"),
        ),
        section::<TableStoreConfig>(
            "`[sources.NAME]`, type `ots`",
            include_str!("examples/table-store.toml"),
        ),
        section::<DeadLetterConfig>("`[dead-letters]`", include_str!("examples/dead-letters.toml")),
    ]
}

/// Returns the tables of the file of rules.
pub(crate) fn rules() -> Vec<Section> {
    vec![
        section::<Rule>("`[[rule]]`: a rule that ships objects", include_str!("examples/rule.toml")),
        section::<logship_config::rule::Stages>("`[rule.stages]`", include_str!("examples/rule-stages.toml")),
        section::<SiemRule>("`[[siem]]`: a rule that sends events", include_str!("examples/siem.toml")),
        section::<TableStoreRule>("`[[ots]]`: a rule that writes rows", include_str!("examples/ots.toml")),
        section::<MaxComputeRule>(
            "`[[odps]]`: a rule that writes rows to MaxCompute",
            include_str!("examples/odps.toml"),
        ),
    ]
}

/// Returns the tables of the key file.
pub(crate) fn keys() -> Vec<Section> {
    vec![
        section::<Key>("`[[key]]`", include_str!("examples/key.toml")),
        section::<Grant>("`[[key.grant]]`", include_str!("examples/grant.toml")),
    ]
}

/// A deserializer without content, which learns a struct's field names. Objects of JSON Schemas lose their order.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = NoContent;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoContent> {
        Err(NoContent)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoContent> {
        *self.0 = fields;
        Err(NoContent)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[derive(Debug)]
struct NoContent;

impl fmt::Display for NoContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no content")
    }
}

impl std::error::Error for NoContent {}

impl serde::de::Error for NoContent {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

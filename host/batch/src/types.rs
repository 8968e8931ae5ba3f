//! The record types of a batch. `wit/deps/batch` documents the fields and their invariants.
#![allow(missing_docs)]

#[cfg(feature = "wasmtime")]
use wasmtime::component::{ComponentType, Lift, Lower};

/// One tag of a log group.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "wasmtime", derive(ComponentType, Lift, Lower), component(record))]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// The topic, source and tags that the logs of a group share.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "wasmtime", derive(ComponentType, Lift, Lower), component(record))]
pub struct LogGroup {
    pub topic: String,
    pub source: String,
    pub tags: Vec<Tag>,
}

/// Logs as flat columns, with dictionaries for groups and keys.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "wasmtime", derive(ComponentType, Lift, Lower), component(record))]
pub struct LogBatch {
    pub groups: Vec<LogGroup>,
    pub keys: Vec<String>,
    pub times: Vec<u32>,
    pub nanos: Vec<u32>,
    #[cfg_attr(feature = "wasmtime", component(name = "log-groups"))]
    pub log_groups: Vec<u32>,
    #[cfg_attr(feature = "wasmtime", component(name = "field-ends"))]
    pub field_ends: Vec<u32>,
    #[cfg_attr(feature = "wasmtime", component(name = "field-keys"))]
    pub field_keys: Vec<u32>,
    #[cfg_attr(feature = "wasmtime", component(name = "value-ends"))]
    pub value_ends: Vec<u32>,
    pub values: Vec<u8>,
}

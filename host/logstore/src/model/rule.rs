//! Shipping rules and their progress.

use serde_json::Value;

use crate::position::LogPosition;

/// A rule of a logstore. The store keeps its configuration without interpreting it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShippingRule {
    pub(crate) id: i64,
    /// The name.
    pub name: String,
    /// The type of the destination, such as `oss`.
    pub target: String,
    /// The configuration, exactly as the client set it.
    pub configuration: Value,
    /// The creation time, in Unix seconds.
    pub created: u64,
    /// The time of the last change, in Unix seconds.
    pub modified: u64,
}

impl ShippingRule {
    /// Returns the number of the rule. Numbers are never reused.
    pub fn number(&self) -> i64 {
        self.id
    }
}

/// The settings of a rule.
#[derive(Debug, Clone)]
pub struct RuleSettings {
    /// The type of the destination, such as `oss`.
    pub target: String,
    /// The configuration, except for the target.
    pub configuration: Value,
}

/// The start position of a new rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuleStart {
    /// The oldest stored logs.
    #[default]
    Begin,
    /// The end of each shard at the creation of the rule.
    Now,
}

/// The progress of a rule in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The start of the next task: all logs before it belong to tasks.
    pub next: LogPosition,
    /// The checkpoint: all logs before it are at the destination.
    pub checkpoint: LogPosition,
}

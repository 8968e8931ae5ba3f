//! Rows of tables of Table Store.
//!
//! A task's range and plan are on disk before its first row is written. Its rows follow from them, and each row has a key
//! of its own: the position of its log. So a retry writes the same rows, and each log is one row, no matter how often a
//! request was repeated. Rules with keys of their own write in order, and the last of several rows with the same key stays.
//!
//! - `rule`: these rules, as a kind of work of the engine. `plan`: their plans. `encoding`: the columns of a rule.
//! - `write`: writes the rows of a task. `table`: checks the table, or creates it. `error`: errors as the engine records
//!   them. `preview`: rows of past tasks, made with another stage. `rule_table`: the table, for dirty rows.

mod encoding;
mod error;
mod plan;
mod preview;
mod rule;
pub(crate) mod rule_table;
mod table;
pub(crate) mod write;

pub use rule::TableStoreRules;

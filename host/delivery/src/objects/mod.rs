//! Objects in the making.
//!
//! - [`object`]: one object. [`open_objects`]: several, one for each partition by log time. [`task_objects`]: all of a task.

pub mod object;
pub mod open_objects;
pub mod task_objects;

//! Rows of tables.
//!
//! # Layout
//! - [`sources`]: the data sources that rules and jobs name.

pub mod sources;

pub use sources::{ServiceSources, Sources};

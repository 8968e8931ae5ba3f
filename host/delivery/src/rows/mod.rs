//! Rows of tables.
//!
//! # Layout
//! - [`sources`]: the data sources that rules and jobs name. [`source_check`]: connects to them.

pub mod source_check;
pub mod sources;

pub use sources::{ServiceSources, Sources};

//! A local directory as an object store: keys are paths below it.
//!
//! It does not use OpenDAL, unlike the other stores: OpenDAL's writer overwrites existing files and does not
//! sync the directory entry to disk.

mod client;
mod config;
mod error;
mod sink;

pub(crate) use self::config::open;
pub use self::sink::Directory;

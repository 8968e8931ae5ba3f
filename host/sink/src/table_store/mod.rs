//! Table Store: rows of a table of an instance.
//!
//! Besides the four files of each sink: `protobuf` reads and writes messages, `message` has those of Table Store,
//! `signature` signs requests and checks answers, [`table`] has the schemas of tables, `batch` cuts rows into requests.

mod batch;
mod client;
mod config;
mod error;
mod message;
mod protobuf;
mod signature;
mod sink;
pub mod table;

pub use self::batch::{RejectedRow, Rows, Write};
pub use self::error::{Class, TableStoreError};
pub use self::sink::{Stop, TableStore};

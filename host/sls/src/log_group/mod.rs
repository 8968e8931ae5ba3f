//! Log groups in protobuf: the body of a put, and the content of a pull's reply.
//!
//! Parsing is zero-copy: [`LogGroupView`] validates a group once and then returns slices of it.
//!
//! # Accepted input
//! - Strings are bytes. The schema declares all strings but values as UTF-8, but senders violate it, and a pull must
//!   return the bytes of the put. Use [`String::from_utf8_lossy`] where text is needed.
//! - Unknown fields are skipped. Protobuf groups (wire types 3 and 4) are rejected.
//! - The last value of a non-repeated field wins, as in every protobuf parser.
//! - A known field with a wrong wire type is rejected. Other parsers treat it as unknown, but then a sender with
//!   another schema would silently lose data.

mod builder;
mod list;
mod malformed;
mod package;
mod reader;
mod view;

pub use builder::{Header, LogBuilder, LogGroupBuilder};
pub use list::{FrameHeader, Groups, frame_header, groups};
pub use malformed::{Malformed, Reason};
pub use package::{Package, Packages, packages};
pub use view::{Fields, LogGroupView, LogView, Logs, Visitor};

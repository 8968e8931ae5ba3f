//! Groups of logs in protobuf: what a put carries, and what a pull gives back.
//!
//! A group is read where it lies: [`LogGroupView`] checks all of it once and then hands out slices.
//!
//! # What is accepted
//! - Strings are bytes. The schema calls all but values UTF-8, but senders don't keep to it, and a put that was
//!   accepted must come back as it was; whoever needs text takes [`String::from_utf8_lossy`].
//! - Fields that aren't known are passed over, groups (wire types 3 and 4) refused.
//! - Of a field that may be there once the last counts, as in every protobuf reader.
//! - A known field with another wire type is refused, where other readers take it for unknown: its sender has
//!   another schema in mind, and its logs would silently lose a part.

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

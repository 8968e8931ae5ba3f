//! The trait of all sinks.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::error::SinkError;

/// A place where bytes go. [`ObjectSink`](crate::object::ObjectSink) and [`EventSink`](crate::event::EventSink) add the
/// content.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Returns the kind, as `type` in the settings names it.
    fn kind(&self) -> &'static str;

    /// Returns the name for logs and metrics: of a bucket, a path, or a receiver in the settings.
    fn name(&self) -> &str;

    /// Checks that the sink accepts data, and leaves nothing there. A sink of objects checks keys below `prefix`; a sink
    /// of events ignores it. Must run in a Tokio runtime.
    ///
    /// # Errors
    /// The reason why the sink accepts no data.
    fn probe<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), SinkError>>;
}

//! The store of a function whose settings don't name it.

use futures_util::future::BoxFuture;

use crate::error::SinkError;
use crate::object::{ObjectInfo, ObjectSink, Provenance};
use crate::sink::Sink;
use crate::staged_file::{FinishedFile, StagedFile};

/// The store of a function that delivers its objects itself, if the settings don't name that store. Each operation
/// fails with [`SinkError::UnknownStore`].
#[derive(Debug)]
pub struct UnknownStore {
    /// The function, for error messages.
    pub function: String,
}

impl UnknownStore {
    fn fail<T>(&self) -> Result<T, SinkError> {
        Err(SinkError::UnknownStore(self.function.clone()))
    }
}

impl Sink for UnknownStore {
    fn kind(&self) -> &'static str {
        "function"
    }

    fn name(&self) -> &str {
        &self.function
    }

    fn probe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { self.fail() })
    }
}

impl ObjectSink for UnknownStore {
    fn begin(&self, _: &str, _: usize) -> Result<StagedFile, SinkError> {
        self.fail()
    }

    fn publish(&self, _: FinishedFile, _: &str, _: &str, _: &Provenance) -> Result<(), SinkError> {
        self.fail()
    }

    fn find(&self, _: &str) -> Result<Option<ObjectInfo>, SinkError> {
        self.fail()
    }

    fn list(&self, _: &str) -> Result<Vec<String>, SinkError> {
        self.fail()
    }

    fn read(&self, _: &str) -> Result<Vec<u8>, SinkError> {
        self.fail()
    }

    fn delete(&self, _: &str) -> Result<(), SinkError> {
        self.fail()
    }
}

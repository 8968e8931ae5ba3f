//! The tables that runs write to.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use logship_config::data_source::Connection;
use logship_config::maxcompute::Protocol;
use logship_sink::maxcompute::{
    self, Class, CommitOutcome, MaxCompute, TableRef, TableSchema, UploadSession,
};

use super::error::RunError;
use crate::rows::Sources;

/// The result of a request.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, RunError>>;

/// A project of tables.
pub trait Tables: Debug + Send + Sync {
    /// The format of the blocks.
    fn protocol(&self) -> Protocol;

    /// Returns the schema of a table.
    fn schema<'a>(&'a self, table: &'a str) -> Answer<'a, TableSchema>;

    /// Opens an upload session.
    fn create_session<'a>(&'a self, table: &'a TableRef) -> Answer<'a, UploadSession>;

    /// Returns an upload session, or `None` if the server does not know it any more.
    fn session<'a>(&'a self, table: &'a TableRef, id: &'a str) -> Answer<'a, Option<UploadSession>>;

    /// Uploads a block, or replaces it.
    fn put_block<'a>(&'a self, table: &'a TableRef, id: &'a str, block: u32, body: Bytes) -> Answer<'a, ()>;

    /// Commits a session that has exactly these blocks.
    fn commit<'a>(&'a self, table: &'a TableRef, id: &'a str, blocks: &'a [u32])
    -> Answer<'a, CommitOutcome>;

    /// Runs an SQL statement.
    fn run_sql<'a>(&'a self, statement: &'a str) -> Answer<'a, String>;
}

/// Opens the data sources of tables.
pub trait Destinations: Debug + Send + Sync {
    /// Opens a data source. Does not connect.
    ///
    /// # Errors
    /// If the data source does not exist, or has no tables.
    fn open(&self, project: &str, name: &str) -> Result<Arc<dyn Tables>, RunError>;
}

/// The data sources of a service.
#[derive(Debug)]
pub struct SourceTables(pub Arc<dyn Sources>);

impl Destinations for SourceTables {
    fn open(&self, project: &str, name: &str) -> Result<Arc<dyn Tables>, RunError> {
        let wrong = |problem: String| RunError::Source { name: name.into(), problem };
        let source = self.0.get(project, name).map_err(|error| wrong(error.to_string()))?;
        let Connection::MaxCompute(config) = source.connection else {
            let kind = source.connection.kind();
            return Err(wrong(format!("has the type {kind}, but a job writes to one of the type odps")));
        };
        let tables = maxcompute::open(&config).map_err(|error| wrong(error.to_string()))?;
        Ok(opened(tables, config.protocol.unwrap_or_default()))
    }
}

/// Returns an open project as tables, whose blocks have a format.
pub(crate) fn opened(tables: MaxCompute, protocol: Protocol) -> Arc<dyn Tables> {
    Arc::new(Opened { tables, protocol })
}

#[derive(Debug)]
struct Opened {
    tables: MaxCompute,
    protocol: Protocol,
}

impl Tables for Opened {
    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn schema<'a>(&'a self, table: &'a str) -> Answer<'a, TableSchema> {
        Box::pin(async move { Ok(self.tables.table(table).await?) })
    }

    fn create_session<'a>(&'a self, table: &'a TableRef) -> Answer<'a, UploadSession> {
        Box::pin(async move { Ok(self.tables.create_session(table).await?) })
    }

    fn session<'a>(&'a self, table: &'a TableRef, id: &'a str) -> Answer<'a, Option<UploadSession>> {
        Box::pin(async move {
            match self.tables.session(table, id).await {
                Ok(session) => Ok(Some(session)),
                Err(error) if error.is_not_found() || error.class() == Class::SessionDone => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn put_block<'a>(&'a self, table: &'a TableRef, id: &'a str, block: u32, body: Bytes) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.tables.put_block(table, id, block, self.protocol, body).await?) })
    }

    fn commit<'a>(
        &'a self,
        table: &'a TableRef,
        id: &'a str,
        blocks: &'a [u32],
    ) -> Answer<'a, CommitOutcome> {
        Box::pin(async move { Ok(self.tables.commit(table, id, blocks).await?) })
    }

    fn run_sql<'a>(&'a self, statement: &'a str) -> Answer<'a, String> {
        Box::pin(async move { Ok(self.tables.run_sql(statement).await?) })
    }
}

//! The sink of a project.

use std::fmt;

use futures_util::future::BoxFuture;
use reqwest::Method;

use super::client::{Client, Server};
use super::error::{Class, MaxComputeError};
use super::table::TableSchema;
use crate::error::SinkError;
use crate::sink::Sink;
use crate::xml;

/// A MaxCompute project. See [`session`](super::session) and [`sql`](super::sql) for what it does.
pub struct MaxCompute {
    pub(super) client: Client,
}

impl fmt::Debug for MaxCompute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MaxCompute").field("project", &self.client.project).finish_non_exhaustive()
    }
}

impl MaxCompute {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads the schema of a table.
    ///
    /// # Errors
    /// The server's answer: the table does not exist, or the key can't see it.
    pub async fn table(&self, table: &str) -> Result<TableSchema, MaxComputeError> {
        let step = format!("read the schema of table {table}");
        let path = self.client.table_path(table);
        let call = self.client.request(step, Server::Service, Method::GET, path);
        let answer = self.client.call(&call).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let schema = xml::text(&text, "Schema").unwrap_or_default();
        serde_json::from_str(&schema).map_err(|error| {
            let problem = format!("the answer has no readable schema: {error}");
            MaxComputeError::new(&call.step, Class::Retry, problem)
        })
    }

    /// Checks that the project exists, that the key sees it, and that its Tunnel server is known.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn check_project(&self) -> Result<(), MaxComputeError> {
        let step = format!("read project {}", self.client.project);
        let path = self.client.project_path("");
        let call = self.client.request(step, Server::Service, Method::GET, path);
        self.client.once(&call, None).await?;
        self.client.tunnel().await.map(drop)
    }
}

impl Sink for MaxCompute {
    fn kind(&self) -> &'static str {
        "maxcompute"
    }

    fn name(&self) -> &str {
        &self.client.project
    }

    fn probe<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { Ok(self.check_project().await?) })
    }
}

//! Upload sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use logship_config::maxcompute::Protocol;
use reqwest::Method;
use serde::Deserialize;

use super::block;
use super::client::{Call, Server};
use super::error::{Class, MaxComputeError};
use super::retry::Retries;
use super::sink::MaxCompute;
use super::table::{TableColumn, TableRef, TableSchema};

/// Number of blocks in a session.
pub const MAX_BLOCKS: u32 = 20_000;

/// Delay between two reads of a session that is being committed.
const CLOSING_POLL: Duration = Duration::from_secs(1);

/// An upload session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSession {
    /// The ID.
    pub id: String,
    /// The schema that blocks are checked against.
    pub schema: TableSchema,
    /// The status.
    pub status: SessionStatus,
    /// The uploaded blocks.
    pub blocks: BTreeSet<u32>,
}

impl UploadSession {
    /// Returns the columns that rows have, in order.
    pub fn columns(&self) -> &[TableColumn] {
        &self.schema.columns
    }
}

/// The status of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStatus {
    /// Takes blocks.
    Normal,
    /// Is being committed.
    Closing,
    /// Is committed.
    Closed,
    /// Is canceled or failed.
    Canceled,
    /// Was not committed within a day.
    Expired,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The rows are visible.
    Committed,
    /// The session is gone. If a commit was sent before, its rows may be visible or not.
    Unknown {
        /// The reason.
        why: String,
        /// True if this call sent a commit.
        was_sent: bool,
    },
}

/// The answer of Tunnel about a session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Answer {
    #[serde(rename = "UploadID")]
    upload_id: String,
    status: String,
    uploaded_block_list: Vec<Block>,
    schema: TableSchema,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "BlockID")]
    id: u32,
}

impl Answer {
    fn status(&self, step: &str) -> Result<SessionStatus, MaxComputeError> {
        Ok(match self.status.to_ascii_lowercase().as_str() {
            "normal" => SessionStatus::Normal,
            "closing" => SessionStatus::Closing,
            "closed" => SessionStatus::Closed,
            "canceled" | "critical" => SessionStatus::Canceled,
            "expired" => SessionStatus::Expired,
            other => {
                let problem = format!("the session has the unknown status {other:?}");
                return Err(MaxComputeError::lost(step, problem));
            }
        })
    }
}

impl MaxCompute {
    /// Opens an upload session.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn create_session(&self, table: &TableRef) -> Result<UploadSession, MaxComputeError> {
        let step = format!("open an upload session of {}", table.place());
        let mut call = self.table_call(step, Method::POST, table);
        call.query.push(("uploads", String::new()));
        if table.overwrite {
            call.query.push(("overwrite", "true".into()));
        }
        if table.create_partition && table.partition.is_some() {
            call.query.push(("create_partition", "true".into()));
        }
        call.query.extend(self.client.quota.clone().map(|quota| ("quotaName", quota)));
        self.call_for_session(&call, None).await
    }

    /// Reads an upload session.
    ///
    /// # Errors
    /// The server's answer. It does not know a session some time after its end.
    pub async fn session(&self, table: &TableRef, id: &str) -> Result<UploadSession, MaxComputeError> {
        self.call_for_session(&self.session_call(table, id), Some(id)).await
    }

    /// Uploads a block of rows. A block that exists is replaced.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn put_block(
        &self,
        table: &TableRef,
        id: &str,
        block: u32,
        format: Protocol,
        body: Bytes,
    ) -> Result<(), MaxComputeError> {
        let step = format!("upload block {block} to {}", table.place());
        if block >= MAX_BLOCKS {
            let problem = format!("a session has blocks 0-{}: use larger blocks", MAX_BLOCKS - 1);
            return Err(MaxComputeError::new(&step, Class::Rejected, problem));
        }
        let mut call = self.table_call(step, Method::PUT, table);
        call.query.push(("uploadid", id.to_owned()));
        call.query.push(("blockid", block.to_string()));
        if format == Protocol::Arrow {
            call.query.push(("arrow", String::new()));
        }
        call.headers.push(("content-type", "application/octet-stream".into()));
        call.read_before_retry = Some(Box::new(self.session_call(table, id)));
        call.body = match self.client.compression {
            None => body,
            Some(compression) => {
                call.headers.push(("content-encoding", block::encoding(compression).into()));
                let compressed =
                    tokio::task::spawn_blocking(move || block::compress(compression, &body)).await;
                let failed = |error: &dyn std::fmt::Display| {
                    MaxComputeError::lost(&call.step, format!("can't compress it: {error}"))
                };
                compressed.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?
            }
        };
        self.client.call(&call).await.map(drop)
    }

    /// Commits a session with exactly these blocks. Finds out whether a commit without an answer was done.
    ///
    /// # Errors
    /// The server's answer, or other blocks in the session: nothing is committed by this call then, unless the class of
    /// the error is [`Class::Retry`].
    pub async fn commit(
        &self,
        table: &TableRef,
        id: &str,
        blocks: &[u32],
    ) -> Result<CommitOutcome, MaxComputeError> {
        let step = format!("commit the upload session {id} of {}", table.place());
        let expected: BTreeSet<_> = blocks.iter().copied().collect();
        let (mut retries, mut was_sent) = (Retries::default(), false);
        loop {
            let session = match self.session(table, id).await {
                Ok(session) => session,
                Err(error) if error.is_not_found() || error.class() == Class::SessionDone => {
                    return Ok(CommitOutcome::Unknown { why: error.to_string(), was_sent });
                }
                // The commit may be done.
                Err(error) if was_sent => return Err(MaxComputeError::lost(&step, error)),
                Err(error) => return Err(error),
            };
            match session.status {
                SessionStatus::Closed => return Ok(CommitOutcome::Committed),
                SessionStatus::Canceled | SessionStatus::Expired => {
                    let why = format!("upload session {id} of {} is {:?}", table.place(), session.status);
                    return Ok(CommitOutcome::Unknown { why: why.to_lowercase(), was_sent });
                }
                SessionStatus::Closing => {
                    tokio::time::sleep(CLOSING_POLL).await;
                    continue;
                }
                SessionStatus::Normal => {}
            }
            if session.blocks != expected {
                return Err(other_blocks(&step, &expected, &session.blocks));
            }
            let mut call = self.table_call(step.clone(), Method::POST, table);
            call.query.push(("uploadid", id.to_owned()));
            was_sent = true;
            let error = match self.client.once(&call, None).await {
                Ok(answer) => match call.parse::<Answer>(&answer).and_then(|answer| answer.status(&step)) {
                    Ok(SessionStatus::Closed) => return Ok(CommitOutcome::Committed),
                    Ok(SessionStatus::Closing) => continue,
                    Ok(_) => MaxComputeError::lost(&step, "the session is not closed after its commit"),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(%error, "a commit has no clear answer: reading the session");
            let error = match error.class() {
                // It is closed, or will be soon.
                Class::SessionDone => MaxComputeError::lost(&step, error),
                _ => error,
            };
            let Some(delay) = retries.next(&error) else { return Err(error) };
            tokio::time::sleep(delay).await;
        }
    }

    /// Returns a request about a table on the Tunnel server.
    fn table_call(&self, step: String, method: Method, table: &TableRef) -> Call {
        let path = self.client.table_path(&table.table);
        let mut call = self.client.request(step, Server::Tunnel, method, path);
        call.query.extend(table.partition.clone().map(|partition| ("partition", partition)));
        call
    }

    fn session_call(&self, table: &TableRef, id: &str) -> Call {
        let step = format!("read the upload session {id} of {}", table.place());
        let mut call = self.table_call(step, Method::GET, table);
        call.query.push(("uploadid", id.to_owned()));
        call
    }

    /// Sends a request whose answer is a session. `id` is its ID if it exists.
    async fn call_for_session(
        &self,
        call: &Call,
        id: Option<&str>,
    ) -> Result<UploadSession, MaxComputeError> {
        let answer = self.client.call(call).await?;
        let answer: Answer = call.parse(&answer)?;
        let status = answer.status(&call.step)?;
        let id = match (answer.upload_id, id) {
            (answered, None) if answered.is_empty() => {
                return Err(MaxComputeError::lost(&call.step, "the answer has no UploadID"));
            }
            (answered, None) => answered,
            (_, Some(id)) => id.to_owned(),
        };
        let blocks = answer.uploaded_block_list.into_iter().map(|block| block.id).collect();
        Ok(UploadSession { id, schema: answer.schema, status, blocks })
    }
}

fn other_blocks(step: &str, expected: &BTreeSet<u32>, found: &BTreeSet<u32>) -> MaxComputeError {
    let some = |blocks: &mut dyn Iterator<Item = &u32>| {
        blocks.take(5).map(u32::to_string).collect::<Vec<_>>().join(", ")
    };
    let (missing, extra) = (some(&mut expected.difference(found)), some(&mut found.difference(expected)));
    let problem =
        format!("its blocks are not those that were uploaded (missing: {missing}; others: {extra})");
    MaxComputeError::new(step, Class::NewSession, problem)
}

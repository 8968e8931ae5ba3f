//! [`TableStore`] as a sink: writes rows until each is written or refused for good.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use logship_config::table_store::TableStoreConfig;

use super::batch::{RejectedRow, Rows, Write, cut};
use super::client::{Answer, Client};
use super::error::{Class, TableStoreError};
use super::message;
use super::table::TableSchema;
use crate::error::SinkError;
use crate::sink::Sink;

/// The most attempts without progress.
const MAX_ATTEMPTS: u32 = 20;

/// The delay before the first retry after a failure, and of a busy server. It doubles to the longest.
const UNCLEAR_DELAY: Duration = Duration::from_millis(200);
const BUSY_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(3);

/// Interval of checks for a stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// Consecutive rejected rows after which the rule or the table is taken to be wrong, not the rows.
const MAX_CONSECUTIVE_REJECTIONS: usize = 200;

/// An instance of Table Store.
pub struct TableStore {
    name: String,
    client: Client,
    /// Consecutive rejections of single rows.
    rejected: AtomicUsize,
    retries: AtomicU64,
}

/// Omits the key.
impl fmt::Debug for TableStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableStoreConfig { endpoint, instance, .. } = self.client.config();
        let mut shown = formatter.debug_struct("TableStore");
        shown.field("endpoint", endpoint).field("instance", instance).finish_non_exhaustive()
    }
}

/// Returns true when a call shall end early.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

impl TableStore {
    /// Opens an instance. `name` is for logs and metrics. Does not connect.
    ///
    /// # Errors
    /// [`SinkError::Settings`] if a setting is invalid.
    pub fn open(name: &str, config: &TableStoreConfig) -> Result<Self, SinkError> {
        super::config::open(name, config)
    }

    pub(super) fn new(name: &str, client: Client) -> Self {
        let (rejected, retries) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { name: name.into(), client, rejected, retries }
    }

    /// Returns the number of retries.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Returns the names of all tables.
    ///
    /// # Errors
    /// The answer of Table Store.
    pub async fn tables(&self) -> Result<Vec<String>, TableStoreError> {
        let answer = self.call("ListTable", Bytes::new(), &|| false).await?;
        message::table_names(&answer.body).map_err(|error| TableStoreError::new(Class::Unclear, error))
    }

    /// Describes a table.
    ///
    /// # Errors
    /// The answer of Table Store. [`Class::Missing`], if there is no such table.
    pub async fn table(&self, name: &str, stop: Stop<'_>) -> Result<TableSchema, TableStoreError> {
        let answer = self.call("DescribeTable", message::describe_table(name).into(), stop).await?;
        message::table_schema(&answer.body).map_err(|error| TableStoreError::new(Class::Unclear, error))
    }

    /// Creates a table, unless it exists.
    ///
    /// # Errors
    /// The answer of Table Store.
    pub async fn create_table(
        &self,
        name: &str,
        schema: &TableSchema,
        stop: Stop<'_>,
    ) -> Result<(), TableStoreError> {
        match self.call("CreateTable", message::create_table(name, schema).into(), stop).await {
            // Also after an attempt whose answer was lost.
            Err(error) if error.code == "OTSObjectAlreadyExist" => Ok(()),
            result => result.map(drop),
        }
    }

    /// Checks that the key may write to a table. Writes nothing: the request has no rows.
    ///
    /// # Errors
    /// The answer of Table Store.
    pub async fn check_write(&self, table: &str) -> Result<(), TableStoreError> {
        let body = message::batch_write_row(table, false, std::iter::empty());
        match self.call("BatchWriteRow", body.into(), &|| false).await {
            // A request without rows is refused after the permission is checked.
            Err(error) if error.class == Class::Row => Ok(()),
            result => result.map(drop),
        }
    }

    /// Writes rows, with retries, until each is written or refused for good. Returns those that are refused. After an
    /// error, some rows may be written: write all of them again.
    ///
    /// # Errors
    /// What a retry does not help with now.
    pub async fn write(
        &self,
        to: Write<'_>,
        rows: Rows<'_>,
        stop: Stop<'_>,
    ) -> Result<Vec<RejectedRow>, TableStoreError> {
        rows.check()?;
        let requests = cut(&rows, to.is_update).into_iter();
        let writes = requests.map(|request| async move {
            if stop() {
                return Err(stopped());
            }
            self.write_request(to, &rows, request, stop).await
        });
        let rejected: Vec<_> = stream::iter(writes).buffered(to.requests.max(1)).try_collect().await?;
        Ok(rejected.into_iter().flatten().collect())
    }

    /// Writes the rows of a request. If the service refuses the request for a row, the row is found by halving.
    async fn write_request(
        &self,
        to: Write<'_>,
        rows: &Rows<'_>,
        request: Vec<usize>,
        stop: Stop<'_>,
    ) -> Result<Vec<RejectedRow>, TableStoreError> {
        let (mut halves, mut rejected) = (vec![request], vec![]);
        while let Some(part) = halves.pop() {
            match self.write_part(to, rows, &part, stop).await {
                Ok(refused) => rejected.extend(refused),
                Err(error) if error.class == Class::Row && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    // The first half is next.
                    halves.extend([second.to_vec(), first.to_vec()]);
                }
                Err(error) if error.class == Class::Row => rejected.push(self.reject(part[0], error)?),
                Err(error) => return Err(error),
            }
        }
        Ok(rejected)
    }

    /// Writes rows, and those again that failed.
    async fn write_part(
        &self,
        to: Write<'_>,
        rows: &Rows<'_>,
        part: &[usize],
        stop: Stop<'_>,
    ) -> Result<Vec<RejectedRow>, TableStoreError> {
        let (mut rejected, mut left) = (vec![], part.to_vec());
        let mut retry = Retry::default();
        loop {
            let body =
                message::batch_write_row(to.table, to.is_update, left.iter().map(|row| rows.row(*row)));
            let answer = self.call("BatchWriteRow", body.into(), stop).await?;
            let Some((failed, error)) = self.failed_rows(&answer, &left, &mut rejected)? else {
                return Ok(rejected);
            };
            if failed.len() < left.len() {
                retry = Retry::default();
            }
            left = failed;
            self.wait(&mut retry, error, stop).await?;
        }
    }

    /// Reads the result of each row. Returns the rows to write again, with the error of one of them.
    fn failed_rows(
        &self,
        answer: &Answer,
        rows: &[usize],
        rejected: &mut Vec<RejectedRow>,
    ) -> Result<Option<(Vec<usize>, TableStoreError)>, TableStoreError> {
        let results = message::row_results(&answer.body).map_err(TableStoreError::unclear)?;
        if results.len() != rows.len() {
            let (results, rows) = (results.len(), rows.len());
            let problem = format_args!("the answer has {results} results for {rows} rows");
            return Err(TableStoreError::unclear(problem));
        }
        let (mut failed, mut last) = (vec![], None);
        for (row, result) in rows.iter().zip(results) {
            let Some(error) = result else {
                self.rejected.store(0, Ordering::Relaxed);
                continue;
            };
            let error = TableStoreError::of_row(&error, &answer.request_id);
            match error.class {
                Class::Busy | Class::Unclear => {
                    failed.push(*row);
                    last = Some(error);
                }
                Class::Row => rejected.push(self.reject(*row, error)?),
                _ => return Err(error),
            }
        }
        Ok(last.map(|error| (failed, error)))
    }

    /// Counts a rejected row. Too many in a row are no fault of the rows.
    fn reject(&self, row: usize, error: TableStoreError) -> Result<RejectedRow, TableStoreError> {
        if self.rejected.fetch_add(1, Ordering::Relaxed) < MAX_CONSECUTIVE_REJECTIONS {
            return Ok(RejectedRow { row, error });
        }
        let message = format!(
            "all of the last {MAX_CONSECUTIVE_REJECTIONS} rows were refused, so the rule or the table is wrong: {}",
            error.message
        );
        self.rejected.store(0, Ordering::Relaxed);
        Err(TableStoreError { class: Class::Configuration, message, ..error })
    }

    /// Calls an operation, with retries.
    async fn call(&self, operation: &str, body: Bytes, stop: Stop<'_>) -> Result<Answer, TableStoreError> {
        let mut retry = Retry::default();
        loop {
            let answer =
                until(stop, self.client.call(operation, body.clone())).await.unwrap_or(Err(stopped()));
            match answer {
                Err(error) if error.is_retryable() => self.wait(&mut retry, error, stop).await?,
                answer => return answer,
            }
        }
    }

    /// Waits before a retry. Fails with the error after the last attempt.
    async fn wait(
        &self,
        retry: &mut Retry,
        error: TableStoreError,
        stop: Stop<'_>,
    ) -> Result<(), TableStoreError> {
        let Some(delay) = retry.next_delay(error.class) else { return Err(error) };
        self.retries.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(instance = self.name, %error, ?delay, "a request to Table Store is retried");
        until(stop, tokio::time::sleep(delay)).await.ok_or_else(stopped)
    }
}

fn stopped() -> TableStoreError {
    TableStoreError::new(Class::Stopped, "the call was stopped")
}

/// Returns the output of a future; `None` if the caller stops before.
async fn until<T>(stop: Stop<'_>, future: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        while !stop() {
            tokio::time::sleep(STOP_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        output = future => Some(output),
        () = stopped => None,
    }
}

/// The delays of retries: exponential, with jitter.
#[derive(Debug, Default)]
struct Retry(u32);

impl Retry {
    /// Returns the next delay; `None` after the last attempt.
    fn next_delay(&mut self, class: Class) -> Option<Duration> {
        self.0 += 1;
        let first = if class == Class::Busy { BUSY_DELAY } else { UNCLEAR_DELAY };
        let delay = MAX_DELAY.min(first.saturating_mul(1 << (self.0 - 1).min(8)));
        (self.0 < MAX_ATTEMPTS).then(|| delay.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

impl Sink for TableStore {
    fn kind(&self) -> &'static str {
        "ots"
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// `prefix` is the table; without one, the tables are listed.
    fn probe<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            if prefix.is_empty() {
                return Ok(self.tables().await.map(drop)?);
            }
            self.table(prefix, &|| false).await?;
            Ok(self.check_write(prefix).await?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end() {
        for (class, first) in [(Class::Busy, BUSY_DELAY), (Class::Unclear, UNCLEAR_DELAY)] {
            let mut retry = Retry::default();
            let delays: Vec<_> = std::iter::from_fn(|| retry.next_delay(class)).collect();
            assert_eq!(delays.len(), MAX_ATTEMPTS as usize - 1);
            assert!(delays[0] <= first && delays[0] >= first / 2, "{:?}", delays[0]);
            assert!(delays.iter().skip(5).all(|delay| *delay >= MAX_DELAY / 2 && *delay <= MAX_DELAY));
        }
    }
}

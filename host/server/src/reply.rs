//! Responses.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use logship_logstore::StoreError;
use logship_sls::error::{ApiError, ErrorCode};

use crate::fair_budget::Transfer;

/// A successful response. The status is always 200, because clients accept no other status as success.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
    /// The client's receipt of a body whose memory others wait for.
    pub(crate) transfer: Option<Transfer>,
}

/// The body of a response. It notes how fast the client receives it.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    rest: Bytes,
    transfer: Option<Transfer>,
}

/// The part of a body that is sent at a time, in bytes.
const PART_BYTES: usize = 256 << 10;

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let Some(transfer) = &self.transfer else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        };
        let bytes = self.rest.len().min(PART_BYTES);
        transfer.progress(bytes);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Reply {
    /// A reply without a body.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self { content_type: Some("application/json"), body: value.to_string().into(), ..Self::default() }
    }
}

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-log-requestid");

/// Makes the HTTP response of a result. Without `keep_alive`, it closes the connection.
pub(crate) fn response(
    result: Result<Reply, ApiError>,
    request_id: &str,
    keep_alive: bool,
) -> Response<ReplyBody> {
    let (status, reply) = match result {
        Ok(reply) => (StatusCode::OK, reply),
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let reply = Reply {
                content_type: Some("application/json"),
                body: error.to_json().into(),
                ..Reply::default()
            };
            (status, reply)
        }
    };
    let mut response = Response::new(ReplyBody { rest: reply.body, transfer: reply.transfer });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // The values are printable, so this never fails.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(REQUEST_ID, request_id);
    if !keep_alive {
        set(CONNECTION, "close");
    }
    if let Some(content_type) = reply.content_type {
        set(CONTENT_TYPE, content_type);
    }
    for (name, value) in reply.headers {
        set(HeaderName::from_static(name), &value);
    }
    response
}

/// Converts a store's error to the API's.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    use ErrorCode as Code;
    let code = match &error {
        StoreError::NoProject(_) => Code::ProjectNotExist,
        StoreError::ProjectExists(_) => Code::ProjectAlreadyExist,
        StoreError::NoLogstore(_) => Code::LogStoreNotExist,
        StoreError::LogstoreExists(_) => Code::LogStoreAlreadyExist,
        StoreError::NoShard(_) => Code::ShardNotExist,
        StoreError::ReadOnlyShard(_)
        | StoreError::Resharding { .. }
        | StoreError::NoAdjacentShard(_)
        | StoreError::TooManyShards(_) => Code::ParameterInvalid,
        StoreError::Held { .. } => Code::ParameterInvalid,
        StoreError::NoCursor { .. } => Code::InvalidCursor,
        StoreError::DeletionNotConfirmed { .. } => Code::DeletionNotConfirmed,
        StoreError::NotDeleted { kind: "project", .. } => Code::ProjectNotExist,
        StoreError::NotDeleted { .. } => Code::LogStoreNotExist,
        StoreError::PutIdConflict { .. } => Code::PutIdConflict,
        StoreError::PutIdTooOld { .. } => Code::PutIdTooOld,
        // Not InvalidCursor: the SDKs' consumers would skip to the end.
        StoreError::OtherGeneration { .. } => Code::ParameterInvalid,
        StoreError::GroupExists(_) => Code::ConsumerGroupAlreadyExist,
        StoreError::NoGroup(_) => Code::ConsumerGroupNotExist,
        StoreError::GroupQuota(_) => Code::ConsumerGroupQuotaExceed,
        StoreError::NoConsumer(_) => Code::ConsumerNotExist,
        StoreError::NotOwner { .. } => Code::ConsumerNotMatch,
        StoreError::NoRule(_) => Code::ShipperNotExist,
        StoreError::NoSource(_) => Code::DataSourceNotExist,
        StoreError::NoJob(_) | StoreError::NoRun(_) => Code::JobNotExist,
        StoreError::JobExists(_) => Code::JobAlreadyExist,
        StoreError::ActiveRun { .. } | StoreError::RunEnded(_) | StoreError::RunCommitting(_) => {
            Code::ParameterInvalid
        }
        StoreError::RuleExists(_)
        | StoreError::SourceExists(_)
        | StoreError::SourceQuota(_)
        | StoreError::RuleNameTaken(_)
        | StoreError::NoTask(_)
        | StoreError::NoStage(_)
        | StoreError::StageChanged(_) => Code::ParameterInvalid,
        StoreError::Closed => Code::ServerBusy,
        // The store has logged it. The message names the cursor, so that a consumer can go on behind it.
        StoreError::Damaged(_) => Code::InternalServerError,
        _ => {
            // The database's message has file names. It is for the operator, not for clients.
            tracing::error!(%error, "the store failed");
            return ApiError::new(
                Code::InternalServerError,
                "the store failed: see the server's log for the reason",
            );
        }
    };
    ApiError::new(code, error.to_string())
}

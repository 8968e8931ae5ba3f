//! Responses.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use logship_logstore::StoreError;
use logship_sls::error::{ApiError, ErrorCode};

/// A successful response. The status is always 200, because clients accept no other status as success.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
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
) -> Response<Full<Bytes>> {
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
    let mut response = Response::new(Full::new(reply.body));
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
        StoreError::RuleExists(_)
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

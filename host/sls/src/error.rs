//! API errors: a code for programs, and a message for people.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::compression::{CompressError, DecompressError, UnknownCompression};
use crate::cursor::InvalidCursor;
use crate::hash_key::{InvalidHashKey, RangeError};
use crate::log_group::Malformed;
use crate::query::InvalidQuery;
use crate::signature::SignatureError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal,)*) => {
        /// Log Service's error codes, each with an HTTP status.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// An unknown code, from another server.
            Other(String),
        }

        impl ErrorCode {
            /// Returns the HTTP status. An unknown code has status 500.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Other(_) => 500,
                }
            }

            /// Returns the code's wire form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(code) => code,
                }
            }
        }

        impl FromStr for ErrorCode {
            type Err = Infallible;

            fn from_str(code: &str) -> Result<Self, Infallible> {
                Ok(match code {
                    $(stringify!($name) => Self::$name,)*
                    _ => Self::Other(code.to_owned()),
                })
            }
        }

        #[cfg(test)]
        const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];
    };
}

codes! {
    /// A request with a body lacks `Content-Type`.
    MissingContentType = 400,
    /// A request with a compressed body lacks `x-log-bodyrawsize`.
    MissingBodyRawSize = 400,
    /// `x-log-bodyrawsize` is not a number, or not the body's size.
    InvalidBodyRawSize = 400,
    /// `x-log-compresstype` names an unknown compression.
    InvalidCompressType = 400,
    /// The request lacks `Host`, which names the project.
    MissingHost = 400,
    /// The request lacks a date.
    MissingDate = 400,
    /// The date can't be parsed.
    InvalidDateFormat = 400,
    /// The request lacks `x-log-apiversion`.
    MissingAPIVersion = 400,
    /// `x-log-apiversion` has an unsupported version.
    InvalidAPIVersion = 400,
    /// `Authorization` lacks an access key ID.
    MissAccessKeyId = 400,
    /// The request lacks `x-log-signaturemethod`.
    MissingSignatureMethod = 400,
    /// `x-log-signaturemethod` has an unsupported method.
    InvalidSignatureMethod = 400,
    /// The date differs from the server's time by more than 15 minutes.
    RequestTimeTooSkewed = 400,
    /// A newer name of [`RequestTimeTooSkewed`](Self::RequestTimeTooSkewed).
    RequestTimeExpired = 400,
    /// A parameter in the query or the path is invalid.
    ParameterInvalid = 400,
    /// The body is invalid.
    PostBodyInvalid = 400,
    /// The body is too large.
    PostBodyTooLarge = 400,
    /// The body can't be decompressed.
    PostBodyUncompressError = 400,
    /// The body is not JSON, or not of the expected schema.
    JsonInfoInvalid = 400,
    /// A time in a body is out of range.
    InvalidTimestamp = 400,
    /// A text in a body is not UTF-8.
    InvalidEncoding = 400,
    /// A key in a body is invalid.
    InvalidKey = 400,
    /// The signature doesn't match the request.
    SignatureNotMatch = 401,
    /// The sender is unknown, or lacks the permission.
    Unauthorized = 401,
    /// No access key has the ID.
    InvalidAccessKeyId = 401,
    /// The project's write quota is exceeded.
    WriteQuotaExceed = 403,
    /// The project's read quota is exceeded.
    ReadQuotaExceed = 403,
    /// The shard's write quota is exceeded.
    ShardWriteQuotaExceed = 403,
    /// The shard's read quota is exceeded.
    ShardReadQuotaExceed = 403,
    /// Another quota is exceeded.
    ExceedQuota = 403,
    /// No project has the name.
    ProjectNotExist = 404,
    /// A project with the name exists.
    ProjectAlreadyExist = 400,
    /// No Logstore has the name.
    LogStoreNotExist = 404,
    /// A Logstore with the name exists.
    LogStoreAlreadyExist = 400,
    /// The Logstore's settings are invalid.
    LogStoreInfoInvalid = 400,
    /// The Logstore has no shards yet.
    LogStoreWithoutShard = 400,
    /// No shard has the number.
    ShardNotExist = 404,
    /// The cursor is invalid, or its position doesn't exist. Consumers then move to the end of the shard.
    InvalidCursor = 400,
    /// No consumer group has the name.
    ConsumerGroupNotExist = 404,
    /// A consumer group with the name exists.
    ConsumerGroupAlreadyExist = 400,
    /// The Logstore has the maximum number of consumer groups.
    ConsumerGroupQuotaExceed = 400,
    /// No consumer of the group has the name.
    ConsumerNotExist = 404,
    /// The shard is assigned to another consumer.
    ConsumerNotMatch = 404,
    /// An unknown consumer reports shards in its heartbeat.
    NotExistConsumerWithBody = 400,
    /// The checkpoint is not a cursor.
    InvalidShardCheckPoint = 400,
    /// The audit log can't be changed. A code of logship.
    AuditLogProtected = 403,
    /// A Logstore or project with logs is deleted without its name in `x-logship-confirm`. A code of logship.
    DeletionNotConfirmed = 400,
    /// Another put had the id in `x-logship-put-id`. A code of logship.
    PutIdConflict = 409,
    /// The id in `x-logship-put-id` is too old to tell if the put was stored. A code of logship.
    PutIdTooOld = 409,
    /// No shipper has the name.
    ShipperNotExist = 404,
    /// The data source does not exist.
    DataSourceNotExist = 404,
    /// No job has the name, or it has no such run.
    JobNotExist = 404,
    /// A job with the name exists.
    JobAlreadyExist = 400,
    /// The body was not received in time. Clients retry.
    RequestTimeout = 408,
    /// The request lacks `Content-Length`.
    MissingContentLength = 411,
    /// `Content-Type` is not supported.
    InvalidContentType = 415,
    /// The server failed. Clients retry.
    InternalServerError = 500,
    /// The server is overloaded. Clients retry.
    ServerBusy = 503,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code, for programs.
    pub code: ErrorCode,
    /// The message, for people.
    pub message: String,
}

impl ApiError {
    /// Creates an error from a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// Returns the reply's JSON body.
    pub fn to_json(&self) -> String {
        json!({ "errorCode": self.code.as_str(), "errorMessage": self.message }).to_string()
    }

    /// Parses the JSON body of an error reply. Returns `None` for a body that is not Log Service's.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let Ok(code) = text("errorCode")?.parse();
        Some(Self::new(code, text("errorMessage")?))
    }
}

impl SignatureError {
    /// Returns the API error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownForm => ErrorCode::Unauthorized,
            Self::MissingKeyId => ErrorCode::MissAccessKeyId,
            Self::MissingDate { .. } => ErrorCode::MissingDate,
            Self::InvalidDate { .. } => ErrorCode::InvalidDateFormat,
            Self::Skewed { .. } => ErrorCode::RequestTimeTooSkewed,
            Self::MissingMethod => ErrorCode::MissingSignatureMethod,
            Self::InvalidMethod { .. } => ErrorCode::InvalidSignatureMethod,
            Self::Scope | Self::Body { .. } | Self::NotMatch { .. } => ErrorCode::SignatureNotMatch,
        }
    }
}

impl DecompressError {
    /// Returns the API error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::PostBodyTooLarge,
            Self::Size { .. } => ErrorCode::InvalidBodyRawSize,
            Self::Corrupt { .. } | Self::Trailing { .. } => ErrorCode::PostBodyUncompressError,
        }
    }
}

macro_rules! into_api_error {
    ($($error:ty => $code:expr,)*) => {
        $(impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                let code: fn(&$error) -> ErrorCode = $code;
                Self::new(code(&error), error.to_string())
            }
        })*
    };
}

into_api_error! {
    SignatureError => SignatureError::code,
    DecompressError => DecompressError::code,
    UnknownCompression => |_| ErrorCode::InvalidCompressType,
    CompressError => |_| ErrorCode::InternalServerError,
    Malformed => |_| ErrorCode::PostBodyInvalid,
    InvalidCursor => |_| ErrorCode::InvalidCursor,
    InvalidHashKey => |_| ErrorCode::ParameterInvalid,
    RangeError => |_| ErrorCode::ParameterInvalid,
    InvalidQuery => |_| ErrorCode::ParameterInvalid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_unknown_codes_are_kept() {
        for code in ALL {
            assert_eq!(code.as_str().parse().as_ref(), Ok(code));
            assert!((400..=503).contains(&code.status()));
        }
        let other: ErrorCode = "SomethingNew".parse().unwrap();
        assert_eq!((other.as_str(), other.status()), ("SomethingNew", 500));
    }

    #[test]
    fn errors_round_trip_through_replies() {
        let error = ApiError::new(ErrorCode::LogStoreNotExist, "logstore \"l\" does not exist");
        assert_eq!(error.status(), 404);
        assert_eq!(
            error.to_json(),
            r#"{"errorCode":"LogStoreNotExist","errorMessage":"logstore \"l\" does not exist"}"#
        );
        assert_eq!(ApiError::from_json(error.to_json().as_bytes()), Some(error.clone()));
        assert_eq!(error.to_string(), "LogStoreNotExist: logstore \"l\" does not exist");
        for body in [&b""[..], b"[]", b"{\"errorCode\":1}", b"{\"errorCode\":\"x\"}", b"<html>"] {
            assert_eq!(ApiError::from_json(body), None);
        }
    }

    #[test]
    fn converts_errors_to_api_errors() {
        let error = ApiError::from(InvalidCursor { text: "x".into() });
        assert_eq!(
            error.to_string(),
            "InvalidCursor: \"x\" is not a cursor: use one from a pull's reply or from type=cursor"
        );
        let error = ApiError::from(DecompressError::TooLarge { raw_size: 2, limit: 1 });
        assert_eq!(error.code, ErrorCode::PostBodyTooLarge);
    }
}

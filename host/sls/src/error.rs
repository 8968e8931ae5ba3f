//! What a request is refused with: a code that programs look at, and a message for people.

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
        /// The codes of Log Service, each with its HTTP status.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code that isn't among these, as another server sent it.
            Other(String),
        }

        impl ErrorCode {
            /// The HTTP status. Of an unknown code 500: what happened isn't known either.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Other(_) => 500,
                }
            }

            /// The code as it is sent.
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
    /// A body without `Content-Type`.
    MissingContentType = 400,
    /// A compressed body without `x-log-bodyrawsize`.
    MissingBodyRawSize = 400,
    /// `x-log-bodyrawsize` is no size, or not the body's.
    InvalidBodyRawSize = 400,
    /// `x-log-compresstype` names no compression.
    InvalidCompressType = 400,
    /// No `Host`, which has the project.
    MissingHost = 400,
    /// No date.
    MissingDate = 400,
    /// The date can't be read.
    InvalidDateFormat = 400,
    /// No `x-log-apiversion`.
    MissingAPIVersion = 400,
    /// `x-log-apiversion` has another version.
    InvalidAPIVersion = 400,
    /// `Authorization` has no key id.
    MissAccessKeyId = 400,
    /// No `x-log-signaturemethod`.
    MissingSignatureMethod = 400,
    /// `x-log-signaturemethod` has another method.
    InvalidSignatureMethod = 400,
    /// The date is more than 15 minutes off.
    RequestTimeTooSkewed = 400,
    /// The newer name of [`RequestTimeTooSkewed`](Self::RequestTimeTooSkewed).
    RequestTimeExpired = 400,
    /// Something in the query or the path is wrong.
    ParameterInvalid = 400,
    /// Something in the body is wrong.
    PostBodyInvalid = 400,
    /// The body is too large.
    PostBodyTooLarge = 400,
    /// The body can't be decompressed.
    PostBodyUncompressError = 400,
    /// The body is no JSON of the right kind.
    JsonInfoInvalid = 400,
    /// A time in a body is out of range.
    InvalidTimestamp = 400,
    /// A text in a body is no UTF-8.
    InvalidEncoding = 400,
    /// A key in a body is none.
    InvalidKey = 400,
    /// The signature is not the right one.
    SignatureNotMatch = 401,
    /// Whoever asks isn't known, or may not.
    Unauthorized = 401,
    /// No key has the id.
    InvalidAccessKeyId = 401,
    /// The project was written to too much.
    WriteQuotaExceed = 403,
    /// The project was read from too much.
    ReadQuotaExceed = 403,
    /// The shard was written to too much.
    ShardWriteQuotaExceed = 403,
    /// The shard was read from too much.
    ShardReadQuotaExceed = 403,
    /// Another quota is used up.
    ExceedQuota = 403,
    /// No project has the name.
    ProjectNotExist = 404,
    /// A project has the name already.
    ProjectAlreadyExist = 400,
    /// No Logstore has the name.
    LogStoreNotExist = 404,
    /// A Logstore has the name already.
    LogStoreAlreadyExist = 400,
    /// A Logstore can't be like this.
    LogStoreInfoInvalid = 400,
    /// The Logstore has no shards yet.
    LogStoreWithoutShard = 400,
    /// No shard has the number.
    ShardNotExist = 404,
    /// The cursor is none, or of no position that there is. Consumers then go to the end of the shard.
    InvalidCursor = 400,
    /// No consumer group has the name.
    ConsumerGroupNotExist = 404,
    /// A consumer group has the name already.
    ConsumerGroupAlreadyExist = 400,
    /// The Logstore has as many consumer groups as it may.
    ConsumerGroupQuotaExceed = 400,
    /// No consumer of the group has the name.
    ConsumerNotExist = 404,
    /// The shard is another consumer's.
    ConsumerNotMatch = 404,
    /// A consumer that isn't known says that it has shards.
    NotExistConsumerWithBody = 400,
    /// The checkpoint is no cursor.
    InvalidShardCheckPoint = 400,
    /// No shipper has the name.
    ShipperNotExist = 404,
    /// The body did not come in time. Clients try again.
    RequestTimeout = 408,
    /// No `Content-Length`.
    MissingContentLength = 411,
    /// `Content-Type` is another one.
    InvalidContentType = 415,
    /// The server failed. Clients try again.
    InternalServerError = 500,
    /// The server has too much to do. Clients try again.
    ServerBusy = 503,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request is refused with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// An error of a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The body of the reply.
    pub fn to_json(&self) -> String {
        json!({ "errorCode": self.code.as_str(), "errorMessage": self.message }).to_string()
    }

    /// The error in the body of a reply; none if it is another one's than Log Service's.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let Ok(code) = text("errorCode")?.parse();
        Some(Self::new(code, text("errorMessage")?))
    }
}

impl SignatureError {
    /// The code to refuse the request with.
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
    /// The code to refuse the body with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::PostBodyTooLarge,
            Self::Size { .. } => ErrorCode::InvalidBodyRawSize,
            Self::Corrupt { .. } | Self::Trailing { .. } => ErrorCode::PostBodyUncompressError,
        }
    }
}

macro_rules! refused_with {
    ($($error:ty => $code:expr,)*) => {
        $(impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                let code: fn(&$error) -> ErrorCode = $code;
                Self::new(code(&error), error.to_string())
            }
        })*
    };
}

refused_with! {
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
    fn codes_come_back_and_unknown_ones_are_kept() {
        for code in ALL {
            assert_eq!(code.as_str().parse().as_ref(), Ok(code));
            assert!((400..=503).contains(&code.status()));
        }
        let other: ErrorCode = "SomethingNew".parse().unwrap();
        assert_eq!((other.as_str(), other.status()), ("SomethingNew", 500));
    }

    #[test]
    fn errors_come_back_from_their_replies() {
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
    fn what_goes_wrong_in_here_has_its_code() {
        let error = ApiError::from(InvalidCursor { text: "x".into() });
        assert_eq!(
            error.to_string(),
            "InvalidCursor: \"x\" is no cursor. Take one from a pull, or ask with type=cursor"
        );
        let error = ApiError::from(DecompressError::TooLarge { raw_size: 2, limit: 1 });
        assert_eq!(error.code, ErrorCode::PostBodyTooLarge);
    }
}

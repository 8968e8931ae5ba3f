//! Errors of MaxCompute, and whether a retry can help.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::error::SinkError;
use crate::xml;

/// Longest delay that the server may ask for before the next attempt.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// An error of MaxCompute.
#[derive(Debug, Clone, thiserror::Error)]
pub struct MaxComputeError {
    /// The failed step, such as `create an upload session of table t`.
    pub step: String,
    /// The HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// The server's code, such as `NoSuchTable`; empty if it has none.
    pub code: String,
    /// The reason.
    pub message: String,
    /// The server's ID of the request. Alibaba's support asks for it.
    pub request_id: Option<String>,
    /// The delay that the server asks for.
    pub retry_delay: Option<Duration>,
    class: Class,
}

/// The classes of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The server is unreachable or has an internal error: try again.
    Retry,
    /// Too many requests: wait, and try again without end.
    Wait,
    /// The project, table or partition is wrong.
    Configuration,
    /// The key is wrong, or lacks a permission.
    Unauthorized,
    /// The table changed, or a block does not fit it: open a new session.
    NewSession,
    /// The session is committed or expired.
    SessionDone,
    /// The request is wrong.
    Rejected,
}

impl fmt::Display for MaxComputeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "can't {}: ", self.step)?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", message) => write!(formatter, "{message}")?,
            (code, "") => write!(formatter, "{code}")?,
            (code, message) => write!(formatter, "{code}: {message}")?,
        }
        match (self.status, &self.request_id) {
            (Some(status), Some(id)) => write!(formatter, " (status {status}, request {id})")?,
            (Some(status), None) => write!(formatter, " (status {status})")?,
            (None, _) => {}
        }
        match self.hint() {
            "" => Ok(()),
            hint => write!(formatter, ". {hint}"),
        }
    }
}

/// The body of Tunnel's errors.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TunnelError {
    code: String,
    message: String,
    hold_client_millis: Option<u64>,
}

impl MaxComputeError {
    /// Returns the class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// An error without an answer: the request, or its answer, was lost.
    pub(super) fn lost(step: &str, problem: impl fmt::Display) -> Self {
        Self::new(step, Class::Retry, problem)
    }

    /// An error that this program found.
    pub(super) fn new(step: &str, class: Class, problem: impl fmt::Display) -> Self {
        Self {
            step: step.to_owned(),
            status: None,
            code: String::new(),
            message: problem.to_string(),
            request_id: None,
            retry_delay: None,
            class,
        }
    }

    /// Parses the answer of a server: Tunnel's are JSON, the service's are XML.
    pub(super) fn answer(step: &str, status: u16, mut request_id: Option<String>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let TunnelError { mut code, mut message, hold_client_millis } =
            serde_json::from_str(&text).unwrap_or_default();
        if code.is_empty() && text.trim_start().starts_with('<') {
            code = xml::text(&text, "Code").unwrap_or_default();
            message = xml::text(&text, "Message").unwrap_or_default();
            request_id = request_id.or_else(|| xml::text(&text, "RequestId"));
        }
        if code.is_empty() {
            // Any server may be behind an endpoint that a user names: its words stay in the service's log.
            tracing::info!(
                step,
                status,
                answer = text.chars().take(200).collect::<String>(),
                "not an answer of MaxCompute"
            );
            message = "the answer is not one of MaxCompute: the service's log has it".into();
        }
        let retry_delay = hold_client_millis.map(|millis| Duration::from_millis(millis).min(MAX_RETRY_DELAY));
        let class = class(status, &code);
        Self { step: step.to_owned(), status: Some(status), code, message, request_id, retry_delay, class }
    }

    /// True if the server does not know the session, table or partition.
    pub fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    /// What to do next.
    fn hint(&self) -> &'static str {
        match (self.class, self.code.as_str()) {
            (_, "MissingPartitionSpec") => {
                "The table has partitions: name a value for each of its partition columns"
            }
            (_, "NoSuchPartition") => "Add the partition, or let logship create it: create-partition = true",
            (Class::Unauthorized, _) if self.message.to_lowercase().contains("time") => {
                "Set this machine's clock if it differs from the server's"
            }
            (Class::Unauthorized, _) => {
                "Check the access key; it needs Describe, Select, Alter and Update on the table"
            }
            (Class::Configuration, _) => "Check the names of project, schema, table and partition",
            _ => "",
        }
    }
}

/// The class of an answer.
fn class(status: u16, code: &str) -> Class {
    match code {
        "AccessDenied" | "NoPermission" | "Unauthorized" | "InvalidAccessKeyId" | "SignatureNotMatch" => {
            return Class::Unauthorized;
        }
        "NoSuchProject"
        | "NoSuchTable"
        | "NoSuchPartition"
        | "NoSuchObject"
        | "NoSuchSchema"
        | "InvalidProjectTable"
        | "InvalidPartitionSpec"
        | "MissingPartitionSpec"
        | "InvalidResourceSpec" => return Class::Configuration,
        "CorruptedDataStream"
        | "IncompleteBody"
        | "DataStoreError"
        | "InternalServerError"
        | "DataUnderReplication"
        | "DataVersionConflict" => return Class::Retry,
        "FlowExceeded" => return Class::Wait,
        "StatusConflict" | "NoSuchUpload" => return Class::SessionDone,
        "MalformedDataStream" | "TableModified" | "MetaTransactionFailed" => return Class::NewSession,
        _ => {}
    }
    match status {
        429 | 308 => Class::Wait,
        408 | 500.. => Class::Retry,
        401 | 403 => Class::Unauthorized,
        404 => Class::Configuration,
        _ => Class::Rejected,
    }
}

impl From<MaxComputeError> for SinkError {
    fn from(error: MaxComputeError) -> Self {
        match error.class {
            Class::Unauthorized => Self::Denied(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_code_reason_and_request_id() {
        let json = br#"{"Code":"NoSuchPartition","Message":"pt=1"}"#;
        let error = MaxComputeError::answer("commit", 404, Some("R1".into()), json);
        assert_eq!(error.class(), Class::Configuration);
        let text = error.to_string();
        assert!(text.starts_with("can't commit: NoSuchPartition: pt=1 (status 404, request R1)"), "{text}");
        let xml = b"<Error><Code>NoSuchObject</Code><Message><![CDATA[a < b &]]></Message><RequestId>R2</RequestId></Error>";
        let error = MaxComputeError::answer("read", 404, None, xml);
        assert_eq!((error.code.as_str(), error.request_id.as_deref()), ("NoSuchObject", Some("R2")));
        assert_eq!(error.message, "a < b &");
        let page = MaxComputeError::answer("read", 502, None, b"<html>Bad Gateway</html>");
        assert!(page.class() == Class::Retry && page.to_string().contains("status 502"), "{page}");
        assert!(!page.to_string().contains("Gateway"), "{page}");
    }

    #[test]
    fn status_decides_without_a_known_code() {
        for (status, expected) in [
            (429, Class::Wait),
            (308, Class::Wait),
            (408, Class::Retry),
            (500, Class::Retry),
            (504, Class::Retry),
            (400, Class::Rejected),
            (403, Class::Unauthorized),
            (404, Class::Configuration),
        ] {
            assert_eq!(class(status, "Other"), expected, "{status}");
        }
        assert_eq!(class(400, "StatusConflict"), Class::SessionDone);
        assert_eq!(class(400, "IncompleteBody"), Class::Retry);
    }

    #[test]
    fn server_holds_a_client_for_at_most_ten_seconds() {
        let hold = |millis: u64| {
            let body = format!(r#"{{"Code":"FlowExceeded","Message":"","HoldClientMillis":{millis}}}"#);
            MaxComputeError::answer("put", 429, None, body.as_bytes()).retry_delay
        };
        assert_eq!(hold(250), Some(Duration::from_millis(250)));
        assert_eq!(hold(u64::MAX), Some(Duration::from_secs(10)));
    }
}

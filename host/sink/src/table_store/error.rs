//! Errors of Table Store, by what a retry can do.

use std::fmt;

use super::message::ErrorMessage;
use crate::error::SinkError;

/// An error of Table Store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TableStoreError {
    /// What a retry can do.
    pub class: Class,
    /// The code of Table Store; empty for errors of the network.
    pub code: String,
    /// The message.
    pub message: String,
    /// The id of the request, for the support of Table Store; empty if there was no answer.
    pub request_id: String,
}

/// What a retry can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A retry helps, after a while: the server is busy.
    Busy,
    /// A retry helps: the server or the network failed. The rows may be written.
    Unclear,
    /// The credentials are invalid, or lack the permission.
    Unauthorized,
    /// The table does not exist.
    Missing,
    /// A row is at fault, and others are not.
    Row,
    /// Somebody must change the rule, the table or the instance.
    Configuration,
    /// The caller stopped the call. The rows may be written.
    Stopped,
}

/// Codes of busy servers.
const BUSY: [&str; 7] = [
    "OTSServerBusy",
    "OTSNotEnoughCapacityUnit",
    "OTSOperationThrottled",
    "OTSRowOperationConflict",
    "OTSTableNotReady",
    "OTSPartitionUnavailable",
    "OTSOperationConflict",
];

/// Codes after which rows may be written or not.
const UNCLEAR: [&str; 3] = ["OTSTimeout", "OTSInternalServerError", "OTSServerUnavailable"];

/// Codes of rows, which make the service refuse the whole request.
const ROW: [&str; 6] = [
    "OTSParameterInvalid",
    "OTSInvalidPK",
    "OTSOutOfRowSizeLimit",
    "OTSOutOfColumnCountLimit",
    "OTSRequestBodyTooLarge",
    "OTSConditionCheckFail",
];

/// The only quota that a retry helps with.
const TOO_FREQUENT: &str = "Too frequent table operations.";

impl TableStoreError {
    /// The error of an answer.
    pub(super) fn answered(status: u16, error: ErrorMessage, request_id: &str) -> Self {
        let ErrorMessage { code, message } = error;
        let class = class(status, &code, &message);
        let request_id = request_id.to_owned();
        if code.is_empty() {
            let message =
                format!("HTTP status {status}, and no error of Table Store: is the endpoint right?");
            return Self { class, code, message, request_id };
        }
        Self { class, code, message, request_id }
    }

    /// The error of a row within a successful answer.
    pub(super) fn of_row(error: &ErrorMessage, request_id: &str) -> Self {
        Self::answered(0, error.clone(), request_id)
    }

    /// A failure without an answer.
    pub(super) fn unclear(message: impl fmt::Display) -> Self {
        Self::new(Class::Unclear, message)
    }

    /// An error that this program found.
    pub(super) fn new(class: Class, message: impl fmt::Display) -> Self {
        Self { class, code: String::new(), message: message.to_string(), request_id: String::new() }
    }

    /// Returns true if the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.class, Class::Busy | Class::Unclear)
    }

    /// Returns the corresponding error code of Log Service.
    pub fn log_service_code(&self) -> &'static str {
        match self.class {
            Class::Unauthorized => "UnAuthorized",
            Class::Missing => "ConfigNotExist",
            Class::Configuration | Class::Row => "ParameterInvalid",
            Class::Busy | Class::Unclear | Class::Stopped => "InternalServerError",
        }
    }
}

fn class(status: u16, code: &str, message: &str) -> Class {
    if BUSY.contains(&code) || (code == "OTSQuotaExhausted" && message == TOO_FREQUENT) {
        return Class::Busy;
    }
    if UNCLEAR.contains(&code) {
        return Class::Unclear;
    }
    if ROW.contains(&code) {
        return Class::Row;
    }
    match code {
        "OTSAuthFailed" | "OTSNoPermissionAccess" => Class::Unauthorized,
        "OTSObjectNotExist" => Class::Missing,
        "" if matches!(status, 401 | 403 | 407) => Class::Unauthorized,
        _ if status == 429 => Class::Busy,
        _ if status >= 500 || status == 408 => Class::Unclear,
        _ => Class::Configuration,
    }
}

impl fmt::Display for TableStoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Table Store: ")?;
        if !self.code.is_empty() {
            write!(formatter, "{}: ", self.code)?;
        }
        formatter.write_str(&self.message)?;
        if !self.request_id.is_empty() {
            write!(formatter, " (request {})", self.request_id)?;
        }
        Ok(())
    }
}

impl From<TableStoreError> for SinkError {
    fn from(error: TableStoreError) -> Self {
        match error.class {
            Class::Unauthorized => Self::Denied(error.to_string()),
            Class::Busy | Class::Unclear | Class::Stopped => Self::Unavailable(error.to_string()),
            Class::Missing | Class::Row | Class::Configuration => Self::Settings(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_codes() {
        for (status, code, message, expected) in [
            (503, "OTSServerBusy", "", Class::Busy),
            (404, "OTSTableNotReady", "", Class::Busy),
            (403, "OTSQuotaExhausted", TOO_FREQUENT, Class::Busy),
            (403, "OTSQuotaExhausted", "Number of tables exceeds the quota.", Class::Configuration),
            (503, "OTSTimeout", "", Class::Unclear),
            (500, "OTSInternalServerError", "", Class::Unclear),
            (0, "OTSInternalServerError", "", Class::Unclear),
            (403, "OTSAuthFailed", "", Class::Unauthorized),
            (403, "OTSNoPermissionAccess", "", Class::Unauthorized),
            (404, "OTSObjectNotExist", "", Class::Missing),
            (400, "OTSInvalidPK", "", Class::Row),
            (413, "OTSRequestBodyTooLarge", "", Class::Row),
            (502, "", "", Class::Unclear),
            (429, "", "", Class::Busy),
            (403, "", "", Class::Unauthorized),
            (404, "", "", Class::Configuration),
            (400, "OTSNew", "", Class::Configuration),
            (500, "OTSNew", "", Class::Unclear),
        ] {
            let message = ErrorMessage { code: code.into(), message: message.into() };
            assert_eq!(TableStoreError::answered(status, message, "").class, expected, "{status} {code}");
        }
    }

    #[test]
    fn errors_show_code_message_and_request() {
        let message = ErrorMessage { code: "OTSServerBusy".into(), message: "later".into() };
        let error = TableStoreError::answered(503, message, "0005").to_string();
        assert_eq!(error, "Table Store: OTSServerBusy: later (request 0005)");
        let page = TableStoreError::answered(502, ErrorMessage::default(), "").to_string();
        assert!(page.contains("502") && page.contains("endpoint"), "{page}");
    }
}

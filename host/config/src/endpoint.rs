//! Checks of the settings of endpoints: URLs, parts of headers, and timeouts.

use url::Url;

use crate::error::SourceError;
use crate::limit::TIMEOUT_SECONDS;

/// Checks the URL of an endpoint.
///
/// # Errors
/// [`SourceError::Field`], with the part that is missing or not allowed.
pub fn check_endpoint(field: &'static str, text: &str, may_have_path: bool) -> Result<(), SourceError> {
    let invalid = |problem: &str| Err(SourceError::field(field, problem));
    if !text.contains("://") {
        return Err(SourceError::field(field, format!("{text:?} has no scheme: use https://{text}")));
    }
    let Ok(url) = Url::parse(text) else { return invalid("is not a URL: use for example https://HOST") };
    if !matches!(url.scheme(), "http" | "https") {
        return invalid("has another scheme than http and https");
    }
    if !url.has_host() {
        return invalid("has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("has a user or password: put credentials into their own members");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("has a query or fragment: use scheme, host and port");
    }
    if !may_have_path && !matches!(url.path(), "" | "/") {
        return invalid("has a path: use scheme, host and port");
    }
    Ok(())
}

/// Checks a value that becomes a part of a header.
///
/// # Errors
/// [`SourceError::Field`], if the value can't be a part of one.
pub(crate) fn check_header_part(field: &'static str, value: &str) -> Result<(), SourceError> {
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(SourceError::field(field, "has spaces or other characters that no key or region has"))
}

/// Checks the setting `timeout-seconds`.
///
/// # Errors
/// [`SourceError::Field`], if it is out of range.
pub(crate) fn check_timeout(seconds: Option<u64>) -> Result<(), SourceError> {
    match seconds {
        Some(seconds) if !TIMEOUT_SECONDS.contains(seconds) => {
            Err(SourceError::field("timeout-seconds", format!("is out of range: {TIMEOUT_SECONDS}")))
        }
        _ => Ok(()),
    }
}

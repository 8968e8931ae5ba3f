//! The HTTP transport of object stores: digests of uploads, and redirects and missing features that OpenDAL leaves
//! unexplained.

use futures_util::future::BoxFuture;
use futures_util::stream;
use http::header::{ETAG, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use opendal::raw::format_content_md5_iter;
use opendal::raw::oio::ReadStream as _;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Result};
use opendal_http_transport_reqwest::ReqwestTransport;

use crate::reload::Reloaded;
use crate::xml;

/// The header by which S3 names a bucket's region.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Sends requests with the current client.
pub(crate) struct ReloadedHttp(pub(crate) Reloaded<reqwest::Client>);

impl HttpTransport for ReloadedHttp {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        ReqwestTransport::new(self.0.get()).fetch(request).await
    }
}

/// Sends the requests of a bucket.
pub(crate) struct StoreTransport {
    pub(crate) http: HttpTransporter,
    /// True to send the MD5 of each upload, which the store compares with the bytes that it got.
    pub(crate) md5: bool,
    /// Signs the requests; `None` if OpenDAL has signed them.
    pub(crate) signer: Option<Box<dyn Sign>>,
}

/// Signs requests after the transport has completed their headers.
pub(crate) trait Sign: Send + Sync + Unpin + 'static {
    /// Signs a request.
    fn sign(&self, request: Request<Buffer>) -> BoxFuture<'_, Result<Request<Buffer>>>;
}

impl HttpTransport for StoreTransport {
    async fn fetch(&self, mut request: Request<Buffer>) -> Result<Response<HttpBody>> {
        if self.md5 && request.method() == Method::PUT {
            let digest = format_content_md5_iter(request.body().clone());
            if let Ok(digest) = HeaderValue::from_str(&digest) {
                request.headers_mut().insert("content-md5", digest);
            }
        }
        if let Some(signer) = &self.signer {
            request = signer.sign(request).await?;
        }
        let write = Write::of(&request);
        let mut response = explain(self.http.fetch(request).await?).await?;
        let Some(write) = write else { return Ok(response) };
        if response.status().is_success() {
            if write.kind == WriteKind::Put && !response.headers().contains_key(ETAG) {
                return Err(Error::new(ErrorKind::Unexpected, NO_ETAG));
            }
            response = write.check_success(response).await?;
        }
        if matches!(response.status(), StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED) {
            response = write.check_conflict(response).await?;
        }
        Ok(response)
    }
}

/// A request that writes a part of an object, or all of it.
#[derive(Debug, Clone, Copy)]
struct Write {
    kind: WriteKind,
    /// True if the object must not exist.
    is_conditional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteKind {
    /// The upload of an object, or of a part.
    Put,
    /// The begin of an upload in parts.
    Begin,
    /// The end of an upload in parts.
    Completion,
}

/// Codes of stores whose object exists. Their status is 409 or 412.
const EXISTS: [&str; 3] = ["FileAlreadyExists", "FileImmutable", "ObjectAlreadyExists"];

impl Write {
    /// Returns the write of a request.
    fn of(request: &Request<Buffer>) -> Option<Self> {
        let query = request.uri().query().unwrap_or_default();
        let kind = match *request.method() {
            Method::PUT => WriteKind::Put,
            Method::POST if query.contains("uploadId=") => WriteKind::Completion,
            Method::POST if query.contains("uploads") => WriteKind::Begin,
            _ => return None,
        };
        let has = |name: &str| request.headers().contains_key(name);
        Some(Self { kind, is_conditional: has("if-none-match") || has("x-oss-forbid-overwrite") })
    }

    /// Checks the body of an answer with success: a store may send status 200 first, and an error later. A page of a
    /// proxy is no answer to an upload in parts.
    async fn check_success(self, response: Response<HttpBody>) -> Result<Response<HttpBody>> {
        let (response, text) = with_text(response).await?;
        if text.contains("<Error>") || text.contains("<Error ") {
            let message = format!("{} with an error{}", response.status(), said(&text));
            return Err(Error::new(ErrorKind::Unexpected, message).set_temporary());
        }
        let is_answer = match self.kind {
            WriteKind::Put => true,
            // Without its id, a part would replace the object.
            WriteKind::Begin => element(&text, "UploadId").is_some(),
            WriteKind::Completion => text.contains("CompleteMultipartUploadResult"),
        };
        if is_answer { Ok(response) } else { Err(Error::new(ErrorKind::Unexpected, NO_RESULT)) }
    }

    /// Tells an object that exists from a conflict with a concurrent request, and from an answer of a proxy. Without
    /// permission to read, an object that exists counts as the task's own, so only a store may say so.
    async fn check_conflict(self, response: Response<HttpBody>) -> Result<Response<HttpBody>> {
        let (response, text) = with_text(response).await?;
        let status = response.status();
        let code = element(&text, "Code").unwrap_or_default();
        let is_precondition = code.contains("Precondition") || text.trim().is_empty();
        let exists =
            EXISTS.contains(&code.as_str()) || status == StatusCode::PRECONDITION_FAILED && is_precondition;
        let message = format!("{status}{}", said(&text));
        if exists && self.is_conditional {
            return Err(Error::new(ErrorKind::ConditionNotMatch, message));
        }
        let conflict = Error::new(ErrorKind::Conflict, message);
        // A conflict ends an upload in parts: the next attempt begins another.
        let may_repeat = status == StatusCode::CONFLICT && !exists && self.kind == WriteKind::Put;
        Err(if may_repeat { conflict.set_temporary() } else { conflict })
    }
}

/// Reads the body of an answer, and returns its text beside it.
async fn with_text(response: Response<HttpBody>) -> Result<(Response<HttpBody>, String)> {
    let (parts, mut body) = response.into_parts();
    let body = body.read_all().await?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let size = body.len() as u64;
    Ok((Response::from_parts(parts, HttpBody::new(stream::iter([Ok(body)]), Some(size))), text))
}

/// Returns what an error of the store says, after a colon.
fn said(body: &str) -> String {
    let said: Vec<_> = ["Code", "Message"].iter().filter_map(|name| element(body, name)).collect();
    if said.is_empty() { String::new() } else { format!(": {}", said.join(": ")) }
}

/// The error of an upload that somebody else than a store has answered.
const NO_ETAG: &str = "success without an ETag: this is not the answer of an object store. A proxy may have answered: check `endpoint` and `proxy`";

/// The error of an upload in parts that somebody else than a store has answered.
const NO_RESULT: &str = "success without a result: this is not the answer of an object store. A proxy may have answered: check `endpoint` and `proxy`";

/// Converts answers to errors whose words say what to do. OpenDAL keeps neither the status nor the target of a redirect.
async fn explain(response: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let status = response.status();
    let is_redirect = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
    let kind = match status {
        _ if is_redirect => ErrorKind::Unexpected,
        StatusCode::NOT_IMPLEMENTED => ErrorKind::Unsupported,
        StatusCode::UNAUTHORIZED => ErrorKind::PermissionDenied,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => ErrorKind::Unexpected,
        _ => return Ok(response),
    };
    let (parts, mut body) = response.into_parts();
    let body = body.read_all().await?.to_bytes();
    let body = String::from_utf8_lossy(&body[..body.len().min(64 << 10)]).into_owned();
    let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let said = said(&body);
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(Error::new(kind, format!("{status}{said}: set `proxy` to a URL with user and password")));
    }
    if !is_redirect {
        return Err(Error::new(kind, format!("{status}{said}")));
    }
    // A query may have credentials.
    let target =
        header(LOCATION.as_str()).map(|target| target.split('?').next().unwrap_or_default().to_owned());
    let target = target.or_else(|| element(&body, "Endpoint"));
    let target = target.unwrap_or_else(|| "another endpoint".into());
    let region = header(BUCKET_REGION).or_else(|| element(&body, "Region"));
    let region = region.map_or_else(String::new, |region| format!(" (region {region})"));
    let settings = if region.is_empty() { "`endpoint`" } else { "`endpoint` and `region`" };
    let message =
        format!("{status}{said}: {REDIRECTS} {target}{region}: set {settings} of the destination to it");
    Err(Error::new(kind, message))
}

/// Words of the error of a redirect.
pub(crate) const REDIRECTS: &str = "the store redirects to";

/// Returns the text of an XML element, if it has one.
fn element(body: &str, name: &str) -> Option<String> {
    xml::text(body, name).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_elements() {
        let body = "<Error><Code>TemporaryRedirect</Code><Endpoint> b.s3.eu-west-1.amazonaws.com </Endpoint><Message></Message></Error>";
        assert_eq!(element(body, "Code").as_deref(), Some("TemporaryRedirect"));
        assert_eq!(element(body, "Endpoint").as_deref(), Some("b.s3.eu-west-1.amazonaws.com"));
        assert_eq!(element(body, "Message"), None);
        assert_eq!(element("<html>", "Code"), None);
    }
}

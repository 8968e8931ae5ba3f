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
        let is_put = request.method() == Method::PUT;
        let completes = request.method() == Method::POST
            && request.uri().query().is_some_and(|query| query.contains("uploadId="));
        let response = explain(self.http.fetch(request).await?).await?;
        if completes && response.status() == StatusCode::OK {
            return check_completion(response).await;
        }
        if is_put && response.status().is_success() && !response.headers().contains_key(ETAG) {
            return Err(Error::new(ErrorKind::Unexpected, NO_ETAG));
        }
        Ok(response)
    }
}

/// Checks the answer to a completed upload: a store may send status 200 first, and an error later.
async fn check_completion(response: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let (parts, mut body) = response.into_parts();
    let body = body.read_all().await?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if text.contains("<Error>") {
        let message = format!("{} with an error{}", parts.status, said(&text));
        return Err(Error::new(ErrorKind::Unexpected, message).set_temporary());
    }
    let size = body.len() as u64;
    Ok(Response::from_parts(parts, HttpBody::new(stream::iter([Ok(body)]), Some(size))))
}

/// Returns what an error of the store says, after a colon.
fn said(body: &str) -> String {
    let said: Vec<_> = ["Code", "Message"].iter().filter_map(|name| element(body, name)).collect();
    if said.is_empty() { String::new() } else { format!(": {}", said.join(": ")) }
}

/// The error of an upload that somebody else than a store has answered.
const NO_ETAG: &str = "success without an ETag: this is not the answer of an object store. A proxy may have answered: check `endpoint` and `proxy`";

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

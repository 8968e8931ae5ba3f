//! Delivery of objects.

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyperium::header::CONTENT_LENGTH;
use hyperium::{HeaderMap, Method};
use spin_sdk::http::{self, FullBody};
use spin_sdk::wasip3::http::types::ErrorCode;

use crate::call::Call;
use crate::losses::LOST;
use crate::object::Object;
use crate::problem::Problem;
use crate::rule::Deliver;
use crate::s3;

/// A request to a destination.
type Request = hyperium::Request<FullBody<Bytes>>;

/// The result of a call.
#[derive(Debug)]
pub struct Delivered {
    /// The headers of the response.
    pub headers: Vec<(&'static str, String)>,
    /// The object, for rules that deliver to the caller.
    pub object: Option<Object>,
}

/// Delivers an object to the rule's destination.
///
/// # Errors
/// If the delivery was not confirmed.
pub async fn object(deliver: &Deliver, call: &Call, object: Object) -> Result<Delivered, Problem> {
    let mut stored = Stored::of(&object);
    let outcome = match deliver {
        Deliver::S3(bucket) => match s3::put(bucket, call, &object).await? {
            PutOutcome::Put => PUT,
            PutOutcome::Identical => WAS_PUT_BEFORE,
            PutOutcome::Earlier(earlier) => {
                stored = earlier;
                WAS_PUT_BEFORE
            }
        },
        Deliver::Url => put(call, &object).await?,
        Deliver::Caller | Deliver::Hec(_) => {
            return Ok(Delivered { headers: headers(call, &object, stored), object: Some(object) });
        }
    };
    let mut headers = headers(call, &object, stored);
    headers.push((DELIVERED, outcome.to_owned()));
    Ok(Delivered { headers, object: None })
}

/// The header with the name and version of each stage used.
pub const STAGES: &str = "x-logship-stages";
/// The header with the kind of the rule's destination.
pub const DELIVERS: &str = "x-logship-delivers";
/// The header of a delivered object. Without it, the object is the response's body.
const DELIVERED: &str = "x-logship-delivered";
const PUT: &str = "put";
const WAS_PUT_BEFORE: &str = "was there";

/// The outcome of putting an object.
#[derive(Debug)]
pub(crate) enum PutOutcome {
    /// This call put the object.
    Put,
    /// An earlier call put the identical object.
    Identical,
    /// An earlier call put this task's object, made by other stages.
    Earlier(Stored),
}

/// The object at the destination.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The object's size in bytes.
    pub(crate) bytes: u64,
    /// The object's digest, in hexadecimal.
    pub(crate) digest: String,
    /// The stages that made the object.
    pub(crate) stages: String,
}

impl Stored {
    fn of(object: &Object) -> Self {
        let (digest, stages) = (object.digest.clone(), object.stages.clone());
        Self { bytes: object.bytes.len() as u64, digest, stages }
    }
}

fn headers(call: &Call, object: &Object, stored: Stored) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("x-logship-task", call.task.to_string()),
        ("x-logship-key", object.key.clone()),
        ("x-logship-rows", object.rows.to_string()),
        ("x-logship-raw-bytes", object.raw_bytes.to_string()),
        ("x-logship-stored-bytes", stored.bytes.to_string()),
        (object.digest_kind.header(), stored.digest),
        (STAGES, stored.stages),
    ];
    headers.extend(object.losses.header().map(|losses| (LOST, losses)));
    headers
}

/// Puts an object to the presigned URL of the call. The caller signed the URL for the object's key.
async fn put(call: &Call, object: &Object) -> Result<&'static str, Problem> {
    let Some(url) = &call.put_url else {
        return Err(Problem::bad_call(format!(
            "{} is missing: send the presigned URL that the rule delivers to",
            crate::call::PUT_URL
        )));
    };
    let request = http::Request::put(url)
        .body(FullBody::new(Bytes::from(object.bytes.clone())))
        .map_err(|error| Problem::bad_call(format!("{}: {error}", crate::call::PUT_URL)))?;
    let response = send(request).await?;
    if response.is_success() { Ok(PUT) } else { Err(response.problem("the presigned URL")) }
}

/// Codes of S3 for wrong or expired credentials, which may come with status 400.
const CREDENTIAL_ERRORS: [&str; 4] =
    ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidSecurity"];

/// Codes of S3 for failures that a retry mends, although their status is 400.
const TEMPORARY_ERRORS: [&str; 4] =
    ["RequestTimeout", "BadDigest", "XAmzContentChecksumMismatch", "IncompleteBody"];

/// The response of a destination.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
    headers: HeaderMap,
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Converts an error response to a problem. A retry can help for problems of the destination, but not for
    /// problems of this call.
    pub(crate) fn problem(&self, destination: &str) -> Problem {
        let Self { status, body, .. } = self;
        let excerpt: String = String::from_utf8_lossy(body).chars().take(300).collect();
        let hint = match (status, self.header("location")) {
            (300..400, Some(location)) => {
                let target = location.split('?').next().unwrap_or_default();
                format!(". It redirects to {target}: set the rule's destination to it")
            }
            (501, _) => {
                ". The store must support conditional writes (If-None-Match: *) and Content-MD5".into()
            }
            _ => String::new(),
        };
        let detail = format!("{destination} responded {status}: {excerpt}{hint}");
        let says = |codes: &[&str]| codes.iter().any(|code| excerpt.contains(&format!("<Code>{code}")));
        let problem = match status {
            429 | 503 => Problem::new(503, "destination-busy", detail),
            400 if says(&CREDENTIAL_ERRORS) => Problem::new(502, "destination-refused", detail),
            300..400 => Problem::new(502, "destination-failed", detail),
            400 if says(&TEMPORARY_ERRORS) => Problem::new(502, "destination-failed", detail),
            // The same call succeeds after the access key is renewed or the bucket is created.
            401 | 403 => Problem::new(502, "destination-refused", detail),
            404 => Problem::new(502, "destination-missing", detail),
            500.. => Problem::new(502, "destination-failed", detail),
            _ => Problem::new(422, "destination-rejected", detail),
        };
        Problem { retry_after: self.header("retry-after").map(str::to_owned), ..problem }
    }
}

/// Fetches an announced batch.
pub(crate) async fn get(url: &str) -> Result<Vec<u8>, Problem> {
    let invalid = |error| Problem::bad_call(format!("`url`: {error}"));
    let response = send(http::Request::get(url).body(FullBody::new(Bytes::new())).map_err(invalid)?).await?;
    if !response.is_success() {
        return Err(response.problem("`url`"));
    }
    if response.body.len() > crate::body::MAX_BODY {
        return Err(Problem::too_large(format!("{url} has more than {} bytes", crate::body::MAX_BODY)));
    }
    Ok(response.body.into())
}

/// The kind of problem if a destination does not respond.
pub(crate) const UNREACHABLE: &str = "destination-unreachable";

/// Adds the length of the body. Without it the host sends chunks, which S3 rejects.
fn with_length(mut request: Request) -> Request {
    let length = request.body().size_hint().exact();
    if let Some(length) = length.filter(|_| !matches!(*request.method(), Method::GET | Method::HEAD)) {
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    request
}

/// Sends a request to a destination.
pub(crate) async fn send(request: Request) -> Result<Response, Problem> {
    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |error: ErrorCode| match error {
        ErrorCode::HttpRequestDenied => Problem::new(
            500,
            "destination-forbidden",
            format!("the function may not connect to {host}: add it to allowed_outbound_hosts in spin.toml"),
        ),
        error => Problem::new(502, UNREACHABLE, format!("cannot connect to {host}: {error}")),
    };
    let response = http::send(with_length(request)).await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(unreachable)?.to_bytes();
    Ok(Response { status, body, headers: head.headers })
}

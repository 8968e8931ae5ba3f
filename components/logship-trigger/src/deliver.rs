//! Where the bytes go.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use spin_sdk::http::{self, FullBody};
use spin_sdk::wasip3::http::types::ErrorCode;

use crate::call::Call;
use crate::object::Object;
use crate::problem::Problem;
use crate::rule::Deliver;
use crate::s3;

/// A request to a destination.
type Request = hyperium::Request<FullBody<Bytes>>;

/// What came of a call.
#[derive(Debug)]
pub struct Delivered {
    /// What the headers of the answer say of it.
    pub facts: Vec<(&'static str, String)>,
    /// The object, where the caller gets it.
    pub object: Option<Object>,
}

/// Brings an object to where the rule says.
///
/// # Errors
/// When it is not there for sure.
pub async fn object(deliver: &Deliver, call: &Call, object: Object) -> Result<Delivered, Problem> {
    let mut facts = facts(call, &object);
    let there = match deliver {
        Deliver::S3(bucket) => s3::put(bucket, call, &object).await?,
        Deliver::Url => put(call, &object).await?,
        Deliver::Caller | Deliver::Hec(_) => return Ok(Delivered { facts, object: Some(object) }),
    };
    facts.push(("x-logship-delivered", there.to_owned()));
    Ok(Delivered { facts, object: None })
}

fn facts(call: &Call, object: &Object) -> Vec<(&'static str, String)> {
    vec![
        ("x-logship-task", call.task.to_string()),
        ("x-logship-key", object.key.clone()),
        ("x-logship-rows", object.rows.to_string()),
        ("x-logship-raw-bytes", object.raw_bytes.to_string()),
        ("x-logship-stored-bytes", object.bytes.len().to_string()),
        ("x-logship-sha256", object.sha256.clone()),
        ("x-logship-stages", object.stages.clone()),
    ]
}

/// Puts an object to the presigned URL of the call. The URL was made for its key, by who knows it.
async fn put(call: &Call, object: &Object) -> Result<&'static str, Problem> {
    let Some(url) = &call.put_url else {
        return Err(Problem::bad_call(format!(
            "{} is missing: the presigned URL that the rule delivers to",
            crate::call::PUT_URL
        )));
    };
    let request = http::Request::put(url)
        .body(FullBody::new(Bytes::from(object.bytes.clone())))
        .map_err(|error| Problem::bad_call(format!("{}: {error}", crate::call::PUT_URL)))?;
    let answer = send(request).await?;
    if answer.is_success() { Ok("put") } else { Err(answer.problem("the presigned URL")) }
}

/// What a destination answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
    /// The headers that matter.
    retry_after: Option<String>,
    sha256: Option<String>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// SHA-256 of the object, as its metadata have it.
    pub(crate) fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// A refusal, as a problem: what the destination says of itself passes, and is told apart from what it says of
    /// this call.
    pub(crate) fn problem(&self, what: &str) -> Problem {
        let Self { status, body, retry_after, .. } = self;
        let said: String = String::from_utf8_lossy(body).chars().take(300).collect();
        let detail = format!("{what} answered {status}: {said}");
        let problem = match status {
            429 | 503 => Problem::new(503, "destination-busy", detail),
            // A key that is renewed, or a bucket that is made, makes the same call succeed.
            401 | 403 | 404 => Problem::new(502, "destination-refused", detail),
            500.. => Problem::new(502, "destination-failed", detail),
            _ => Problem::new(422, "destination-rejected", detail),
        };
        Problem { retry_after: retry_after.clone(), ..problem }
    }
}

/// Gets a batch from where it was announced to be.
pub(crate) async fn get(url: &str) -> Result<Vec<u8>, Problem> {
    let wrong = |error| Problem::bad_call(format!("`url`: {error}"));
    let answer = send(http::Request::get(url).body(FullBody::new(Bytes::new())).map_err(wrong)?).await?;
    if !answer.is_success() {
        return Err(answer.problem("`url`"));
    }
    if answer.body.len() > crate::body::MOST {
        return Err(Problem::too_large(format!("{url} has more than {} bytes", crate::body::MOST)));
    }
    Ok(answer.body.into())
}

/// Sends a request to a destination.
pub(crate) async fn send(request: Request) -> Result<Answer, Problem> {
    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |error: ErrorCode| match error {
        ErrorCode::HttpRequestDenied => Problem::new(
            500,
            "destination-forbidden",
            format!(
                "the function may not reach {host}: it is not in its allowed_outbound_hosts in spin.toml"
            ),
        ),
        error => Problem::new(502, "destination-unreachable", format!("{host} can't be reached: {error}")),
    };
    let response = http::send(request).await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let (retry_after, sha256) = (header("retry-after"), header(&format!("x-amz-meta-{}", s3::SHA256)));
    let body = response.into_body().collect().await.map_err(unreachable)?.to_bytes();
    Ok(Answer { status, body, retry_after, sha256 })
}

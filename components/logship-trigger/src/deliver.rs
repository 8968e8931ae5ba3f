//! Where the bytes go.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyperium::HeaderMap;
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
    let mut stored = Stored::of(&object);
    let there = match deliver {
        Deliver::S3(bucket) => match s3::put(bucket, call, &object).await? {
            There::Put => PUT,
            There::Same => WAS_THERE,
            There::Earlier(earlier) => {
                stored = earlier;
                WAS_THERE
            }
        },
        Deliver::Url => put(call, &object).await?,
        Deliver::Caller | Deliver::Hec(_) => {
            return Ok(Delivered { facts: facts(call, &object, stored), object: Some(object) });
        }
    };
    let mut facts = facts(call, &object, stored);
    facts.push((DELIVERED, there.to_owned()));
    Ok(Delivered { facts, object: None })
}

/// The header with the stages that take part: name and version of each.
pub const STAGES: &str = "x-logship-stages";
/// The header with where a rule delivers to.
pub const DELIVERS: &str = "x-logship-delivers";
/// The header of an object that is where it has to be; without it, it is the body.
const DELIVERED: &str = "x-logship-delivered";
const PUT: &str = "put";
const WAS_THERE: &str = "was there";

/// What became of an object at its destination.
#[derive(Debug)]
pub(crate) enum There {
    /// It was put.
    Put,
    /// A call before this one had put it.
    Same,
    /// A call before this one had put the object of this task, as other stages make it.
    Earlier(Stored),
}

/// What is at the destination.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// What they are checked by, in hexadecimal.
    pub(crate) digest: String,
    /// The stages that made it.
    pub(crate) stages: String,
}

impl Stored {
    fn of(object: &Object) -> Self {
        let (digest, stages) = (object.digest.clone(), object.stages.clone());
        Self { bytes: object.bytes.len() as u64, digest, stages }
    }
}

fn facts(call: &Call, object: &Object, stored: Stored) -> Vec<(&'static str, String)> {
    vec![
        ("x-logship-task", call.task.to_string()),
        ("x-logship-key", object.key.clone()),
        ("x-logship-rows", object.rows.to_string()),
        ("x-logship-raw-bytes", object.raw_bytes.to_string()),
        ("x-logship-stored-bytes", stored.bytes.to_string()),
        (object.checked_by.header(), stored.digest),
        (STAGES, stored.stages),
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
    if answer.is_success() { Ok(PUT) } else { Err(answer.problem("the presigned URL")) }
}

/// What a destination answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
    headers: HeaderMap,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A refusal, as a problem: what the destination says of itself passes, and is told apart from what it says of
    /// this call.
    pub(crate) fn problem(&self, what: &str) -> Problem {
        let Self { status, body, .. } = self;
        let said: String = String::from_utf8_lossy(body).chars().take(300).collect();
        let detail = format!("{what} answered {status}: {said}");
        let problem = match status {
            429 | 503 => Problem::new(503, "destination-busy", detail),
            // A key that is renewed, or a bucket that is made, makes the same call succeed.
            401 | 403 => Problem::new(502, "destination-refused", detail),
            404 => Problem::new(502, "destination-missing", detail),
            500.. => Problem::new(502, "destination-failed", detail),
            _ => Problem::new(422, "destination-rejected", detail),
        };
        Problem { retry_after: self.header("retry-after").map(str::to_owned), ..problem }
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

/// The kind of problem that is no answer at all.
pub(crate) const UNREACHABLE: &str = "destination-unreachable";

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
        error => Problem::new(502, UNREACHABLE, format!("{host} can't be reached: {error}")),
    };
    let response = http::send(request).await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(unreachable)?.to_bytes();
    Ok(Answer { status, body, headers: head.headers })
}

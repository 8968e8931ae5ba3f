//! Puts objects into a bucket of S3 or of a compatible store.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use rusty_s3::actions::{HeadObject, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use spin_sdk::http::{self, FullBody};
use spin_sdk::wasip3::clocks::monotonic_clock::wait_for;

use crate::call::Call;
use crate::deliver::{PutOutcome, Response, Stored, UNREACHABLE, send};
use crate::object::Object;
use crate::problem::Problem;
use crate::rule::{S3, variable};

/// The lifetime of a signature.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(600);

/// Puts an object if its key is unused. An existing object with the same bytes was put by an earlier call. An existing
/// object with the same task and logs was made by other stages. Both count as delivered, so that logs are delivered
/// exactly once.
pub(crate) async fn put(settings: &S3, call: &Call, object: &Object) -> Result<PutOutcome, Problem> {
    let invalid = |problem: String| Problem::settings(format!("deliver: {problem}"));
    if !settings.endpoint.starts_with("https://") && !settings.endpoint.starts_with("http://") {
        let problem =
            format!("endpoint {:?} has no scheme: begin with https:// or http://", settings.endpoint);
        return Err(invalid(problem));
    }
    let endpoint = settings
        .endpoint
        .parse()
        .map_err(|error| invalid(format!("endpoint {:?}: {error}", settings.endpoint)))?;
    let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
    let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
        .map_err(|error| invalid(error.to_string()))?;
    let credentials =
        Credentials::new(variable("s3_access_key_id").await?, variable("s3_secret_access_key").await?);
    let response = match put_if_absent(&bucket, &credentials, call, object).await {
        Ok(response) => response,
        // The object may exist: some stores respond before they have read the complete request, then disconnect.
        Err(problem) if problem.kind == UNREACHABLE => {
            let found = head(&bucket, &credentials, &object.key).await;
            let Some(found) = found.ok().filter(Response::is_success) else { return Err(problem) };
            return outcome_of(call, object, &found).ok_or_else(|| other_object(object));
        }
        Err(problem) => return Err(problem),
    };
    if response.is_success() {
        return Ok(PutOutcome::Put);
    }
    // Another call is writing the object (409) or has written it (412).
    if !matches!(response.status, 409 | 412) {
        return Err(response.problem(&format!("bucket {:?}", settings.bucket)));
    }
    let found = head(&bucket, &credentials, &object.key).await?;
    if let Some(outcome) = outcome_of(call, object, &found) {
        return Ok(outcome);
    }
    if response.status == 409 || !found.is_success() {
        return Err(Problem::new(503, "destination-busy", "another call is writing the object"));
    }
    Err(other_object(object))
}

fn other_object(object: &Object) -> Problem {
    let detail = format!(
        "{} already exists with other logs and was not overwritten: use a key of its own for each object",
        object.key
    );
    Problem::new(409, "other-object", detail)
}

/// Returns the outcome if the existing object is the task's object.
fn outcome_of(call: &Call, object: &Object, found: &Response) -> Option<PutOutcome> {
    if found.header(SHA256) == Some(&object.digest) {
        return Some(PutOutcome::Identical);
    }
    earlier_object(call, object, found).map(PutOutcome::Earlier)
}

/// Returns the existing object if an earlier call of this task put it, with other stages but the same logs.
fn earlier_object(call: &Call, object: &Object, found: &Response) -> Option<Stored> {
    let has = |name: &str, value: &str| found.header(name) == Some(value);
    let has_same_logs = has(TASK, &call.task.to_string())
        && has(SOURCE, &source(call))
        && !call.range.is_empty()
        && has(RANGE, &call.range)
        && has(ROWS, &object.rows.to_string());
    if !has_same_logs {
        return None;
    }
    Some(Stored {
        bytes: found.header("content-length")?.parse().ok()?,
        digest: found.header(SHA256)?.to_owned(),
        stages: found.header(STAGES)?.to_owned(),
    })
}

// Metadata of objects.
const TASK: &str = "x-amz-meta-logship-task";
const SOURCE: &str = "x-amz-meta-logship-source";
const RANGE: &str = "x-amz-meta-logship-range";
const STAGES: &str = "x-amz-meta-logship-stages";
const ROWS: &str = "x-amz-meta-logship-rows";
const SHA256: &str = "x-amz-meta-logship-sha256";
const HEADS: [&str; 2] = ["x-amz-meta-logship-head-before", "x-amz-meta-logship-head"];

fn source(call: &Call) -> String {
    format!("{}/{}/{}", call.project, call.logstore, call.shard)
}

async fn put_if_absent(
    bucket: &Bucket,
    credentials: &Credentials,
    call: &Call,
    object: &Object,
) -> Result<Response, Problem> {
    let mut action = PutObject::new(bucket, Some(credentials), &object.key);
    let mut headers = vec![
        ("content-type", object.media_type.clone()),
        ("if-none-match", "*".to_owned()),
        // The store compares it with what it got. Buckets with Object Lock require it.
        ("content-md5", STANDARD.encode(Md5::digest(&object.bytes))),
        (TASK, call.task.to_string()),
        (SOURCE, source(call)),
        (RANGE, call.range.clone()),
        (STAGES, object.stages.clone()),
        (ROWS, object.rows.to_string()),
        (SHA256, object.digest.clone()),
    ];
    headers.extend(call.heads.iter().flat_map(|heads| HEADS.into_iter().zip(heads.clone())));
    for (name, value) in &headers {
        action.headers_mut().insert(*name, value.clone());
    }
    let mut request = http::Request::put(action.sign(SIGNATURE_LIFETIME).as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(FullBody::new(Bytes::from(object.bytes.clone())));
    send(request.map_err(|error| Problem::bad_call(format!("the call's headers: {error}")))?).await
}

/// Asks for an object. Asks again if the connection fails: a store that has hung up may do so on the next connection,
/// and the host may use one that is just being closed.
async fn head(bucket: &Bucket, credentials: &Credentials, key: &str) -> Result<Response, Problem> {
    for delay in HEAD_DELAYS {
        match head_once(bucket, credentials, key).await {
            Err(problem) if problem.kind == UNREACHABLE => wait_for(delay).await,
            other => return other,
        }
    }
    head_once(bucket, credentials, key).await
}

/// The delays before an object is asked for again, in nanoseconds.
const HEAD_DELAYS: [u64; 2] = [50_000_000, 300_000_000];

async fn head_once(bucket: &Bucket, credentials: &Credentials, key: &str) -> Result<Response, Problem> {
    let url = HeadObject::new(bucket, Some(credentials), key).sign(SIGNATURE_LIFETIME);
    let request = http::Request::head(url.as_str()).body(FullBody::new(Bytes::new()));
    send(request.map_err(|error| Problem::settings(error.to_string()))?).await
}

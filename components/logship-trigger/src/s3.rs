//! Objects into a bucket of S3, or of a store compatible with it.

use std::time::Duration;

use bytes::Bytes;
use rusty_s3::actions::{HeadObject, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use spin_sdk::http::{self, FullBody};

use crate::call::Call;
use crate::deliver::{Answer, Stored, There, UNREACHABLE, send};
use crate::object::Object;
use crate::problem::Problem;
use crate::rule::{S3, variable};

/// How long a signature is good for.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// Puts an object where none is. One that is there and has the same bytes is what a call before this one wrote; so is
/// one of the same task and the same logs, which other stages made: the logs are where they belong, and are so once.
pub(crate) async fn put(settings: &S3, call: &Call, object: &Object) -> Result<There, Problem> {
    let wrong = |problem: String| Problem::settings(format!("deliver: {problem}"));
    let endpoint = settings
        .endpoint
        .parse()
        .map_err(|error| wrong(format!("endpoint {:?}: {error}", settings.endpoint)))?;
    let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
    let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
        .map_err(|error| wrong(error.to_string()))?;
    let credentials =
        Credentials::new(variable("s3_access_key_id").await?, variable("s3_secret_access_key").await?);
    let answer = match put_if_absent(&bucket, &credentials, call, object).await {
        Ok(answer) => answer,
        // It may be there all the same: some stores say so before they have read all of it, and hang up.
        Err(problem) if problem.kind == UNREACHABLE => {
            let found = head(&bucket, &credentials, &object.key).await;
            let Some(found) = found.ok().filter(Answer::is_success) else { return Err(problem) };
            return there(call, object, &found).ok_or_else(|| of_others(object));
        }
        Err(problem) => return Err(problem),
    };
    if answer.is_success() {
        return Ok(There::Put);
    }
    // Another call is writing it (409), or has (412).
    if !matches!(answer.status, 409 | 412) {
        return Err(answer.problem(&format!("bucket {:?}", settings.bucket)));
    }
    let found = head(&bucket, &credentials, &object.key).await?;
    if let Some(there) = there(call, object, &found) {
        return Ok(there);
    }
    if answer.status == 409 || !found.is_success() {
        return Err(Problem::new(503, "destination-busy", "another call is writing the object"));
    }
    Err(of_others(object))
}

fn of_others(object: &Object) -> Problem {
    let detail = format!(
        "{} is there already with other logs, and was left as it is: a key must be an object's own",
        object.key
    );
    Problem::new(409, "other-object", detail)
}

/// Whether what was found is the object of the task.
fn there(call: &Call, object: &Object, found: &Answer) -> Option<There> {
    if found.header(SHA256) == Some(&object.digest) {
        return Some(There::Same);
    }
    earlier(call, object, found).map(There::Earlier)
}

/// What a call of this task put before, with stages that made other bytes of the same logs.
fn earlier(call: &Call, object: &Object, found: &Answer) -> Option<Stored> {
    let is = |name: &str, value: &str| found.header(name) == Some(value);
    let of_same_logs = is(TASK, &call.task.to_string())
        && is(SOURCE, &source(call))
        && !call.range.is_empty()
        && is(RANGE, &call.range)
        && is(ROWS, &object.rows.to_string());
    if !of_same_logs {
        return None;
    }
    Some(Stored {
        bytes: found.header("content-length")?.parse().ok()?,
        digest: found.header(SHA256)?.to_owned(),
        stages: found.header(STAGES)?.to_owned(),
    })
}

/// The metadata of an object.
const TASK: &str = "x-amz-meta-logship-task";
const SOURCE: &str = "x-amz-meta-logship-source";
const RANGE: &str = "x-amz-meta-logship-range";
const STAGES: &str = "x-amz-meta-logship-stages";
const ROWS: &str = "x-amz-meta-logship-rows";
const SHA256: &str = "x-amz-meta-logship-sha256";

fn source(call: &Call) -> String {
    format!("{}/{}/{}", call.project, call.logstore, call.shard)
}

async fn put_if_absent(
    bucket: &Bucket,
    credentials: &Credentials,
    call: &Call,
    object: &Object,
) -> Result<Answer, Problem> {
    let mut action = PutObject::new(bucket, Some(credentials), &object.key);
    let headers = [
        ("content-type", object.media_type.clone()),
        ("if-none-match", "*".to_owned()),
        (TASK, call.task.to_string()),
        (SOURCE, source(call)),
        (RANGE, call.range.clone()),
        (STAGES, object.stages.clone()),
        (ROWS, object.rows.to_string()),
        (SHA256, object.digest.clone()),
    ];
    for (name, value) in &headers {
        action.headers_mut().insert(*name, value.clone());
    }
    let mut request = http::Request::put(action.sign(GOOD_FOR).as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(FullBody::new(Bytes::from(object.bytes.clone())));
    send(request.map_err(|error| Problem::bad_call(format!("the call's headers: {error}")))?).await
}

async fn head(bucket: &Bucket, credentials: &Credentials, key: &str) -> Result<Answer, Problem> {
    let url = HeadObject::new(bucket, Some(credentials), key).sign(GOOD_FOR);
    let request = http::Request::head(url.as_str()).body(FullBody::new(Bytes::new()));
    send(request.map_err(|error| Problem::settings(error.to_string()))?).await
}

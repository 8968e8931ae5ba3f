//! Objects into a bucket of S3, or of a store compatible with it.

use std::time::Duration;

use bytes::Bytes;
use rusty_s3::actions::{HeadObject, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use spin_sdk::http::{self, FullBody};

use crate::call::Call;
use crate::deliver::{Answer, send};
use crate::object::Object;
use crate::problem::Problem;
use crate::rule::{S3, variable};

/// The metadata that has the object's SHA-256: what tells a repeated call that the object is there already.
pub(crate) const SHA256: &str = "logship-sha256";

/// How long a signature is good for.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// Puts an object where none is. One that is there and has the same bytes is what a call before this one wrote.
pub(crate) async fn put(settings: &S3, call: &Call, object: &Object) -> Result<&'static str, Problem> {
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
    let answer = put_if_absent(&bucket, &credentials, call, object).await?;
    if answer.is_success() {
        return Ok("put");
    }
    // Another call is writing it (409), or has (412).
    if matches!(answer.status, 409 | 412) {
        let there = head(&bucket, &credentials, &object.key).await?;
        return match there.sha256() {
            Some(sha256) if sha256 == object.sha256 => Ok("was there"),
            _ if answer.status == 409 || !there.is_success() => {
                Err(Problem::new(503, "destination-busy", "another call is writing the object"))
            }
            _ => Err(Problem::new(
                409,
                "other-object",
                format!(
                    "{} is there already with other bytes, and was left as it is: the task was shipped by other stages or another rule",
                    object.key
                ),
            )),
        };
    }
    Err(answer.problem(&format!("bucket {:?}", settings.bucket)))
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
        ("x-amz-meta-logship-task", call.task.to_string()),
        ("x-amz-meta-logship-source", format!("{}/{}/{}", call.project, call.logstore, call.shard)),
        ("x-amz-meta-logship-range", call.range.clone()),
        ("x-amz-meta-logship-stages", object.stages.clone()),
        ("x-amz-meta-logship-rows", object.rows.to_string()),
        ("x-amz-meta-logship-sha256", object.sha256.clone()),
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

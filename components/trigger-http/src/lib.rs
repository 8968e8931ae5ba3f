//! A function that ships the batches it receives: `POST /v1/ship/RULE` with a batch as its body. `GET` of the same tells
//! what would be made.
//!
//! What the headers say, and what is answered, is told in docs/serverless.md.

use logship_trigger::body::{Body, MOST};
use logship_trigger::call::Call;
use logship_trigger::deliver::Delivered;
use logship_trigger::problem::Problem;
use logship_trigger::rule::{SPEC, Spec, optional};
use sha2::{Digest, Sha256};
use spin_sdk::http::{FullBody, IntoResponse, Request, Response};
use spin_sdk::http_service;
use spin_sdk::wasip3::http::types;
use spin_sdk::wasip3::wit_bindgen::StreamResult;
use spin_sdk::wasip3::wit_future;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    answer(shipped(request).await)
}

async fn shipped(request: Request) -> Result<Delivered, Problem> {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let Some(rule) = path.strip_prefix("/v1/ship/").filter(|rule| !rule.is_empty() && !rule.contains('/'))
    else {
        let detail = format!("{path} is nothing here: POST a batch to /v1/ship/RULE");
        return Err(Problem::new(400, "bad-path", detail));
    };
    let headers = request.headers().clone();
    // Keys of objects may have any letters.
    let header = |name: &str| Some(std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?.to_owned());
    authorize(header("authorization")).await?;
    match method.as_str() {
        "POST" => {}
        "GET" => return logship_trigger::describe(rule, Spec::read(header(SPEC))?).await,
        other => {
            let detail = format!("{other} does nothing here: POST a batch");
            return Err(Problem::new(405, "bad-method", detail));
        }
    }
    let call = Call::read(rule, header)?;
    let length = header("content-length").and_then(|length| length.parse().ok());
    // Before the body is read: nothing is taken of one that is too large anyway.
    if length.is_some_and(|length| length > MOST) {
        return Err(Problem::too_large(too_large()));
    }
    let bytes = read(request, length).await?;
    logship_trigger::ship(&call, Body::read(bytes, header)?).await
}

/// Whether the caller may call: has the token, if the function has one.
async fn authorize(authorization: Option<String>) -> Result<(), Problem> {
    let Some(token) = optional("token").await?.filter(|token| !token.is_empty()) else { return Ok(()) };
    let given = authorization.unwrap_or_default();
    // Of hashes nothing can be learned by how long it takes to compare them.
    let hash = |text: &str| Sha256::digest(text);
    if hash(given.strip_prefix("Bearer ").unwrap_or_default()) == hash(&token) {
        return Ok(());
    }
    let detail = "the call has not the token of this function: Authorization: Bearer TOKEN";
    Err(Problem::new(401, "unauthorized", detail))
}

/// The body, read into one piece of memory: as frames it would be copied twice, sixteen kilobytes at a time.
async fn read(mut request: Request, length: Option<usize>) -> Result<Vec<u8>, Problem> {
    let broken = |error: &str| Problem::new(503, "broken-off", format!("the body broke off: {error}"));
    let request = request.body_mut().take_unstarted().ok_or_else(|| broken("it was read before"))?;
    let (_done, done) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = types::Request::consume_body(request, done);
    // A byte more than there should be, so that the end is seen without growing.
    let mut bytes = Vec::with_capacity(length.unwrap_or(0) + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(64 << 10);
        }
        let (result, read) = stream.read(bytes).await;
        bytes = read;
        if bytes.len() > MOST {
            return Err(Problem::too_large(too_large()));
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    match trailers.await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(broken(&error.to_string())),
    }
}

fn too_large() -> String {
    format!("the body has more than {MOST} bytes: send fewer logs at once, or compress them")
}

fn answer(result: Result<Delivered, Problem>) -> Response<FullBody<bytes::Bytes>> {
    let mut response = Response::builder();
    let body = match result {
        Ok(Delivered { facts, object }) => {
            for (name, value) in facts {
                response = response.header(name, value);
            }
            match object {
                Some(object) => {
                    response = response.header("content-type", object.media_type);
                    object.bytes
                }
                None => vec![],
            }
        }
        Err(problem) => {
            response = response.status(problem.status).header("content-type", "application/problem+json");
            if let Some(seconds) = &problem.retry_after {
                response = response.header("retry-after", seconds);
            }
            problem.body().into_bytes()
        }
    };
    response.body(FullBody::new(body.into())).unwrap_or_else(|_| {
        // A stage that has a line break in its name, for one.
        let mut response = Response::new(FullBody::new("a header can't be written".into()));
        *response.status_mut() = spin_sdk::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

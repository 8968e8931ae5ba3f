//! A function that ships the batches it receives by `POST /v1/ship/RULE`. `GET` of the same path checks the rule and
//! returns its stages.
//!
//! docs/serverless.md describes the headers and the responses.

use logship_trigger::body::{Body, MAX_BODY};
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
    to_response(ship(request).await)
}

async fn ship(request: Request) -> Result<Delivered, Problem> {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let Some(rule) = path.strip_prefix("/v1/ship/").filter(|rule| !rule.is_empty() && !rule.contains('/'))
    else {
        let detail = format!("unknown path {path}: POST a batch to /v1/ship/RULE");
        return Err(Problem::new(400, "bad-path", detail));
    };
    let headers = request.headers().clone();
    // Object keys may have non-ASCII characters.
    let header = |name: &str| Some(std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?.to_owned());
    authorize(header("authorization")).await?;
    match method.as_str() {
        "POST" => {}
        "GET" => return logship_trigger::describe(rule, Spec::read(header(SPEC))?).await,
        other => {
            let detail = format!("method {other} is not supported: POST a batch");
            return Err(Problem::new(405, "bad-method", detail));
        }
    }
    let call = Call::read(rule, header)?;
    let length = header("content-length").and_then(|length| length.parse().ok());
    // Checked before the body is read, so that a body that is too large is not read at all.
    if length.is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::too_large(too_large()));
    }
    let bytes = read(request, length).await?;
    logship_trigger::ship(&call, Body::read(bytes, header)?).await
}

/// Checks the caller's token, if the function has a token.
async fn authorize(authorization: Option<String>) -> Result<(), Problem> {
    let Some(token) = optional("token").await?.filter(|token| !token.is_empty()) else { return Ok(()) };
    let given = authorization.unwrap_or_default();
    // Comparing hashes leaks nothing about the token through timing.
    let hash = |text: &str| Sha256::digest(text);
    if hash(given.strip_prefix("Bearer ").unwrap_or_default()) == hash(&token) {
        return Ok(());
    }
    let detail = "the call does not have the function's token: send Authorization: Bearer TOKEN";
    Err(Problem::new(401, "unauthorized", detail))
}

/// Reads the body into one buffer. Reading frames would copy the body twice, 16 KiB at a time.
async fn read(mut request: Request, length: Option<usize>) -> Result<Vec<u8>, Problem> {
    let cut_off = |error: &str| {
        Problem::new(503, "broken-off", format!("the body was cut off: {error}; send the call again"))
    };
    let request = request.body_mut().take_unstarted().ok_or_else(|| cut_off("it was read before"))?;
    let (_done, done) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = types::Request::consume_body(request, done);
    // One byte more than the body, so that the end is detected without growing the buffer.
    let mut bytes = Vec::with_capacity(length.unwrap_or(0) + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(64 << 10);
        }
        let (result, read) = stream.read(bytes).await;
        bytes = read;
        if bytes.len() > MAX_BODY {
            return Err(Problem::too_large(too_large()));
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    match trailers.await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(cut_off(&error.to_string())),
    }
}

fn too_large() -> String {
    format!("the body has more than {MAX_BODY} bytes: send fewer logs per call, or compress them")
}

fn to_response(result: Result<Delivered, Problem>) -> Response<FullBody<bytes::Bytes>> {
    let mut response = Response::builder();
    let body = match result {
        Ok(Delivered { headers, object }) => {
            for (name, value) in headers {
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
        // For example, a stage's name with a line break is not a valid header.
        let mut response = Response::new(FullBody::new("a response header is invalid".into()));
        *response.status_mut() = spin_sdk::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

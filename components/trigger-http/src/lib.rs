//! A function that ships the batches it receives by `POST /v1/ship/RULE`. `GET` of the same path checks the rule and
//! returns its stages.
//!
//! docs/serverless.md describes the headers and the responses.

mod load;
mod request;
mod response;

use logship_trigger::body::{Body, MAX_BODY};
use logship_trigger::call::Call;
use logship_trigger::deliver::Delivered;
use logship_trigger::problem::Problem;
use logship_trigger::rule::{SPEC, Spec, optional};
use sha2::{Digest, Sha256};
use spin_sdk::http::{Error, Request};
use spin_sdk::http_service;
use spin_sdk::wasip3::http::types::Response;

use crate::load::Load;

#[http_service]
async fn handle(request: Request) -> Result<Response, Error> {
    // Before the first wait, so that the host gives the instance no call too many.
    let mut load = Load::add(0);
    let result = ship(request, &mut load).await;
    Ok(response::response(result, load).await?)
}

/// Ships the batch of a call, or describes a rule. Sets the call's load.
async fn ship(request: Request, load: &mut Load) -> Result<Delivered, Problem> {
    load::read_concurrency().await?;
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
    let length = header("content-length").and_then(|length| length.parse().ok());
    // Checked first, so that a body that is too large is rejected while the client begins to send it.
    if length.is_some_and(|length: usize| length > MAX_BODY) {
        request::reject(request);
        return Err(request::too_large());
    }
    let call = Call::read(rule, header)?;
    *load = Load::add(request::estimated_size(length, header));
    let bytes = request::read(request, length).await?;
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

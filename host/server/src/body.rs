//! Receives the bodies of requests, within limits of size, time and memory.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use logship_config::service::Limits;
use logship_listener::requests::MAX_STALLS;
use logship_sls::error::{ApiError, ErrorCode};
use tokio::sync::Notify;

use crate::Service;
use crate::fair_budget::Owner;

/// Receives the body. The bytes hold their memory, which is taken as they arrive.
pub(crate) async fn receive(
    service: &Service,
    parts: &Parts,
    mut body: Incoming,
    owner: Owner,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let limits = &service.config.limits;
    let too_large = |size: usize| {
        ApiError::new(ErrorCode::PostBodyTooLarge, format!("the body has {size} bytes; the limit is {limit}"))
    };
    let declared = match parts.headers.get(CONTENT_LENGTH) {
        None if body.is_end_stream() && matches!(parts.method, Method::POST | Method::PUT) => {
            let message = "the request has neither Content-Length nor chunked encoding, so it has no body";
            return Err(ApiError::new(ErrorCode::MissingContentLength, message));
        }
        _ if body.is_end_stream() => return Ok(Bytes::new()),
        // hyper has validated the number.
        Some(_) => body.size_hint().exact().map_or(limit, |size| size.try_into().unwrap_or(usize::MAX)),
        // Chunked encoding.
        None => 0,
    };
    if declared > limit {
        return Err(too_large(declared));
    }
    let evicted = Arc::new(Notify::new());
    let holding = service.body_budget.begin(owner, Arc::clone(&evicted));
    holding.transfer().begin();
    let mut bytes = BytesMut::new();
    let started = Instant::now();
    // A slow client is fine while data arrives, the total time is limited, and nobody waits for the memory.
    loop {
        let frame = tokio::select! {
            () = evicted.notified() => return Err(too_slow()),
            frame = tokio::time::timeout(limits.stall(), body.frame()) => frame,
        };
        let Some(frame) = frame.map_err(|_| body_timeout(limits))? else { break };
        let truncated =
            |error| ApiError::new(ErrorCode::PostBodyInvalid, format!("the body ended early: {error}"));
        let Ok(data) = frame.map_err(truncated)?.into_data() else { continue };
        holding.transfer().progress(data.len());
        if bytes.len() + data.len() > limit {
            return Err(too_large(bytes.len() + data.len()));
        }
        holding.grow(data.len()).await?;
        if bytes.is_empty() && data.len() == declared {
            return Ok(holding.attach_to(data));
        }
        if started.elapsed() > limits.stall() * MAX_STALLS {
            return Err(body_timeout(limits));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(holding.attach_to(bytes.freeze()))
}

fn too_slow() -> ApiError {
    let message = "the body arrived too slowly while other requests waited for its memory: send it faster";
    ApiError::new(ErrorCode::RequestTimeout, message)
}

fn body_timeout(limits: &Limits) -> ApiError {
    let message =
        format!("the body stalled for {} s, or took too long in total: send it faster", limits.stall_seconds);
    ApiError::new(ErrorCode::RequestTimeout, message)
}

//! Reads the bodies of requests.

use logship_trigger::body::{MAX_BODY, MAX_RAW_BODY};
use logship_trigger::problem::Problem;
use spin_sdk::http::Request;
use spin_sdk::wasip3::http::types;
use spin_sdk::wasip3::wit_bindgen::{StreamReader, StreamResult, spawn};
use spin_sdk::wasip3::wit_future;

/// Bytes of a rejected body that are read. Most clients read the response only after they have sent the body: otherwise
/// they would see a broken connection.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// The size of a read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Reads the body into one buffer. Reading frames would copy the body twice, 16 KiB at a time.
///
/// # Errors
/// If the body is too large, or was cut off.
pub(crate) async fn read(request: Request, length: Option<usize>) -> Result<Vec<u8>, Problem> {
    let (_done, done) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = types::Request::consume_body(unstarted(request)?, done);
    // One byte more than the body, so that the end is detected without growing the buffer.
    let mut bytes = Vec::with_capacity(length.unwrap_or(0) + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(READ_BYTES);
        }
        let (result, read) = stream.read(bytes).await;
        bytes = read;
        if bytes.len() > MAX_BODY {
            spawn(discard(stream));
            return Err(too_large());
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

/// Reads the body of a rejected request, while the response is on its way.
pub(crate) fn reject(request: Request) {
    let Ok(request) = unstarted(request) else { return };
    let (_done, done) = wit_future::new(|| Ok(()));
    let (stream, _trailers) = types::Request::consume_body(request, done);
    spawn(discard(stream));
}

async fn discard(mut stream: StreamReader<u8>) {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut discarded = 0;
    while discarded < MAX_DISCARDED_BYTES {
        let (result, read) = stream.read(buffer).await;
        discarded += read.len();
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
        buffer = read;
        buffer.clear();
    }
}

fn unstarted(mut request: Request) -> Result<types::Request, Problem> {
    request.body_mut().take_unstarted().ok_or_else(|| cut_off("it was read before"))
}

fn cut_off(error: &str) -> Problem {
    Problem::new(503, "broken-off", format!("the body was cut off: {error}; send the call again"))
}

/// The problem of a body that is too large.
pub(crate) fn too_large() -> Problem {
    let detail =
        format!("the body has more than {MAX_BODY} bytes: send fewer logs per call, or compress them");
    Problem::too_large(detail)
}

/// Estimates the size of a call's logs in bytes, from its headers.
pub(crate) fn estimated_size(length: Option<usize>, header: impl Fn(&str) -> Option<String>) -> usize {
    let raw = header("x-log-bodyrawsize").and_then(|size| size.parse().ok());
    let is_compressed = header("content-encoding").is_some() || header("x-log-compresstype").is_some();
    let estimate = match (raw, length) {
        (Some(raw), _) => raw,
        (None, Some(length)) if is_compressed => length.saturating_mul(8),
        (None, Some(length)) => length,
        (None, None) => MAX_BODY,
    };
    estimate.min(MAX_RAW_BODY)
}

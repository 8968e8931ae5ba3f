//! Responses whose head and body leave together.
//!
//! Spin sets no TCP_NODELAY. A second segment of a response waits for the client's delayed acknowledgement of the first:
//! 40 ms on Linux. So each response has a `content-length` instead of a last chunk, and its body is offered to the host
//! together with its head.

use std::future::{Future as _, poll_fn};
use std::task::Poll;

use logship_trigger::deliver::Delivered;
use logship_trigger::problem::Problem;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, HeaderError, Response};
use spin_sdk::wasip3::wit_bindgen::{StreamReader, spawn};
use spin_sdk::wasip3::{wit_future, wit_stream};

use crate::load::Load;

/// The head and the body of a response.
struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Makes the response of a call. The load remains until the body is sent.
///
/// # Errors
/// If the host refuses the response.
pub(crate) async fn response(result: Result<Delivered, Problem>, load: Load) -> Result<Response, ErrorCode> {
    let mut answer = answer(result);
    let fields = match answer.fields() {
        Ok(fields) => fields,
        // For example, a stage's name with a line break is not a valid header.
        Err(error) => {
            let detail = format!("a header of the response is invalid: {error:?}");
            answer = problem_answer(&Problem::new(500, "defect", detail));
            answer.fields().map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?
        }
    };
    let (_trailers, no_trailers) = wit_future::new(|| Ok(None));
    let contents = if answer.body.is_empty() { None } else { Some(offer(answer.body, load).await) };
    let (response, _sent) = Response::new(fields, contents, no_trailers);
    response.set_status_code(answer.status).map_err(|()| ErrorCode::InternalError(None))?;
    Ok(response)
}

/// Offers the body to the host before the head is returned, so that the host can send both at once.
async fn offer(body: Vec<u8>, load: Load) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    let mut writing = Box::pin(async move {
        // If the client has gone, the rest is not needed.
        writer.write_all(body).await;
        drop(load);
    });
    let begun = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await;
    if begun.is_pending() {
        spawn(writing);
    }
    reader
}

impl Answer {
    fn fields(&self) -> Result<Fields, HeaderError> {
        let mut headers = self.headers.clone();
        headers.push(("content-length".into(), self.body.len().to_string().into_bytes()));
        Fields::from_list(&headers)
    }
}

fn answer(result: Result<Delivered, Problem>) -> Answer {
    let Delivered { headers, object } = match result {
        Ok(delivered) => delivered,
        Err(problem) => return problem_answer(&problem),
    };
    let mut headers: Vec<_> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    let body = match object {
        Some(object) => {
            headers.push(("content-type".into(), object.media_type.into_bytes()));
            object.bytes
        }
        None => vec![],
    };
    Answer { status: 200, headers, body }
}

fn problem_answer(problem: &Problem) -> Answer {
    let mut headers = vec![("content-type".to_owned(), b"application/problem+json".to_vec())];
    if let Some(seconds) = &problem.retry_after {
        headers.push(("retry-after".into(), seconds.clone().into_bytes()));
    }
    Answer { status: problem.status, headers, body: problem.body().into_bytes() }
}

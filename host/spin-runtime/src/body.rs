//! Bodies of requests: received in part before a call, and read to the end even if the function doesn't.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::function::RequestBody;

/// The timeout for a client that sends no data.
pub(crate) const STALL: Duration = Duration::from_secs(30);

/// The part of a body that is received before the call. Bodies up to this size never hold up a call.
const RECEIVED_BYTES: usize = 256 << 10;

/// Maximum bytes of a body to read after the function has responded. Many clients read the response only after they
/// have sent the whole body.
const MAX_DRAINED_BYTES: usize = 64 << 20;

/// Frames that wait for the function.
const BUFFERED_FRAMES: usize = 4;

type ReceivedFrame = Result<Frame<Bytes>, hyper::Error>;

/// Receives the beginning of a body, and returns all of it. Returns none if the beginning takes too long.
pub(crate) async fn receive(mut body: Incoming) -> Option<RequestBody> {
    let deadline = Instant::now() + STALL;
    let (mut begin, mut bytes) = (vec![], 0);
    while bytes < RECEIVED_BYTES {
        let Some(frame) = timeout_at(deadline, body.frame()).await.ok()? else { break };
        bytes += data_len(&frame);
        let is_last = frame.is_err();
        begin.push(frame);
        if is_last {
            break;
        }
    }
    Some(with_rest(begin, body))
}

/// Returns a body with this beginning, and reads the rest in the background.
fn with_rest(begin: Vec<ReceivedFrame>, mut body: Incoming) -> RequestBody {
    let (sender, receiver) = mpsc::channel(BUFFERED_FRAMES);
    tokio::spawn(async move {
        let mut drained = 0;
        while let Ok(Some(frame)) = timeout(STALL, body.frame()).await {
            let (bytes, is_last) = (data_len(&frame), frame.is_err());
            if sender.send(frame).await.is_err() {
                drained += bytes;
            }
            if is_last || drained > MAX_DRAINED_BYTES {
                break;
            }
        }
    });
    let rest = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let frames = futures_util::StreamExt::chain(futures_util::stream::iter(begin), rest);
    StreamBody::new(frames).map_err(wasmtime_wasi_http::Error::from).boxed_unsync()
}

fn data_len(frame: &ReceivedFrame) -> usize {
    frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, Bytes::len)
}

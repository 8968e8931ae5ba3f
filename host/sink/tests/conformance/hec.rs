//! The suite against a small HEC receiver, with and without indexer acknowledgement.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Read;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use logship_config::hec::HecConfig;
use logship_config::receiver::ReceiverConfig;
use logship_sink::error::SinkError;
use logship_sink::open;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::event_suite::{Received, Receiver, deliver, event, event_sink_tests};
use crate::server;

#[derive(Default)]
struct State {
    received: Vec<Received>,
    /// Acknowledgement ids that were asked for before. The first query says that the events are not indexed yet.
    queried: HashSet<String>,
    /// Acknowledgement ids that the receiver said are indexed.
    acknowledged: HashSet<String>,
}

/// A HEC receiver.
struct Hec<const ACKNOWLEDGE: bool>(Arc<Mutex<State>>);

impl<const ACKNOWLEDGE: bool> Receiver for Hec<ACKNOWLEDGE> {
    fn start(listener: TcpListener, is_stalled: watch::Receiver<bool>) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let service = service_fn(move |request| {
            let (state, mut is_stalled) = (Arc::clone(&shared), is_stalled.clone());
            async move {
                let request = Parsed::read(request).await;
                // The sender is gone if the test never stalls.
                let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
                let (status, answer) = request.answer(&mut state.lock().unwrap(), ACKNOWLEDGE);
                let body = Full::new(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        });
        tokio::spawn(server::serve(listener, service));
        Self(state)
    }

    fn config(port: u16) -> ReceiverConfig {
        config(port, "secret-token", ACKNOWLEDGE)
    }

    fn received(&self) -> Vec<Received> {
        self.0.lock().unwrap().received.clone()
    }

    fn rejected() -> (Vec<u8>, &'static str, &'static str) {
        (b"{\"event\":\"\"}".to_vec(), "13", "Event field cannot be blank")
    }
}

fn config(port: u16, token: &str, acknowledge: bool) -> ReceiverConfig {
    ReceiverConfig::Hec(HecConfig {
        urls: vec![format!("http://127.0.0.1:{port}")],
        token: token.into(),
        // Several requests a chunk.
        batch_bytes: 2000,
        acknowledge,
        ..HecConfig::default()
    })
}

struct Parsed {
    path: String,
    authorization: String,
    has_channel: bool,
    body: Vec<u8>,
}

impl Parsed {
    async fn read(request: Request<Incoming>) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            value.unwrap_or_default()
        };
        let (path, authorization) = (request.uri().path().to_owned(), header(AUTHORIZATION.as_str()));
        let (encoding, has_channel) =
            (header(CONTENT_ENCODING.as_str()), !header("x-splunk-request-channel").is_empty());
        let mut body =
            request.into_body().collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        if encoding == "gzip" {
            let mut plain = vec![];
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
            body = plain;
        }
        Self { path, authorization, has_channel, body }
    }

    fn answer(&self, state: &mut State, acknowledge: bool) -> (StatusCode, Value) {
        if self.authorization != "Splunk secret-token" {
            return (StatusCode::FORBIDDEN, json!({ "text": "Invalid token", "code": 4 }));
        }
        if self.path == "/services/collector/ack" {
            return (StatusCode::OK, self.acknowledgements(state));
        }
        assert_eq!(self.path, "/services/collector/event");
        if acknowledge && !self.has_channel {
            return (StatusCode::BAD_REQUEST, json!({ "text": "Data channel is missing", "code": 10 }));
        }
        if self.body.is_empty() {
            return (StatusCode::BAD_REQUEST, json!({ "text": "No data", "code": 5 }));
        }
        let events: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_slice(&self.body).into_iter().collect();
        let Ok(events) = events else {
            return (StatusCode::BAD_REQUEST, json!({ "text": "Invalid data format", "code": 6 }));
        };
        if let Some(number) = events.iter().position(|event| event["event"] == "") {
            let refusal =
                json!({ "text": "Event field cannot be blank", "code": 13, "invalid-event-number": number });
            return (StatusCode::BAD_REQUEST, refusal);
        }
        let id = state.received.len();
        state.received.push(events.iter().map(|event| event.to_string().into_bytes()).collect());
        let mut answer = json!({ "text": "Success", "code": 0 });
        if acknowledge {
            answer["ackId"] = id.into();
        }
        (StatusCode::OK, answer)
    }

    fn acknowledgements(&self, state: &mut State) -> Value {
        let query: Value = serde_json::from_slice(&self.body).unwrap();
        let ids = query["acks"].as_array().unwrap().iter().map(Value::to_string);
        let mut acks = json!({});
        for id in ids {
            let is_indexed = !state.queried.insert(id.clone());
            acks[&id] = is_indexed.into();
            if is_indexed {
                state.acknowledged.insert(id);
            }
        }
        json!({ "acks": acks })
    }
}

mod unacknowledged {
    use super::*;
    event_sink_tests!(Hec<false>, "hec");
}

mod acknowledged {
    use super::*;
    event_sink_tests!(Hec<true>, "hec");
}

#[tokio::test]
async fn probe_reports_wrong_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _receiver = Hec::<false>::start(listener, watch::channel(false).1);
    let error = open::event_sink("soc", &config(port, "wrong", false)).unwrap().probe("").await.unwrap_err();
    assert!(matches!(error, SinkError::Denied(_)), "{error:?}");
    assert!(error.to_string().contains("Invalid token (code 4)"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_waits_for_acknowledgements() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = Hec::<true>::start(listener, watch::channel(false).1);
    let sink = open::event_sink("soc", &Hec::<true>::config(port)).unwrap();
    deliver(&*sink, &[(0..200).map(event).collect()]).await;
    let state = receiver.0.lock().unwrap();
    assert!(state.received.len() > 1, "several requests");
    assert_eq!(state.acknowledged.len(), state.received.len());
}

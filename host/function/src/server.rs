//! HTTP triggers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::runtime::{Function, RequestBody};

/// A route and what answers there.
#[derive(Clone)]
pub struct Route {
    pattern: String,
    function: Function,
}

impl Route {
    /// Requests to the paths of `pattern` go to the function: `/v1/ship/:rule`, `/all/...`.
    pub fn new(pattern: &str, function: Function) -> Self {
        Self { pattern: pattern.to_owned(), function }
    }
}

/// A server that calls functions.
pub struct Server {
    listener: TcpListener,
    routes: Arc<[Route]>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn bind(listen: SocketAddr, routes: Vec<Route>) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, routes: routes.into() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever.
    pub async fn run(self) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, for one: others are closed in time.
                    tracing::warn!(%error, "a connection can't be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            _ = stream.set_nodelay(true);
            let routes = Arc::clone(&self.routes);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let routes = Arc::clone(&routes);
                    async move { Ok::<_, Infallible>(answer(&routes, request).await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new());
                if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a connection broke off");
                }
            });
        }
    }
}

/// Answers while the server lives, as that of Spin does.
const HEALTH: &str = "/.well-known/spin/health";

async fn answer(routes: &[Route], request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path == HEALTH {
        return text(StatusCode::OK, "OK".into());
    }
    let Some(route) = routes.iter().find(|route| matches(&route.pattern, path)) else {
        let known: Vec<_> = routes.iter().map(|route| route.pattern.as_str()).collect();
        return text(StatusCode::NOT_FOUND, format!("nothing is at {path}; there is {}\n", known.join(", ")));
    };
    let request = whole(request).map(to_its_end);
    route.function.answer(request).await.unwrap_or_else(|error| {
        tracing::error!(route = route.pattern, %error);
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    })
}

/// Bytes of a body that are still read when the function has answered already: a client that is not listened to any
/// more would not hear the answer.
const MOST_IGNORED: usize = 64 << 20;

/// The body, which is read to its end also where the function does not.
fn to_its_end(mut body: Incoming) -> RequestBody {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut ignored = 0;
        while let Some(frame) = body.frame().await {
            let bytes = frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, Bytes::len);
            let is_last = frame.is_err();
            if sender.send(frame).await.is_err() {
                ignored += bytes;
            }
            if is_last || ignored > MOST_IGNORED {
                break;
            }
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    StreamBody::new(frames).map_err(wasmtime_wasi_http::Error::from).boxed_unsync()
}

/// The request with its whole URI, as a function wants it.
fn whole(mut request: Request<Incoming>) -> Request<Incoming> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = Uri::builder().scheme("http").authority(host).path_and_query(path).build() {
        *request.uri_mut() = uri;
    }
    request
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Whether a path is one of a route's: levels that begin with `:` are any, `...` at the end is all that comes.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, all) = match pattern.strip_suffix("/...") {
        Some(begin) => (begin, true),
        None => (pattern, false),
    };
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (None, Some(_)) => return all,
            (Some(wanted), Some(found)) if wanted == found => {}
            (Some(wanted), Some(found)) if wanted.starts_with(':') && !found.is_empty() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        assert!(matches("/v1/ship/:rule", "/v1/ship/a-b"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship/"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship/a/b"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship"));
        assert!(matches("/v1/...", "/v1/ship/a") && matches("/...", "/"));
    }
}

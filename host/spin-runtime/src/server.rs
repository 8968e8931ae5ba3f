//! An HTTP server for HTTP triggers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::runtime::{Function, RequestBody};

/// A route and its function.
#[derive(Clone)]
pub struct Route {
    pattern: String,
    function: Function,
}

impl Route {
    /// Routes requests whose paths match `pattern` to the function. Examples: `/v1/ship/:rule`, `/all/...`.
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
    /// Binds to an address.
    ///
    /// # Errors
    /// Fails if the address is in use.
    pub async fn bind(listen: SocketAddr, routes: Vec<Route>) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, routes: routes.into() })
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Fails if the operating system doesn't return it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves requests until `end`, then finishes the calls in progress.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = end => {}
            () = self.accept(&graceful) => {}
        }
        drop(self.listener);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some calls took too long and were aborted");
        }
    }

    /// Accepts connections forever.
    async fn accept(&self, graceful: &GracefulShutdown) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // For example too many open files: retry when other connections are closed.
                    tracing::warn!(%error, "accepting a connection failed, and will be retried");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            _ = stream.set_nodelay(true);
            let (routes, watcher) = (Arc::clone(&self.routes), graceful.watcher());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let routes = Arc::clone(&routes);
                    async move { Ok::<_, Infallible>(answer(&routes, request).await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection failed");
                }
            });
        }
    }
}

/// The longest wait for calls in progress at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Path of the health check, the same as Spin's.
const HEALTH: &str = "/.well-known/spin/health";

async fn answer(routes: &[Route], request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path == HEALTH {
        return text(StatusCode::OK, "OK".into());
    }
    let Some(route) = routes.iter().find(|route| matches(&route.pattern, path)) else {
        let known: Vec<_> = routes.iter().map(|route| route.pattern.as_str()).collect();
        return text(
            StatusCode::NOT_FOUND,
            format!("no route matches {path}; the routes are {}\n", known.join(", ")),
        );
    };
    let request = with_absolute_uri(request).map(drain_in_background);
    route.function.handle_request(request).await.unwrap_or_else(|error| {
        tracing::error!(route = route.pattern, %error);
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    })
}

/// Maximum bytes of a body to read after the function has responded. Many clients read the response only after they
/// have sent the whole body.
const MAX_DRAINED_BYTES: usize = 64 << 20;

/// Returns the body, and reads it to the end even if the function doesn't.
fn drain_in_background(mut body: Incoming) -> RequestBody {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut drained = 0;
        while let Some(frame) = body.frame().await {
            let bytes = frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, Bytes::len);
            let is_last = frame.is_err();
            if sender.send(frame).await.is_err() {
                drained += bytes;
            }
            if is_last || drained > MAX_DRAINED_BYTES {
                break;
            }
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    StreamBody::new(frames).map_err(wasmtime_wasi_http::Error::from).boxed_unsync()
}

/// Makes the request's URI absolute, as functions expect it.
fn with_absolute_uri(mut request: Request<Incoming>) -> Request<Incoming> {
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

/// Returns true if the path matches the pattern. A segment `:name` matches any segment, and a final `...` the rest.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, has_wildcard) = match pattern.strip_suffix("/...") {
        Some(prefix) => (prefix, true),
        None => (pattern, false),
    };
    let (mut expected, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return true,
            (None, Some(_)) => return has_wildcard,
            (Some(expected), Some(found)) if expected == found => {}
            (Some(expected), Some(found)) if expected.starts_with(':') && !found.is_empty() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_route_patterns() {
        assert!(matches("/v1/ship/:rule", "/v1/ship/a-b"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship/"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship/a/b"));
        assert!(!matches("/v1/ship/:rule", "/v1/ship"));
        assert!(matches("/v1/...", "/v1/ship/a") && matches("/...", "/"));
    }
}

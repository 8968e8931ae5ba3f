//! An HTTP server for HTTP triggers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use logship_listener::{
    Activity, Connection, ConnectionLimits, Connections, DeadlineStream, Timeouts, accept,
};
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};

use crate::body;
use crate::error::CallError;
use crate::function::{Function, RequestBody, ResponseBody};

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

/// The limits of connections. They don't let a client shut out others.
const LIMITS: ConnectionLimits = ConnectionLimits { total: 1024, per_address: 256, per_key: 1024 };

/// The timeouts of connections.
const TIMEOUTS: Timeouts = Timeouts { stall: body::STALL, idle: Duration::from_secs(600) };

/// A server that calls functions.
pub struct Server {
    listener: TcpListener,
    routes: Arc<Routes>,
}

/// The routes, and the token that callers must send.
struct Routes {
    routes: Vec<Route>,
    token: Option<String>,
    /// True if responses are sent as Spin sends them.
    sends_like_spin: bool,
}

impl Server {
    /// Binds to an address. Callers must send the token, if there is one, as `Authorization: Bearer TOKEN`.
    ///
    /// # Errors
    /// Fails if the address is in use.
    pub async fn bind(
        listen: SocketAddr,
        routes: Vec<Route>,
        token: Option<String>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let routes = Routes { routes, token, sends_like_spin: false };
        Ok(Self { listener, routes: Arc::new(routes) })
    }

    /// Sends responses as Spin does: while the function writes them, and without TCP_NODELAY. For measurements.
    #[must_use]
    pub fn sending_like_spin(self) -> Self {
        let Routes { routes, token, .. } = &*self.routes;
        let routes = Routes { routes: routes.clone(), token: token.clone(), sends_like_spin: true };
        Self { routes: Arc::new(routes), ..self }
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
        let connections = Connections::new(LIMITS, TIMEOUTS);
        loop {
            let (stream, connection) = accept(&self.listener, &connections).await;
            _ = stream.set_nodelay(!self.routes.sends_like_spin);
            let (routes, watcher) = (Arc::clone(&self.routes), graceful.watcher());
            tokio::spawn(async move { connection.run(serve(routes, stream, &connection, watcher)).await });
        }
    }
}

/// The longest wait for calls in progress at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection.
async fn serve(routes: Arc<Routes>, stream: TcpStream, connection: &Arc<Connection>, watcher: Watcher) {
    let stream = DeadlineStream::new(stream, Arc::clone(connection));
    let service = service_fn(move |request| {
        let (routes, connection) = (Arc::clone(&routes), Arc::clone(connection));
        async move {
            connection.requests().begin();
            connection.set_activity(Activity::Waiting);
            let response = answer(&routes, request, &connection).await;
            connection.set_activity(Activity::Idle);
            connection.requests().end();
            Ok::<_, Infallible>(response)
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    let serving = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(%error, "a connection failed");
    }
}

/// Path of the health check, the same as Spin's.
const HEALTH: &str = "/.well-known/spin/health";

async fn answer(
    Routes { routes, token, sends_like_spin }: &Routes,
    request: Request<Incoming>,
    connection: &Connection,
) -> Response<ResponseBody> {
    let path = request.uri().path();
    if path == HEALTH {
        return text(StatusCode::OK, "OK".into());
    }
    if token.as_deref().is_some_and(|token| !has_token(&request, token)) {
        let problem = "the call does not have the server's token: send Authorization: Bearer TOKEN\n";
        return text(StatusCode::UNAUTHORIZED, problem.into());
    }
    // Never fails without a limit.
    _ = connection.identify("callers", true);
    let Some(route) = routes.iter().find(|route| matches(&route.pattern, path)) else {
        let known: Vec<_> = routes.iter().map(|route| route.pattern.as_str()).collect();
        return text(
            StatusCode::NOT_FOUND,
            format!("no route matches {path}; the routes are {}\n", known.join(", ")),
        );
    };
    let (parts, body) = with_absolute_uri(request).into_parts();
    // A slow body must not take one of the places for calls.
    let Some(body) = body::receive(body).await else {
        return text(StatusCode::REQUEST_TIMEOUT, "the body stalled: send it faster\n".into());
    };
    connection.set_activity(Activity::Working);
    let request = Request::from_parts(parts, body);
    let called = if *sends_like_spin {
        route.function.handle_request(request).await
    } else {
        call(&route.function, request).await
    };
    called.unwrap_or_else(|error| {
        tracing::error!(route = route.pattern, %error);
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    })
}

/// Calls a function, and takes its complete response from the instance, so that a client that reads slowly doesn't
/// keep the instance busy.
async fn call(
    function: &Function,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, CallError> {
    let (head, body) = function.handle_request(request).await?.into_parts();
    let timeout = function.timeout();
    let received = tokio::time::timeout(timeout, body.collect()).await;
    let received = received.map_err(|_| CallError::Timeout(timeout))?;
    let body = received.map_err(|error| CallError::Failed(error.to_string()))?.to_bytes();
    // A stream has no known length: as on Spin, the response has a `content-length` only if the function sets it.
    let frame = (!body.is_empty()).then(|| Ok(Frame::data(body)));
    Ok(Response::from_parts(head, StreamBody::new(futures_util::stream::iter(frame)).boxed_unsync()))
}

/// Returns true if the request has the token.
fn has_token<B>(request: &Request<B>, token: &str) -> bool {
    let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let sent = header.and_then(|header| header.split_once(' '));
    let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, sent)| sent.trim());
    sent.is_some_and(|sent| sent.as_bytes().ct_eq(token.as_bytes()).into())
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

fn text(status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync());
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

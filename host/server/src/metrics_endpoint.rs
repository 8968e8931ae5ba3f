//! An endpoint for Prometheus, for programs that are no service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use logship_listener::{Connection, ConnectionLimits, Connections, DeadlineStream, Timeouts, accept};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};

use crate::metrics;
use logship_runtime::engine::Engine;

/// The metrics endpoint could not be started.
#[derive(Debug, thiserror::Error)]
#[error("can't serve metrics at {address}: {problem}")]
pub struct MetricsEndpointError {
    /// The address.
    address: SocketAddr,
    /// The problem.
    problem: String,
}

/// The limits of connections. They don't let a client shut out others.
const LIMITS: ConnectionLimits = ConnectionLimits { total: 64, per_address: 32, per_key: 64 };

/// The timeouts of connections.
const TIMEOUTS: Timeouts = Timeouts { stall: Duration::from_secs(30), idle: Duration::from_secs(600) };

/// Serves metrics at `/metrics` until the process ends. To be called before `engine` loads stages.
///
/// # Errors
/// When the address can't be listened to.
pub async fn show_metrics(address: SocketAddr, engine: Engine) -> Result<(), MetricsEndpointError> {
    let failed = |problem: String| MetricsEndpointError { address, problem };
    let handle = metrics::install().map_err(|error| failed(error.to_string()))?;
    let listener = TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(metrics::run_upkeep(handle.clone()));
    tokio::spawn(async move {
        let connections = Connections::new(LIMITS, TIMEOUTS);
        loop {
            let (stream, connection) = accept(&listener, &connections).await;
            let (handle, engine) = (handle.clone(), engine.clone());
            tokio::spawn(async move { connection.run(serve(stream, &connection, handle, engine)).await });
        }
    });
    Ok(())
}

/// Serves a connection.
async fn serve(stream: TcpStream, connection: &Arc<Connection>, handle: PrometheusHandle, engine: Engine) {
    let stream = DeadlineStream::new(stream, Arc::clone(connection));
    let answer = service_fn(move |request: Request<Incoming>| {
        connection.requests().begin();
        // Never fails without a limit.
        _ = connection.identify("readers", true);
        let response = answer(request.uri().path(), &handle, &engine);
        connection.requests().end();
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    // An error is the end of the connection.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

fn answer(path: &str, handle: &PrometheusHandle, engine: &Engine) -> Response<Full<Bytes>> {
    let (found, text) = match path {
        "/metrics" => {
            engine.export_stage_metrics();
            (StatusCode::OK, handle.render())
        }
        "/healthz" => (StatusCode::OK, "ok\n".into()),
        _ => (StatusCode::NOT_FOUND, "not found: see /metrics or /healthz\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = found;
    response
}

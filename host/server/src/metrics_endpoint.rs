//! An endpoint for Prometheus, for programs that are no service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

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

/// Largest number of concurrent connections to the metrics endpoint.
const MAX_CONNECTIONS: usize = 64;

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
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Usually out of file descriptors: other connections have to end first.
                    tracing::warn!(%error, "can't accept a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (handle, engine) = (handle.clone(), engine.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (found, text) = match request.uri().path() {
                    "/metrics" => {
                        engine.export_stage_metrics();
                        (StatusCode::OK, handle.render())
                    }
                    "/healthz" => (StatusCode::OK, "ok\n".into()),
                    _ => (StatusCode::NOT_FOUND, "not found: see /metrics or /healthz\n".into()),
                };
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = found;
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            // The timer closes idle connections.
            let mut http = hyper::server::conn::http1::Builder::new();
            let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move {
                _ = served.await;
                drop(permit);
            });
        }
    });
    Ok(())
}

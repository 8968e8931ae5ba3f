//! Accepts connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::connections::{Connection, Connections};

/// The wait after an error of the system, which is usually out of file descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts the next connection that is allowed. Closes the others.
pub async fn accept(listener: &TcpListener, connections: &Connections) -> (TcpStream, Arc<Connection>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Some(connection) => return (stream, Arc::new(connection)),
                None => tracing::debug!(peer = %peer.ip(), "closed a connection: all others are in use"),
            },
            Err(error) => {
                // Retry when a replaced connection is closed, or when others end.
                let replaced = connections.make_room();
                tracing::warn!(%error, replaced, "can't accept a connection");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

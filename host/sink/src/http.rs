//! HTTP clients of object stores and functions.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::SinkError;
use crate::reload::Reloaded;
use crate::tls::{self, Trust};

/// Connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of idle connections to a host.
const MAX_IDLE_CONNECTIONS: usize = 2;

/// Time that sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a client with a read timeout, a proxy (default: the environment's), and a file of additional trusted
/// authorities. A changed file makes a new client.
///
/// # Errors
/// [`SinkError::Settings`] if the timeout is out of range, the proxy is no URL, or the file is invalid.
pub fn client(
    timeout_seconds: u64,
    proxy: Option<&str>,
    ca: Option<&Path>,
) -> Result<Reloaded<reqwest::Client>, SinkError> {
    let (proxy, ca) = (proxy.map(str::to_owned), ca.map(Path::to_owned));
    Reloaded::new(ca.clone(), move || build(timeout_seconds, proxy.as_deref(), ca.as_deref()))
}

fn build(timeout_seconds: u64, proxy: Option<&str>, ca: Option<&Path>) -> Result<reqwest::Client, SinkError> {
    tls::install_crypto_provider();
    let wrong = |what: &str, error: &dyn fmt::Display| SinkError::Settings(format!("{what}: {error}"));
    let timeout = match timeout_seconds {
        seconds @ 1..=3600 => Duration::from_secs(seconds),
        other => return Err(wrong("timeout-seconds", &format_args!("{other} is out of range: 1-3600"))),
    };
    let mut client =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(timeout).tcp_nodelay(true);
    // A store never redirects. Following a redirect would send the token to another host.
    client = client.redirect(reqwest::redirect::Policy::none()).tcp_user_timeout(TCP_USER_TIMEOUT);
    client = client.pool_max_idle_per_host(MAX_IDLE_CONNECTIONS).pool_idle_timeout(CONNECT_TIMEOUT);
    if let Some(proxy) = proxy {
        client = client.proxy(reqwest::Proxy::all(proxy).map_err(|error| wrong("proxy", &error))?);
    }
    if ca.is_some() {
        let trust = Trust::System(ca.map(Path::to_owned));
        let config = tls::client(&trust).map_err(|error| wrong("ca", &error))?.with_no_client_auth();
        client = client.tls_backend_preconfigured(config);
    }
    client.build().map_err(|error| wrong("http", &error))
}

/// Returns the message of an error and its causes, without the URL.
pub fn error_chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    tls::explain(text)
}

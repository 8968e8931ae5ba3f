//! Checks the settings of a syslog receiver and opens it.

use std::fmt;
use std::sync::Arc;

use logship_config::syslog::{Protocol, SyslogConfig};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};

use super::client::{Client, Tls};
use super::sink::Syslog;
use crate::error::SinkError;
use crate::reload::Reloaded;
use crate::tls::{self, Trust, install_crypto_provider};

/// Largest payload of a datagram, in bytes.
const MAX_DATAGRAM: usize = 65_507;

/// Opens a receiver. `name` is for logs and metrics. Does not connect.
///
/// # Errors
/// [`SinkError::ReceiverSetting`] if a setting is invalid.
pub(crate) fn open(name: &str, settings: &SyslogConfig) -> Result<Syslog, SinkError> {
    if settings.host.is_empty() {
        return Err(SinkError::receiver("host", "is missing: the receiver's name or address"));
    }
    if settings.timeout_seconds == 0 || settings.connections == 0 {
        return Err(SinkError::receiver("timeout-seconds", "and connections must be at least 1"));
    }
    if settings.protocol == Protocol::Udp && settings.max_bytes.is_some_and(|bytes| bytes > MAX_DATAGRAM) {
        return Err(SinkError::receiver(
            "max-bytes",
            format!("must be at most {MAX_DATAGRAM}, the size of a datagram"),
        ));
    }
    let is_tls = settings.protocol == Protocol::Tls;
    if !is_tls && (settings.ca.is_some() || settings.certificate.is_some() || !settings.verify) {
        return Err(SinkError::receiver(
            "protocol",
            "must be \"tls\" to use certificates, or verify = false",
        ));
    }
    if !settings.verify {
        tls::warn_unverified(name);
    }
    let tls = is_tls.then(|| self::tls(settings)).transpose()?;
    Ok(Syslog::new(name, Client::new(settings, tls)))
}

fn tls(settings: &SyslogConfig) -> Result<Tls, SinkError> {
    install_crypto_provider();
    let name = settings.server_name.clone().unwrap_or_else(|| settings.host.clone());
    let name = ServerName::try_from(name).map_err(|error| SinkError::receiver("server-name", error))?;
    let SyslogConfig { ca, certificate, key, .. } = settings;
    let files: Vec<_> = [ca, certificate, key].into_iter().flatten().cloned().collect();
    let settings = settings.clone();
    Ok((Reloaded::new(files, move || connector(&settings))?, name))
}

fn connector(settings: &SyslogConfig) -> Result<TlsConnector, SinkError> {
    let trust = match &settings.ca {
        _ if !settings.verify => Trust::All,
        None => Trust::System(None),
        Some(file) => Trust::File(file.clone()),
    };
    let config = tls::client(&trust).map_err(|error| SinkError::receiver("ca", error))?;
    let config = match (&settings.certificate, &settings.key) {
        (None, None) => config.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let wrong =
                |error: &dyn fmt::Display| SinkError::receiver("key", format!("{}: {error}", key.display()));
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(&error))?;
            let chain = tls::certificates(certificate);
            let chain = chain.map_err(|error| SinkError::receiver("certificate", error))?;
            config.with_client_auth_cert(chain, private).map_err(|error| wrong(&error))?
        }
        _ => return Err(SinkError::receiver("certificate", "and key must be set together")),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

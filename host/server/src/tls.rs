//! TLS of the service. A changed certificate or key is used for the next connection, without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use logship_config::service::Tls;
use logship_sink::reload::Reloaded;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Accepts TLS connections with the current certificate.
#[derive(Debug)]
pub(crate) struct Acceptor(Reloaded<Accepting>);

#[derive(Clone)]
struct Accepting(TlsAcceptor);

/// Why TLS can't start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or its key can't be read.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// The file has no certificate.
    #[error("{}: contains no PEM certificate", .0.display())]
    Empty(PathBuf),
    /// The certificate and key don't fit.
    #[error("the certificate can't be used with the private key: {0}")]
    Certificate(#[from] tokio_rustls::rustls::Error),
}

impl Acceptor {
    /// Returns the acceptor for a connection.
    pub(crate) fn get(&self) -> TlsAcceptor {
        self.0.get().0
    }
}

/// Opens the certificate and key of the settings.
pub(crate) fn acceptor(tls: &Tls) -> Result<Acceptor, TlsError> {
    let tls = tls.clone();
    let files = [tls.certificate.clone(), tls.key.clone()];
    Ok(Acceptor(Reloaded::new(files, move || read(&tls))?))
}

fn read(tls: &Tls) -> Result<Accepting, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(&tls.certificate).map_err(failed(&tls.certificate))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(failed(&tls.certificate))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(tls.certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed(&tls.key))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(Accepting(TlsAcceptor::from(Arc::new(config))))
}

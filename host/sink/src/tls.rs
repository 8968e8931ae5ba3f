//! TLS of clients: the cryptography, trusted authorities, and errors in words.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_platform_verifier::Verifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

/// The certificates that a client trusts.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Those of the system, and those in a file.
    System(Option<PathBuf>),
    /// Those in a file.
    File(PathBuf),
    /// All. For tests of a receiver.
    All,
}

/// Installs the cryptography of the process. The first caller wins; another provider is as good.
pub(crate) fn install_crypto_provider() {
    let _ = ring::default_provider().install_default();
}

/// Warns that the certificates of a receiver are not verified.
pub(crate) fn warn_unverified(receiver: &str) {
    tracing::warn!(
        receiver,
        "verify = false: the receiver's certificate is not verified, so anybody on the way can read and change the logs. Set ca to the receiver's own certificate instead"
    );
}

/// Begins the configuration of a client that trusts some certificates.
///
/// # Errors
/// If the file can't be read, or has no certificate that can be used.
pub(crate) fn client(trust: &Trust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(explain)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let (given, inner): (_, Arc<dyn ServerCertVerifier>) = match trust {
        Trust::All => return Ok(Arc::new(TrustAll(Arc::clone(provider)))),
        Trust::System(file) => {
            let given = file.as_deref().map_or(Ok(vec![]), certificates)?;
            let verifier = Verifier::new_with_extra_roots(given.clone(), Arc::clone(provider));
            (given, Arc::new(verifier.map_err(|error| at(file.as_deref(), error))?))
        }
        Trust::File(file) => {
            let (given, mut roots) = (certificates(file)?, RootCertStore::empty());
            for certificate in given.clone() {
                roots.add(certificate).map_err(|error| at(Some(file), error))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            (given, verifier.build().map_err(|error| at(Some(file), error))?)
        }
    };
    Ok(Arc::new(TrustGiven { given, inner }))
}

/// Reads the certificates of a PEM file.
///
/// # Errors
/// If the file can't be read, or has no certificate.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn Display| format!("{}: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    if read.is_empty() { Err(failed(&"contains no PEM certificate")) } else { Ok(read) }
}

fn at(file: Option<&Path>, error: impl Display) -> String {
    match file {
        Some(file) => format!("{}: {}", file.display(), explain(error)),
        None => explain(error),
    }
}

/// Causes in the text of a TLS error, and what to do.
const HINTS: [(&str, &str); 6] = [
    ("CaUsedAsEndEntity", "the peer's certificate is an authority's: to trust it, set `ca` to its own file"),
    (
        "UnknownIssuer",
        "an unknown authority has signed it: set `ca` to the authority's certificate, or to the peer's own if it is self-signed",
    ),
    (
        "UnsupportedCertVersion",
        "the certificate is of X.509 version 1: make one of version 3, as `openssl req -x509` does",
    ),
    ("UnsupportedCriticalExtension", "the certificate has a critical extension that is not supported"),
    ("RequiredEkuNotFound", "the certificate is not for servers: its extended key usage lacks serverAuth"),
    ("InvalidContentType", "the peer does not speak TLS at this port"),
];

/// Adds what to do to the text of a TLS error, if it is known.
pub(crate) fn explain(error: impl Display) -> String {
    let text = error.to_string();
    match HINTS.iter().find(|(cause, hint)| text.contains(cause) && !text.contains(hint)) {
        Some((_, hint)) => format!("{text}: {hint}"),
        None => text,
    }
}

/// Trusts given certificates also as certificates of the peer. A self-signed one is usually an authority's too, and has
/// no name if nobody asked for one: it can't be verified by a chain.
#[derive(Debug)]
struct TrustGiven {
    given: Vec<CertificateDer<'static>>,
    inner: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for TrustGiven {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(error) if self.given.iter().any(|given| given == end_entity) && is_self_signed(&error) => {
                check_name(end_entity, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// True for the errors of a valid self-signed certificate. Others, such as an expired one, stay errors.
fn is_self_signed(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.to_string().contains("CaUsedAsEndEntity")
        }
        Error::InvalidCertificate(error) => has_no_name(error),
        _ => false,
    }
}

fn has_no_name(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty())
}

/// Checks the name of a certificate that has one.
fn check_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
        Err(Error::InvalidCertificate(error)) if has_no_name(&error) => Ok(()),
        checked => checked,
    }
}

/// Trusts all certificates.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! The TLS library.

/// Installs the cryptography of the process. The first caller wins; another provider is as good.
pub(crate) fn install_crypto_provider() {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}

//! The suite against small syslog receivers over TCP, with both framings and both confirmations, and over TLS. UDP has
//! tests of its own, since it loses events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use logship_config::receiver::ReceiverConfig;
use logship_config::syslog::{Confirm, Framing, Protocol, SyslogConfig};
use logship_sink::open;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::event_suite::{Received, Receiver, deliver, event_sink_tests, eventually};

/// Self-signed certificate of `localhost` and 127.0.0.1, valid until 2126, and its key. Made by `openssl req -x509
/// -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost -addext
/// subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`.
const CERTIFICATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/certificates/localhost.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/certificates/localhost-key.pem");

/// The settings of a variant of the sink.
trait Variant: 'static {
    fn settings() -> SyslogConfig;
}

/// A syslog receiver. Has the bytes of each connection.
struct Syslog<V> {
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    variant: std::marker::PhantomData<V>,
}

impl<V: Variant> Receiver for Syslog<V> {
    fn start(listener: TcpListener, is_stalled: watch::Receiver<bool>) -> Self {
        let connections = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let shared = Arc::clone(&connections);
        let tls = (V::settings().protocol == Protocol::Tls).then(acceptor);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, is_stalled, tls) = (Arc::clone(&shared), is_stalled.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => read(stream, is_stalled, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                read(stream, is_stalled, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { connections, variant: std::marker::PhantomData }
    }

    fn config(port: u16) -> ReceiverConfig {
        ReceiverConfig::Syslog(SyslogConfig { host: "127.0.0.1".into(), port, ..V::settings() })
    }

    /// Cut off events at the end of a connection do not count: the sink sends them again.
    fn received(&self) -> Vec<Received> {
        // Bytes that only the receiver's system has are confirmed with `confirm = "sent"`.
        if V::settings().confirm == Confirm::Sent {
            std::thread::sleep(Duration::from_millis(200));
        }
        let framing = V::settings().framing;
        self.connections.lock().unwrap().iter().map(|bytes| events(framing, bytes)).collect()
    }

    fn rejected() -> (Vec<u8>, &'static str, &'static str) {
        match V::settings().framing {
            Framing::Newline => (b"two\nlines".to_vec(), "LineBreak", "contains a line feed"),
            Framing::OctetCounting => {
                (vec![b'x'; 2001], "TooLarge", "2001 bytes, and the receiver takes 2000")
            }
        }
    }
}

/// Reads a connection until the sender closes it, and closes it too.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut is_stalled: watch::Receiver<bool>,
    connections: &Mutex<Vec<Vec<u8>>>,
) {
    let number = {
        let mut connections = connections.lock().unwrap();
        connections.push(vec![]);
        connections.len() - 1
    };
    let mut buffer = vec![0; 4096];
    loop {
        // The sender is gone if the test never stalls.
        let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => connections.lock().unwrap()[number].extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
}

/// The complete events in the bytes of a connection.
fn events(framing: Framing, mut bytes: &[u8]) -> Received {
    let mut events = vec![];
    loop {
        let event = match framing {
            Framing::Newline => bytes.iter().position(|byte| *byte == b'\n').map(|end| (0, end, end + 1)),
            Framing::OctetCounting => bytes.iter().position(|byte| *byte == b' ').and_then(|space| {
                let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
                let end = space + 1 + length;
                (end <= bytes.len()).then_some((space + 1, end, end))
            }),
        };
        let Some((begin, end, next)) = event else { return events };
        events.push(bytes[begin..end].to_vec());
        bytes = &bytes[next..];
    }
}

fn acceptor() -> TlsAcceptor {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// Declares a variant and runs the suite against it.
macro_rules! variant {
    ($name:ident: $($setting:ident: $value:expr),*) => {
        mod $name {
            use super::*;

            struct This;

            impl Variant for This {
                fn settings() -> SyslogConfig {
                    SyslogConfig { max_bytes: Some(2000), $($setting: $value,)* ..SyslogConfig::default() }
                }
            }

            event_sink_tests!(Syslog<This>, "syslog");
        }
    };
}

variant!(tcp_octet_counting: framing: Framing::OctetCounting);
variant!(tcp_newline: framing: Framing::Newline);
variant!(tcp_sent: confirm: Confirm::Sent);
variant!(tls: protocol: Protocol::Tls, ca: Some(CERTIFICATE.into()));
variant!(tls_sent: protocol: Protocol::Tls, ca: Some(CERTIFICATE.into()), confirm: Confirm::Sent);

struct Impatient;

impl Variant for Impatient {
    fn settings() -> SyslogConfig {
        SyslogConfig { timeout_seconds: 1, ..SyslogConfig::default() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_connection_sends_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stall, is_stalled) = watch::channel(true);
    let receiver = Syslog::<Impatient>::start(listener, is_stalled);
    let sink = open::event_sink("soc", &Syslog::<Impatient>::config(port)).unwrap();
    // More than the buffer of a receiver that reads nothing.
    let events: Vec<Vec<u8>> = (0..600).map(|number| format!("{number:01000}").into_bytes()).collect();
    let batch = [events.clone()];
    let recover = async {
        eventually("a timeout", || sink.health().problem().is_some()).await;
        stall.send_replace(false);
    };
    let (rejected, ()) = tokio::join!(deliver(&*sink, &batch), recover);
    assert_eq!(rejected, []);
    let received = receiver.received();
    assert!(received.contains(&events));
    assert_eq!(received.iter().filter(|connection| connection.last() == events.last()).count(), 1);
}

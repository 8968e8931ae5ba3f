//! Syslog over UDP. It does not run the suite: datagrams are lost while nobody listens, and nothing tells the sink that
//! a listener is slow.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use logship_config::receiver::ReceiverConfig;
use logship_config::syslog::{Protocol, SyslogConfig};
use logship_sink::event::EventSink;
use logship_sink::open;

use crate::event_suite::{deliver, event, eventually};

fn sink(port: u16, max_bytes: Option<usize>) -> Box<dyn EventSink> {
    let settings = SyslogConfig {
        host: "127.0.0.1".into(),
        port,
        protocol: Protocol::Udp,
        max_bytes,
        ..SyslogConfig::default()
    };
    open::event_sink("soc", &ReceiverConfig::Syslog(settings)).unwrap()
}

fn listen(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Reads datagrams until none comes.
fn datagrams(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let (mut datagrams, mut buffer) = (vec![], vec![0; 65_536]);
    loop {
        match socket.recv(&mut buffer) {
            Ok(bytes) => datagrams.push(buffer[..bytes].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return datagrams;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_a_datagram() {
    let socket = listen(0);
    let sink = sink(socket.local_addr().unwrap().port(), None);
    sink.probe("").await.unwrap();
    // Few enough for the buffer of the socket.
    let chunks = [(0..40).map(event).collect(), vec![b"two\nlines".to_vec()], (40..60).map(event).collect()];
    assert_eq!(deliver(&*sink, &chunks).await, []);
    assert_eq!(datagrams(&socket), chunks.concat());
    assert!(sink.is_ordered());
    assert_eq!((sink.health().problem(), sink.health().retries()), (None, 0));
}

#[tokio::test]
async fn too_large_event_is_rejected() {
    let socket = listen(0);
    let port = socket.local_addr().unwrap().port();
    for (max_bytes, allowed) in [(Some(100), 100), (None, 8192)] {
        let chunks = [vec![vec![b'x'; allowed + 1], vec![b'y'; allowed]]];
        let rejected = deliver(&*sink(port, max_bytes), &chunks).await;
        assert_eq!((rejected.len(), rejected[0].message, rejected[0].code.as_str()), (1, 0, "TooLarge"));
        let reason = format!("{} bytes, and the receiver takes {allowed}", allowed + 1);
        assert_eq!(rejected[0].reason, reason);
        assert_eq!(datagrams(&socket), [vec![b'y'; allowed]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_datagram_is_retried() {
    let port = listen(0).local_addr().unwrap().port();
    let sink: Arc<dyn EventSink> = Arc::from(sink(port, None));
    let delivery = tokio::spawn({
        let sink = Arc::clone(&sink);
        // The refusal of a datagram fails the next one, so each attempt loses one and the last one may arrive.
        async move { deliver(&*sink, &[(0..50).map(event).collect()]).await }
    });
    eventually("a problem", || sink.health().problem().is_some()).await;
    let problem = sink.health().problem().unwrap();
    assert!(problem.contains(&format!("127.0.0.1:{port}: ")) && problem.contains("refused"), "{problem}");
    let socket = listen(port);
    assert_eq!(delivery.await.unwrap(), []);
    let received = datagrams(&socket);
    assert_eq!(received.last(), Some(&event(49)));
    assert!(received.is_sorted());
    assert_eq!(sink.health().problem(), None);
}

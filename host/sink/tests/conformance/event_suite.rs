//! The suite of event sinks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use logship_config::receiver::ReceiverConfig;
use logship_sink::error::SinkError;
use logship_sink::event::{EventSink, Events, RejectedMessage};
use logship_sink::gate::Start;
use logship_sink::open;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The events of a request or a connection, in order.
pub(crate) type Received = Vec<Vec<u8>>;

/// A receiver.
pub(crate) trait Receiver: Sized {
    /// Starts the receiver. It takes nothing while `is_stalled`.
    fn start(listener: TcpListener, is_stalled: watch::Receiver<bool>) -> Self;

    /// Returns the settings of a receiver at a port of 127.0.0.1.
    fn config(port: u16) -> ReceiverConfig;

    /// Returns the events of each request or connection, in order of arrival.
    fn received(&self) -> Vec<Received>;

    /// Returns an event that is rejected, with code and reason.
    fn rejected() -> (Vec<u8>, &'static str, &'static str);
}

/// A receiver, and the sink that sends to it.
struct Tested<R> {
    receiver: R,
    sink: Box<dyn EventSink>,
    stall: watch::Sender<bool>,
}

impl<R: Receiver> Tested<R> {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = open_sink::<R>(listener.local_addr().unwrap().port());
        let (stall, is_stalled) = watch::channel(false);
        Self { receiver: R::start(listener, is_stalled), sink, stall }
    }

    /// The received events, in any order.
    fn events(&self) -> Vec<Vec<u8>> {
        let mut events = self.receiver.received().concat();
        events.sort();
        events
    }
}

fn open_sink<R: Receiver>(port: u16) -> Box<dyn EventSink> {
    open::event_sink("soc", &R::config(port)).unwrap()
}

/// An event that each receiver accepts. Events sort by their number.
pub(crate) fn event(number: usize) -> Vec<u8> {
    format!("{{\"event\":\"number {number:06}\"}}").into_bytes()
}

/// Delivers chunks of events. Fails if that takes too long.
pub(crate) async fn deliver(sink: &dyn EventSink, chunks: &[Vec<Vec<u8>>]) -> Vec<RejectedMessage> {
    let chunks: Vec<_> = chunks.iter().map(|events| flat(events)).collect();
    let chunks: Vec<_> = chunks.iter().map(|(bytes, ends)| Events { bytes, ends }).collect();
    timeout(PATIENCE, sink.deliver(&chunks, &Start::default())).await.expect("the delivery does not end")
}

fn flat(events: &[Vec<u8>]) -> (Vec<u8>, Vec<u32>) {
    let ends = events.iter().scan(0, |end, event| {
        *end += event.len() as u32;
        Some(*end)
    });
    (events.concat(), ends.collect())
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

pub(crate) async fn events_arrive_once_and_in_order<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    let chunks = [
        (0..300).map(event).collect(),
        vec![],
        (300..301).map(event).collect(),
        (301..900).map(event).collect(),
    ];
    assert_eq!(deliver(&*tested.sink, &chunks).await, []);
    assert_eq!(tested.events(), chunks.concat());
    for request in tested.receiver.received() {
        assert!(request.is_sorted(), "events of a request or a connection out of order");
    }
    if tested.sink.is_ordered() {
        assert!(tested.receiver.received().concat().is_sorted(), "events out of order");
    }
    let health = tested.sink.health();
    assert_eq!((health.problem(), health.retries()), (None, 0));
}

pub(crate) async fn concurrent_deliveries_do_not_mix<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    let batches: Vec<Vec<Vec<Vec<u8>>>> =
        (0..8).map(|batch| vec![(batch * 50..(batch + 1) * 50).map(event).collect()]).collect();
    let deliveries = batches.iter().map(|batch| deliver(&*tested.sink, batch));
    let rejected = futures_util::future::join_all(deliveries).await;
    assert!(rejected.iter().all(Vec::is_empty), "{rejected:?}");
    assert_eq!(tested.events(), (0..400).map(event).collect::<Vec<_>>());
}

pub(crate) async fn rejected_events_are_reported<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    let (rejected, code, reason) = R::rejected();
    let chunks = [
        vec![event(0), event(1)],
        vec![event(2), rejected.clone(), event(3), rejected.clone()],
        vec![rejected],
    ];
    let mut reported = deliver(&*tested.sink, &chunks).await;
    reported.sort_by_key(|rejected| (rejected.chunk, rejected.message));
    let places: Vec<_> = reported.iter().map(|rejected| (rejected.chunk, rejected.message)).collect();
    assert_eq!(places, [(1, 1), (1, 3), (2, 0)]);
    for rejected in reported {
        assert_eq!(rejected.code, code);
        assert!(rejected.reason.contains(reason), "{}", rejected.reason);
    }
    assert_eq!(tested.events(), (0..4).map(event).collect::<Vec<_>>());
    assert_eq!(tested.sink.health().problem(), None);
}

pub(crate) async fn refused_connection_is_retried<R: Receiver>() {
    // Bound, and refuses connections until it listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let sink: Arc<dyn EventSink> = Arc::from(open_sink::<R>(port));
    let delivery = tokio::spawn({
        let sink = Arc::clone(&sink);
        async move { deliver(&*sink, &[(0..10).map(event).collect()]).await }
    });
    eventually("a problem", || sink.health().problem().is_some() && sink.health().retries() > 1).await;
    let problem = sink.health().problem().unwrap();
    assert!(problem.contains(&format!("127.0.0.1:{port}: ")) && problem.contains("refused"), "{problem}");
    assert!(!delivery.is_finished());
    let receiver = R::start(socket.listen(64).unwrap(), watch::channel(false).1);
    assert_eq!(delivery.await.unwrap(), []);
    assert_eq!(receiver.received().concat(), (0..10).map(event).collect::<Vec<_>>());
    assert_eq!(sink.health().problem(), None);
}

pub(crate) async fn failure_before_the_receiver_shows_until_a_success<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    let health = tested.sink.health();
    health.record_failure("stage x failed".into(), Duration::from_secs(1));
    assert_eq!((health.problem().as_deref(), health.retries()), (Some("stage x failed"), 1));
    deliver(&*tested.sink, &[vec![event(0)]]).await;
    assert_eq!((health.problem(), health.retries()), (None, 1));
}

pub(crate) async fn cancelled_delivery_can_be_repeated<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    let batch = [(0..2000).map(event).collect::<Vec<_>>()];
    for _ in 0..3 {
        tested.stall.send_replace(true);
        // Some sinks confirm what only the receiver's system has.
        let _ = timeout(Duration::from_millis(100), deliver(&*tested.sink, &batch)).await;
        tested.stall.send_replace(false);
        assert_eq!(deliver(&*tested.sink, &batch).await, []);
    }
    deliver(&*tested.sink, &[vec![event(5000)]]).await;
    let events = tested.events();
    assert_eq!(events.iter().filter(|received| **received == event(5000)).count(), 1);
    let distinct: BTreeSet<_> = events.into_iter().collect();
    assert!(distinct.into_iter().eq((0..2000).chain([5000]).map(event)), "events are lost or damaged");
}

pub(crate) async fn probe_sends_no_event<R: Receiver>() {
    let tested = Tested::<R>::start().await;
    tested.sink.probe("").await.unwrap();
    deliver(&*tested.sink, &[vec![event(0)]]).await;
    assert_eq!(tested.events(), [event(0)]);
}

pub(crate) async fn probe_reports_refused_connection<R: Receiver>() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let sink = open_sink::<R>(socket.local_addr().unwrap().port());
    let error = sink.probe("").await.unwrap_err();
    assert!(matches!(error, SinkError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1") && error.to_string().contains("refused"), "{error}");
}

pub(crate) async fn sink_has_kind_and_name<R: Receiver>(kind: &str) {
    let tested = Tested::<R>::start().await;
    assert_eq!((tested.sink.kind(), tested.sink.name()), (kind, "soc"));
    assert!(!format!("{:?}", tested.sink).contains("secret"));
}

/// Runs the suite against a [`Receiver`] whose sink has this kind.
macro_rules! event_sink_tests {
    ($receiver:ty, $kind:literal) => {
        $crate::event_suite::event_sink_tests!(@ $receiver:
            events_arrive_once_and_in_order concurrent_deliveries_do_not_mix rejected_events_are_reported
            refused_connection_is_retried failure_before_the_receiver_shows_until_a_success
            cancelled_delivery_can_be_repeated probe_sends_no_event probe_reports_refused_connection);

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sink_has_kind_and_name() {
            $crate::event_suite::sink_has_kind_and_name::<$receiver>($kind).await;
        }
    };
    (@ $receiver:ty: $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::event_suite::$test::<$receiver>().await;
            }
        )*
    };
}
pub(crate) use event_sink_tests;
